"""What the VPN port answers to each path and method."""

from __future__ import annotations

import trustme

from anyvpn.errors import BackendFailed
from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import (
    CertificateRequest,
    ClientMessage,
    ClientMessageKind,
    Identity,
    LoginComplete,
    LoginStep,
    LogoutComplete,
)
from anyvpn.model.client_profile import ClientProfile
from anyvpn.model.events import EventKind
from anyvpn.wire.authentication import read_gateway_message, write_client_message
from tests.gateway.backends_in_memory import RIGHT_PASSWORD, ask_password, profile
from tests.gateway.gateway_in_memory import OTHER_HOST, GatewayCase, client_authority, contexts
from tests.gateway.memory_tls import HOST

INIT = ClientMessage(ClientMessageKind.INIT)


class LoginTests(GatewayCase):
    profiles = (profile("Staff"), profile("Guests", "/guests"))

    def test_every_path_takes_a_login(self) -> None:
        for path, group in (
            ("/", "Staff"),
            ("/auth", "Staff"),
            ("/VPN", "Staff"),
            ("/+webvpn+/index.html", "Staff"),
            ("/guests/", "Guests"),
            ("/Guests:4443", "Guests"),
        ):
            step = self.client().post(INIT, path)
            assert isinstance(step, LoginStep)
            assert step.opaque is not None
            self.assertEqual(step.opaque.tunnel_group, group, path)

    def test_its_answers_are_xml_that_nobody_keeps(self) -> None:
        answer = self.client().request("POST", "/", None, write_client_message(INIT))
        self.assertEqual(answer.status_line, "HTTP/1.1 200 OK")
        self.assertEqual(answer.first("Content-Type"), "text/xml; charset=utf-8")
        self.assertEqual(answer.first("X-Transcend-Version"), "1")
        self.assertEqual(answer.first("X-Aggregate-Auth"), "1")
        self.assertEqual(answer.first("Cache-Control"), "no-store")
        self.assertEqual(answer.first("Connection"), "Keep-Alive")
        self.assertTrue(answer.body.startswith(b"<?xml"))

    def test_the_cookie_is_set(self) -> None:
        answer = self.client().request("POST", "/", None, write_client_message(INIT))
        (cookie,) = answer.all("Set-Cookie")
        self.assertRegex(cookie, r"\Awebvpncontext=[0-9a-f]{32}\.1; ")

    def test_the_body_alone_tells_the_version(self) -> None:
        client = self.client()
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = client.request("POST", "/", form, b"\xef\xbb\xbf " + write_client_message(INIT))
        self.assertIn(b"<config-auth", answer.body)
        body = b"group_list=Staff&username=alice&password=" + RIGHT_PASSWORD.encode()
        answer = client.request("POST", "/", {"Content-Type": "application/xml"}, body)
        self.assertIn(b'<auth id="success"', answer.body)
        names = [cookie.partition("=")[0] for cookie in answer.all("Set-Cookie")]
        self.assertEqual(names, ["webvpncontext", "webvpn", "webvpnc", "webvpnc"])

    def test_a_login_goes_on_over_another_connection(self) -> None:
        step = self.client().post(INIT)
        assert isinstance(step, LoginStep)
        answers = {"username": "alice", "password": RIGHT_PASSWORD}
        reply = ClientMessage(ClientMessageKind.REPLY, opaque=step.opaque, answers=answers)
        self.assertIsInstance(self.client().post(reply), LoginComplete)

    def test_the_last_failure_is_401_and_closes(self) -> None:
        client = self.client()
        step = client.post(INIT)
        assert isinstance(step, LoginStep)
        for status in (200, 200, 401):
            answers = {"username": "alice", "password": "wrong"}
            reply = ClientMessage(ClientMessageKind.REPLY, opaque=step.opaque, answers=answers)
            answer = client.request("POST", "/", None, write_client_message(reply))
            self.assertEqual(answer.status, status)
            if status == 200:
                step = read_gateway_message(answer.body)  # type: ignore[assignment]
        self.assertEqual((answer.body, answer.first("Connection")), (b"", "close"))
        self.assertTrue(client.tls.is_closed)

    def test_the_certificate_hash_is_of_the_certificate_that_was_shown(self) -> None:
        for name in (HOST, OTHER_HOST):
            client = self.client(server_name=name)
            shown = client.tls.tls.get_peer_certificate()
            assert shown is not None
            step = client.post(INIT)
            assert isinstance(step, LoginStep)
            answers = {"username": "alice", "password": RIGHT_PASSWORD}
            reply = ClientMessage(ClientMessageKind.REPLY, opaque=step.opaque, answers=answers)
            complete = client.post(reply)
            assert isinstance(complete, LoginComplete)
            digest = shown.digest("sha1").replace(b":", b"").decode()
            self.assertEqual(complete.server_cert_hash, digest)
        self.assertNotEqual(
            contexts().certificate_hash(HOST), contexts().certificate_hash(OTHER_HOST)
        )


