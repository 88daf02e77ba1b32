"""Our client against gateways that lie, stall, flood and break off, over real TLS on loopback.

Each attack ends in one clear error, in time, and leaves no socket, timer or adapter.
"""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from anyvpn.client.trust import TrustSettings
from anyvpn.errors import (
    GatewayUnreachable,
    GatewayUntrusted,
    LoginDenied,
    MalformedMessage,
    MessageTooLarge,
    PeerError,
    ProfileUnavailable,
    TunnelRefused,
)
from anyvpn.model.authentication import Form, LoginStep, Manifest
from anyvpn.testing.scripted_answers import (
    Ending,
    ScriptedAnswer,
    announce,
    changing_certificate,
    cut,
    document,
    endlessly,
    form,
    grant,
    head,
    page,
    raw,
    redirect,
    refusal,
    slowly,
    success,
)
from anyvpn.testing.scripted_gateway import ScriptedStep, connect, get, post
from tests.interop.hostile_case import ASK, SHORT, SHORT_S, HostileCase, asynchronous

OK = "HTTP/1.1 200 OK"
CHUNKED = head(OK, ("Transfer-Encoding", "chunked"))
IN = post("/auth", success())
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE bomb [<!ENTITY a "boom">'
    + b"".join(
        b'<!ENTITY %c "%s">' % (name, b"&%c;" % (name - 1) * 10)
        for name in range(ord("b"), ord("k"))
    )
    + b"]><config-auth><auth><message>&j;</message></auth></config-auth>"
)


def then(answer: ScriptedAnswer) -> list[ScriptedStep]:
    """The form as usual; this answers the password."""
    return [ASK, post("/auth", answer)]