async def ask_certificate(dialogue: IDialogue) -> Identity:
    """A certificate, or else a password."""
    chain = dialogue.request.certificates or await dialogue.ask(CertificateRequest())
    return Identity("by certificate") if chain else await ask_password(dialogue)


class ClientCertificateTests(GatewayCase):
    client_certificates = True
    profiles = (profile("Staff", script=ask_certificate),)

    def test_the_next_connection_brings_it(self) -> None:
        first = self.client()
        answer = first.request("POST", "/", None, write_client_message(INIT))
        step = read_gateway_message(answer.body)
        assert isinstance(step, LoginStep)
        self.assertIsInstance(step.step, CertificateRequest)
        cookie = answer.first("Set-Cookie").partition(";")[0]
        second = self.client(certificate=client_authority().issue_cert("alice"))
        answer = second.request("POST", "/", {"Cookie": cookie}, write_client_message(INIT))
        self.assertIsInstance(read_gateway_message(answer.body), LoginComplete)
        self.assertEqual(len(self.listener.of(EventKind.LOGIN_STARTED)), 1)

    def test_one_that_is_not_accepted_is_none_and_is_noted(self) -> None:
        client = self.client(certificate=trustme.CA().issue_cert("mallory"))
        step = client.post(INIT)
        assert isinstance(step, LoginStep)
        self.assertIsInstance(step.step, CertificateRequest)
        self.assertIn("unknown", self.details(EventKind.LOGIN_STARTED)[0])


class OldClientTests(GatewayCase):
    def test_a_get_of_a_client_begins_a_login(self) -> None:
        for headers in (
            {"User-Agent": "Open AnyConnect VPN Agent v9.01-3"},
            {"User-Agent": "Cisco AnyConnect VPN Agent for Windows 3.1"},
            {"User-Agent": "curl", "X-Transcend-Version": "1"},
        ):
            for path in ("/", "/+webvpn+/index.html", "/+CSCOE+/logon.html"):
                answer = self.client().request("GET", path, headers)
                self.assertEqual(answer.first("Content-Type"), "text/xml; charset=utf-8")
                self.assertIn(b'<auth id="main"', answer.body)

    def test_a_browser_gets_a_page(self) -> None:
        answer = self.client().request("GET", "/", {"User-Agent": "Mozilla/5.0"})
        self.assertEqual(answer.first("Content-Type"), "text/html; charset=utf-8")
        self.assertIn(b"https://vpn.example.com:4443/", answer.body)
        self.assertEqual(self.listener.of(EventKind.LOGIN_STARTED), [])

    def test_the_page_escapes_what_came(self) -> None:
        headers = {"User-Agent": "Mozilla/5.0", "Host": '"><script>alert(1)</script>'}
        answer = self.client().request("GET", "/", headers)
        self.assertEqual(answer.status, 200)
        self.assertNotIn(b"<script", answer.body)
        self.assertIn(b"&lt;script&gt;", answer.body)

    def test_head_has_no_body(self) -> None:
        answer = self.client().request("HEAD", "/", {"User-Agent": "Mozilla/5.0"})
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertGreater(int(answer.first("Content-Length")), 100)


class DownloadTests(GatewayCase):
    PROFILE = ClientProfile("office.xml", b"<AnyConnectProfile/>\r\n\x00\xff")

    def setUp(self) -> None:
        super().setUp()
        self.client_profiles.profiles = (self.PROFILE, ClientProfile("more.xml", b"<more/>"))
        self.token = self.client().log_in()

    def test_software_is_never_newer(self) -> None:
        manifest = b'<?xml version="1.0" encoding="UTF-8"?>\n<vpn rev="1.0"></vpn>\n'
        script = b"#!/bin/sh\n\nexit 0\n"
        for tree in ("/1/", "/CACHE/stc/1/"):
            for name, kind, body in (
                ("index.html", "text/html", b"<html></html>\n"),
                ("Linux_64", "text/html", b"<html></html>\n"),
                ("Windows", "text/html", b"<html></html>\n"),
                ("VPNManifest.xml", "text/xml", manifest),
                ("binaries/update.txt", "text/xml", b"0,0,0000\n"),
                ("binaries/vpndownloader.sh", "application/x-shellscript", script),
            ):
                answer = self.client().get(tree + name)
                self.assertEqual((answer.status, answer.body), (200, body), tree + name)
                self.assertEqual(answer.first("Content-Type"), kind)
        for path in ("/+CSCOT+/translation-table?textdomain=x", "/+CSCOT+/oem-customization?app=y"):
            self.assertEqual(self.client().get(path).body, manifest)

    def test_a_profile_is_sent_to_the_byte(self) -> None:
        for path in (
            "/CACHE/stc/profiles/office.xml",
            "/profiles/office.xml",
            "/profiles%2Foffice.xml:4443",
        ):
            answer = self.client().get(path, webvpn=self.token)
            self.assertEqual((answer.status, answer.body), (200, self.PROFILE.content), path)
            self.assertEqual(answer.first("Content-Type"), "text/xml")
            self.assertEqual(answer.first("Content-Length"), str(len(self.PROFILE.content)))
        events = self.listener.of(EventKind.PROFILE_SENT)
        self.assertEqual(len(events), 3)
        self.assertEqual(events[0].user, "alice")
        self.assertEqual(events[0].detail, f"office.xml SHA-1 {self.PROFILE.sha1}")
        self.assertTrue(events[0].session_id)

    def test_a_profile_needs_a_token(self) -> None:
        for token in ("", "wrong", self.token + "x"):
            client = self.client()
            answer = client.get("/profiles/office.xml", webvpn=token)
            self.assertEqual((answer.status, answer.body), (401, b""))
            self.assertTrue(client.tls.is_closed)
        self.assertEqual(self.listener.of(EventKind.PROFILE_SENT), [])

    def test_a_profile_that_is_not_the_users_is_not_there(self) -> None:
        for name in ("other.xml", "", "office.xml/", "OFFICE.XML"):
            answer = self.client().get(f"/profiles/{name}", webvpn=self.token)
            self.assertEqual(answer.status, 404, name)

    def test_a_profile_that_cannot_be_read_is_503(self) -> None:
        self.client_profiles.error = BackendFailed("permission denied")
        answer = self.client().get("/profiles/office.xml", webvpn=self.token)
        self.assertEqual((answer.status, answer.body), (503, b""))
        (refusal,) = self.details(EventKind.REQUEST_REFUSED)
        self.assertIn("permission denied", refusal)

    def test_a_session_store_that_is_down_is_503(self) -> None:
        async def fail(digest: bytes) -> None:
            raise BackendFailed("the disk is gone")

        self.store.find = fail  # type: ignore[method-assign]
        for path in ("/profiles/office.xml", "/logout"):
            answer = self.client().get(path, webvpn="unknown")
            self.assertEqual((answer.status, answer.body), (503, b""), path)
        self.assertIn("the disk is gone", self.details(EventKind.REQUEST_REFUSED)[0])