class FloodTests(HostileCase):
    @asynchronous
    async def test_heads_that_are_too_long(self) -> None:
        for answer in (
            endlessly(head(OK)[:-2], b"X-More: " + b"a" * 1000 + b"\r\n"),
            endlessly(head(OK)[:-2] + b"X-Long: ", b"a" * 4096),
            endlessly(b"HTTP/1.1 200 ", b"O" * 4096),
            endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
            endlessly(b"", b"\0" * 4096),
            page(b"", *[(f"X-{number}", "a" * 100) for number in range(10_000)]),
        ):
            error = await self.error_at(*then(answer))
            assert isinstance(error, PeerError)

    @asynchronous
    async def test_bodies_that_are_too_long(self) -> None:
        for answer in (
            endlessly(head(OK), b"a" * 4096),
            endlessly(head(OK, ("Content-Length", str(10**15))), b"a" * 4096),
            endlessly(CHUNKED, b"1000\r\n" + b"a" * 4096 + b"\r\n"),
            endlessly(CHUNKED + b"1;", b"a" * 4096),
            endlessly(CHUNKED + b"0\r\n", b"X-Trailer: a\r\n" * 100),
            page(b"a" * 1_000_000),
        ):
            error = await self.error_at(*then(answer))
            assert isinstance(error, PeerError), error

    @asynchronous
    async def test_the_first_answer_is_asked_for_in_both_versions_and_no_more(self) -> None:
        flood = endlessly(head(OK), b"a" * 4096)
        error = await self.error_at(post("/", flood), get("/", flood))
        assert isinstance(error, MessageTooLarge)

    @asynchronous
    async def test_a_bomb_of_entities_does_not_go_off(self) -> None:
        for body in (BOMB, b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', b"<a>" * 50_000):
            error = await self.error_at(*then(page(body)))
            assert isinstance(error, MalformedMessage | MessageTooLarge)

    @asynchronous
    async def test_a_form_that_is_asked_for_ever(self) -> None:
        """One without fields needs no user who would lose patience."""
        again = post("/", document(LoginStep(Form("Go on", ()))))
        error = await self.error_at(*[again] * 65)
        assert "more than 64 steps" in str(error)


class NoHTTPTests(HostileCase):
    @asynchronous
    async def test_answers_that_contradict_themselves(self) -> None:
        for answer in (
            raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
            raw(head(OK, ("Content-Length", "-1")) + b"a"),
            raw(head(OK, ("Content-Length", "1"), ("Content-Length", "2")) + b"ab"),
            raw(head(OK, ("Content-Length", "9" * 5000))),
            raw(head("HTTP/9.9 200 OK")),
            raw(head("HTTP/1.1 99999 OK")),
            raw(head(OK, ("Bad Name", "a"))),
            raw(CHUNKED + b"zz\r\n"),
            raw(CHUNKED + b"-5\r\nabcde\r\n"),
            page(b"\x1f\x8b\x08\x00gzip", ("Content-Encoding", "gzip")),
            page(b"\xff\xfe<\0a\0/\0>\0"),
            page(b""),
        ):
            error = await self.error_at(*then(answer))
            assert isinstance(error, PeerError | GatewayUnreachable), error

    @asynchronous
    async def test_an_answer_that_nobody_asked_for_ends_the_connection(self) -> None:
        answer = form("username", "password")
        twice = raw(answer.data + success(token="smuggled").data, Ending.KEEP)
        gateway = await self.gateway(post("/", twice), IN, connect(grant()))
        error = await self.error_of(gateway, all_steps=False)
        assert isinstance(error, PeerError | GatewayUnreachable)
        assert all(b"smuggled" not in each.body for each in gateway.requests)


class StallTests(HostileCase):
    async def stall(self, *steps: ScriptedStep) -> None:
        error = await self.error_at(*steps, **SHORT)
        assert isinstance(error, GatewayUnreachable)
        assert f"within {SHORT_S:g} s" in str(error)

    @asynchronous
    async def test_slow_answers_have_a_limit_as_a_whole(self) -> None:
        await self.stall(post("/", slowly(form(), pause_s=0.02)))
        await self.stall(*then(slowly(success(), pause_s=0.02)))
        await self.stall(ASK, IN, connect(slowly(grant(), pause_s=0.02)))

    @asynchronous
    async def test_answers_that_stop_are_not_waited_for(self) -> None:
        await self.stall(*then(cut(success(), after_bytes=30, ending=Ending.HANG)))
        await self.stall(*then(cut(success(), after_bytes=0, ending=Ending.HANG)))
        await self.stall(ASK, IN, connect(cut(grant(), after_bytes=0, ending=Ending.HANG)))

    @asynchronous
    async def test_a_server_that_never_says_a_word_of_tls(self) -> None:
        factory = Factory.forProtocol(Protocol)
        silent = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[arg-type]  # it is one for servers, too
        self.addCleanup(silent.stopListening)
        gateway = await self.gateway()
        client = self.client(gateway, **SHORT)
        client.url = type(client.url)("127.0.0.1", silent.getHost().port)  # type: ignore[attr-defined]  # TCP has ports
        with pytest.raises(GatewayUnreachable, match="TLS handshake failed"):
            await client.connect()

    @asynchronous
    async def test_connections_that_break_within_an_answer(self) -> None:
        length = len(form().data)
        for ending in (Ending.CUT, Ending.CLOSE, Ending.RESET):
            for after_bytes in (1, 100, length - 1):
                broken = cut(form("username", "password"), after_bytes=after_bytes, ending=ending)
                error = await self.error_at(post("/", broken))
                assert isinstance(error, GatewayUnreachable), (ending, after_bytes, error)

    @asynchronous
    async def test_a_request_without_an_answer_is_sent_again_once(self) -> None:
        for ending in (Ending.CUT, Ending.CLOSE, Ending.RESET):
            nothing = cut(page(), after_bytes=0, ending=ending)
            gateway = await self.gateway(*then(nothing), post("/auth", nothing))
            error = await self.error_of(gateway)
            assert isinstance(error, GatewayUnreachable)
            assert gateway.connections_made == 2

    @asynchronous
    async def test_connections_that_break_instead_of_a_tunnel(self) -> None:
        for ending in (Ending.CUT, Ending.CLOSE, Ending.RESET):
            broken = cut(grant(), after_bytes=50, ending=ending)
            gateway = await self.gateway(ASK, IN, connect(broken), connect(broken))
            error = await self.error_of(gateway, all_steps=False)  # a reset may come too soon
            assert isinstance(error, GatewayUnreachable)
        assert self.adapters.adapters == []


class RedirectTests(HostileCase):
    @asynchronous
    async def test_a_loop_has_an_end(self) -> None:
        steps = [post("/", redirect("/")), *[get("/", redirect("/"))] * 11]
        error = await self.error_at(*steps)
        assert "redirects more than 10 times" in str(error)

    @asynchronous
    async def test_nowhere_but_to_https(self) -> None:
        for location in (
            "http://127.0.0.1/",
            "ftp://127.0.0.1/",
            "javascript:alert(1)",
            "https://user:password@127.0.0.1/",
            "https:///",
            "https://127.0.0.1:99999/",
            "https://" + "a" * 3000,
            "//[",
            "",
        ):
            gateway = await self.gateway(post("/", redirect(location)))
            error = await self.error_of(gateway, protocol_version=2)
            assert isinstance(error, PeerError)
            assert gateway.connections_made == 1

    @asynchronous
    async def test_another_host_gets_no_cookies(self) -> None:
        other = await self.gateway(
            post("/group", form("username", "password")),
            IN,
            connect(page(status=503)),
            names=("other.test",),
        )
        there = f"other.test:{other.port}"
        first = await self.gateway(
            post(
                "/",
                redirect(
                    f"https://{there}/group", ("Set-Cookie", "webvpnlogin=of-the-first; Secure")
                ),
            )
        )
        error = await self.error_of(first, other, resolve={"other.test": "127.0.0.1"})
        assert isinstance(error, TunnelRefused)
        assert len(first.requests) == 1
        assert not [each for each in other.requests if "of-the-first" in each.header("Cookie")]
        assert other.requests[0].header("Host") == there

    @asynchronous
    async def test_a_form_may_not_post_passwords_in_the_clear(self) -> None:
        asks = form("username", "password", action="http://127.0.0.1/auth")
        gateway = await self.gateway(post("/", asks))
        assert isinstance(await self.error_of(gateway), MalformedMessage)
        assert len(gateway.requests) == 1

    @asynchronous
    async def test_no_redirect_in_the_middle_of_a_login(self) -> None:
        error = await self.error_at(*then(redirect("https://127.0.0.1:1/")))
        assert "in the middle of a login" in str(error)


class CertificateTests(HostileCase):
    @asynchronous
    async def test_a_key_that_changes_gets_neither_password_nor_token(self) -> None:
        profile = announce("/profile.xml", b"<a/>")
        for steps in (
            [post("/", changing_certificate(form("username", "password")))],
            [ASK, post("/auth", changing_certificate(success()))],
            [ASK, post("/auth", changing_certificate(success(profile)))],
        ):
            gateway = await self.gateway(*steps)
            error = await self.error_of(gateway)
            assert isinstance(error, GatewayUntrusted)
            assert "another certificate than at the login" in str(error)
            assert error.pin == gateway.other_pin
            assert gateway.connections_made == 2
            assert len(gateway.requests) == len(steps)

    @asynchronous
    async def test_an_authority_that_has_signed_both_changes_nothing(self) -> None:
        gateway = await self.gateway(ASK, post("/auth", changing_certificate(success())))
        file = self.directory / "ca.pem"
        file.write_bytes(gateway.authority_pem)
        error = await self.error_of(gateway, trust=TrustSettings(file, system_trust=False))
        assert isinstance(error, GatewayUntrusted)

    @asynchronous
    async def test_an_unknown_gateway_hears_nothing(self) -> None:
        gateway = await self.gateway()
        error = await self.error_of(gateway, trust=TrustSettings(system_trust=False))
        assert isinstance(error, GatewayUntrusted)
        assert error.pin == gateway.pin
        assert gateway.requests == []


class ProfileTests(HostileCase):
    async def refuse(self, manifest: Manifest, *downloads: ScriptedStep, **changes: object) -> str:
        """Why there is no connection; nothing is on the disk."""
        error = await self.error_at(ASK, post("/auth", success(manifest)), *downloads, **changes)
        assert isinstance(error, ProfileUnavailable), repr(error)
        assert [each for each in self.directory.rglob("*") if each.is_file()] == []
        return str(error)

    @asynchronous
    async def test_what_was_not_announced_is_not_kept(self) -> None:
        manifest = announce("/profile.xml", b"<announced/>")
        text = await self.refuse(manifest, get("/profile.xml", page(b"<another/>")))
        assert "not the one that was announced" in text
        await self.refuse(Manifest("/profile.xml", ""), get("/profile.xml", page(b"<a/>")))
        await self.refuse(manifest, get("/profile.xml", page(status=404)))
        await self.refuse(manifest, get("/profile.xml", redirect("/other.xml")))

    @asynchronous
    async def test_floods_and_stalls_end_here_too(self) -> None:
        manifest = announce("/profile.xml", b"<announced/>")
        for answer in (
            endlessly(head(OK), b"a" * 4096),
            slowly(page(b"<announced/>"), pause_s=0.02),
            cut(page(b"<announced/>"), after_bytes=50),
        ):
            await self.refuse(manifest, get("/profile.xml", answer), **SHORT)

    @asynchronous
    async def test_only_the_gateway_itself_is_asked_for_harmless_names(self) -> None:
        for path in ("https://127.0.0.1:1/profile.xml", "http://127.0.0.1/profile.xml"):
            await self.refuse(announce(path, b"<a/>"))
        for path in ("/.profile", "/a%2f..%2f..%2fprofile.xml", "/" + "a" * 300, "/a%00b.xml"):
            await self.refuse(announce(path, b"<a/>"))


class GrantTests(HostileCase):
    @asynchronous
    async def test_a_grant_that_cannot_be_makes_no_adapter(self) -> None:
        for headers, without in (
            ([("X-CSTP-Address", "not an address")], []),
            ([("X-CSTP-Address", "192.0.2.1"), ("X-CSTP-Address", "192.0.2.1/24; rm")], []),
            ([("X-CSTP-Address", "0.0.0.0")], []),
            ([("X-CSTP-Address", "127.0.0.1")], []),
            ([("X-CSTP-Address", "224.0.0.1")], []),
            ([("X-CSTP-Netmask", "255.0.255.0")], []),
            ([], ["X-CSTP-Address"]),
            ([], ["X-CSTP-MTU"]),
            ([("X-CSTP-MTU", "0")], []),
            ([("X-CSTP-MTU", "-1400")], []),
            ([("X-CSTP-MTU", "10")], []),
            ([("X-CSTP-MTU", "9" * 100)], []),
            ([("X-CSTP-MTU", "１４００")], []),
            ([("X-CSTP-Split-Include", "192.0.2.0/255.0.255.0")], []),
            ([("X-CSTP-Split-Include", "everything")], []),
            ([("X-CSTP-Split-Exclude", "10.0.0.0/99")], []),
            ([("X-CSTP-Split-Include", f"10.{n >> 8}.{n & 255}.0/24") for n in range(2100)], []),
            ([("X-CSTP-Content-Encoding", "oc-lz4")], []),
            ([("X-CSTP-Address-IP6", "fe80::1%eth0/64")], []),
        ):
            error = await self.error_at(ASK, IN, connect(grant(*headers, without=without)))
            assert isinstance(error, PeerError), (headers, error)
        assert self.adapters.adapters == []

    @asynchronous
    async def test_a_grant_without_an_end(self) -> None:
        start = grant().data[:-2]
        error = await self.error_at(
            ASK, IN, connect(endlessly(start, b"X-CSTP-DNS: 192.0.2.53\r\n" * 50))
        )
        assert isinstance(error, PeerError)


class TextTests(HostileCase):
    @asynchronous
    async def test_errors_do_not_steer_a_terminal(self) -> None:
        evil = "No\x1b]0;owned\x07\x9b31m\u202eway"
        for steps, kind in (
            (then(page(b"", ("X-Reason", evil), status=401)), LoginDenied),
            (then(page(b"", status=403, reason=evil)), LoginDenied),
            (then(page(b"", status=503, reason=evil)), GatewayUnreachable),
            (then(refusal("No\x9b31m\u202e way\nroot@host# ")), LoginDenied),
            (then(form("password", error="No\x9b31m\u202e way")), LoginDenied),
            (then(redirect(f"http://{evil}/")), PeerError),
            ([ASK, IN, connect(page(b"", ("X-Reason", evil), status=503))], TunnelRefused),
            ([ASK, IN, connect(page(b"", status=503, reason=evil))], TunnelRefused),
            ([ASK, IN, connect(grant(("X-CSTP-Address", evil)))], PeerError),
        ):
            error = await self.error_at(*steps)
            assert isinstance(error, kind), repr(error)