class LogoutTests(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.token = self.client().log_in()

    def assert_logged_out(self, body: bytes) -> None:
        self.assertIsInstance(read_gateway_message(body), LogoutComplete)
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["logged out"])
        self.assertEqual(self.client().open_tunnel(self.token).status, 401)

    def test_a_document_with_the_token_logs_out(self) -> None:
        logout = ClientMessage(ClientMessageKind.LOGOUT, session_token=self.token)
        answer = self.client().request("POST", "/any", None, write_client_message(logout))
        self.assert_logged_out(answer.body)
        (cookie,) = answer.all("Set-Cookie")
        self.assertTrue(cookie.startswith("webvpn=; expires="))

    def test_a_document_with_the_cookie_logs_out(self) -> None:
        logout = write_client_message(ClientMessage(ClientMessageKind.LOGOUT))
        cookie = {"Cookie": f"webvpn={self.token}"}
        self.assert_logged_out(self.client().request("POST", "/", cookie, logout).body)

    def test_a_get_with_the_cookie_logs_out(self) -> None:
        self.assert_logged_out(self.client().get("/logout", webvpn=self.token).body)

    def test_the_old_page_logs_out(self) -> None:
        answer = self.client().get("/+webvpn+/webvpn_logout.html", webvpn=self.token)
        self.assert_logged_out(answer.body)

    def test_whoever_is_not_logged_in_gets_the_same_answer(self) -> None:
        right = self.client().get("/logout", webvpn=self.token)
        for token in (self.token, "wrong", ""):
            self.assertEqual(self.client().get("/logout", webvpn=token), right)
        self.assertEqual(len(self.listener.of(EventKind.SESSION_ENDED)), 1)


class RefusalTests(GatewayCase):
    def assert_refused(self, status: int, method: str, target: str, body: bytes = b"") -> None:
        client = self.client()
        answer = client.request(method, target, None, body)
        self.assertEqual((answer.status, answer.body), (status, b""))
        self.assertTrue(client.tls.is_closed)
        self.assertEqual(len(self.listener.of(EventKind.REQUEST_REFUSED)), 1)
        self.assertEqual(self.listener.of(EventKind.REQUEST_REFUSED)[0].peer, "192.0.2.1")

    def test_documents_that_cannot_be_read_are_400(self) -> None:
        for body in (
            b"<config-auth",
            b"<!DOCTYPE x [<!ENTITY e 'v'>]><config-auth/>",
            b"<html/>",
            b"<config-auth type='other'/>",
            b"\xff\xfe",
            b"a=1&" * 500,
        ):
            with self.subTest(body=body[:20]):
                self.listener.events.clear()
                self.assert_refused(400, "POST", "/", body)

    def test_paths_that_cannot_be_read_are_400(self) -> None:
        for path in ("/../etc/passwd", "/%2e%2e/x", "/%zz", "/%ff", "/a%00b", "*"):
            with self.subTest(path=path):
                self.listener.events.clear()
                self.assert_refused(400, "GET", path)

    def test_too_many_cookies_are_400(self) -> None:
        cookie = "; ".join(f"c{number}=1" for number in range(100))
        self.assertEqual(self.client().request("GET", "/", {"Cookie": cookie}).status, 400)

    def test_unknown_paths_are_404(self) -> None:
        client = self.client()
        for path in ("/robots.txt", "/1/other", "/CSCOSSLC/tunnel", "/profile", "/.git/config"):
            self.assertEqual(client.get(path).status, 404, path)
        self.assertFalse(client.tls.is_closed)

    def test_other_methods_are_405(self) -> None:
        for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
            with self.subTest(method=method):
                self.listener.events.clear()
                self.assert_refused(405, method, "/")

    def test_the_gateway_is_no_proxy(self) -> None:
        for target in ("example.com:443", "/CSCOSSLC/tunnel/", "/", "/cscosslc/tunnel"):
            with self.subTest(target=target):
                self.listener.events.clear()
                self.assert_refused(404, "CONNECT", target)

    def test_a_body_that_is_too_large_is_413(self) -> None:
        client = self.client()
        answer = client.request("POST", "/", {"Content-Length": "999999999"})
        self.assertEqual(answer.status, 413)
        self.assertTrue(client.tls.is_closed)
