"""Tests of the radius authenticator against servers that are down, wrong or hostile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyrad.packet import AuthPacket
from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import TestCase

from anyvpn.backends import radius_packets as packets
from anyvpn.backends.authenticator_radius import RadiusAuthenticator, Settings, build
from anyvpn.backends.radius_settings import ServerSettings
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator
from anyvpn.model.authentication import Answer, Identity
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from tests.backends.hostile_credentials import HostileCredentials

HOST = "127.0.0.1"
SECRET = b"radius-secret"
ALICE = {"username": "alice", "password": "s3cret-pässword"}

Answering = Callable[[Any], "list[bytes]"]


class Server(DatagramProtocol):
    """Answers each request with whatever a test wants, and keeps the requests."""

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def datagramReceived(self, datagram: bytes, source: Any) -> None:
        request = AuthPacket(packet=datagram, secret=SECRET, dict=packets.DICTIONARY)
        self.asked.append(request)
        for each in self.answer(request):
            self.transport.write(each, source)  # type: ignore[union-attr]  # it listens


def reply(
    code: int, *, secret: bytes = SECRET, signed: bool = True, **attributes: Any
) -> Answering:
    def answer(request: Any) -> list[bytes]:
        made = request.CreateReply(
            message_authenticator=signed,
            **{name.replace("_", "-"): value for name, value in attributes.items()},
        )
        made.code = code
        made.secret = secret
        return [made.ReplyPacket()]

    return answer


ACCEPT = reply(packets.ACCESS_ACCEPT)


def accept_alice(request: Any) -> list[bytes]:
    is_right = (
        request["User-Name"] == [ALICE["username"]]
        and request.PwDecrypt(request["User-Password"][0]) == ALICE["password"]
    )
    return (ACCEPT if is_right else reply(packets.ACCESS_REJECT))(request)


class RadiusCase(TestCase):
    def serve(self, answer: Answering) -> tuple[ServerSettings, Server]:
        server = Server(answer)
        port = reactor.listenUDP(0, server, interface=HOST)  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return self.at(port.getHost().port), server

    def at(self, port: int) -> ServerSettings:
        secret = Path(self.mktemp())
        secret.write_bytes(SECRET + b"\n")
        return ServerSettings(HOST, secret, port)

    def make(self, *servers: ServerSettings, **changes: Any) -> RadiusAuthenticator:
        own = {"tries": 2, "time_s": 0.05, **changes}
        return build(Settings(servers, **own), reactor)

    async def login(
        self, answer: Answering, *answers: Answer, **changes: Any
    ) -> tuple[Identity, Server]:
        settings, server = self.serve(answer)
        dialogue = ScriptedDialogue(answers=(ALICE, *answers))
        return await self.make(settings, **changes).authenticate(dialogue), server

    async def failure(self, answer: Answering, **changes: Any) -> str:
        return str(await error_of(self.login(answer, **changes), BackendFailed))


class ContractTests(RadiusCase, HostileCredentials, AuthenticatorContract):
    def make_authenticator(self) -> IAuthenticator:
        return self.make(self.serve(accept_alice)[0])

    def right_answers(self) -> tuple[Answer, ...]:
        return (ALICE,)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return ({**ALICE, "password": "wrong-one"},)


class RequestTests(RadiusCase):
    async def test_a_request_says_who_asks_and_from_where(self) -> None:
        _, server = await self.login(ACCEPT, nas_identifier="vpn1")
        [asked] = server.asked
        assert asked["NAS-Identifier"] == ["vpn1"]
        assert asked["Calling-Station-Id"] == ["192.0.2.7"]
        assert asked["NAS-Port-Type"] == [packets.VIRTUAL_PORT]
        assert asked.verify_message_authenticator()
        assert next(iter(asked)) == 80, "the Message-Authenticator comes first"
        assert b"s3cret" not in asked.raw_packet

    async def test_what_does_not_fit_is_refused_before_anybody_is_asked(self) -> None:
        settings, server = self.serve(ACCEPT)
        for change in ({"password": "é" * 65}, {"username": "x" * 254}):
            dialogue = ScriptedDialogue(answers=({**ALICE, **change},))
            await error_of(self.make(settings).authenticate(dialogue), LoginRejected)
        assert not server.asked

    async def test_a_lost_datagram_is_sent_again_as_it_was(self) -> None:
        seen: list[bytes] = []

        def second_time(request: Any) -> list[bytes]:
            seen.append(request.raw_packet)
            return ACCEPT(request) if len(seen) == 2 else []

        await self.login(second_time)
        assert seen[0] == seen[1]


class AnswerTests(RadiusCase):
    async def test_reply_attributes_are_kept_as_texts(self) -> None:
        identity, _ = await self.login(
            reply(
                packets.ACCESS_ACCEPT,
                Framed_IP_Address="10.0.0.9",
                Session_Timeout=60,
                Class=b"\xff\x00",
                Framed_IPv6_Address="fd00::9",
                Cisco_AVPair="ip:inacl#1=permit ip any any",
                ASA_Banner1="hello",
            )
        )
        assert identity.attributes == {
            "Framed-IP-Address": ("10.0.0.9",),
            "Session-Timeout": ("60",),
            "Class": ("0xff00",),
            "Framed-IPv6-Address": ("fd00::9",),
            "Cisco-AVPair": ("ip:inacl#1=permit ip any any",),
            "ASA-Banner1": ("hello",),
        }

    async def test_no_line_of_a_long_list_is_left_out(self) -> None:
        lines = [f"ip:inacl#{number}=deny ip any any" for number in range(110)]
        identity, _ = await self.login(reply(packets.ACCESS_ACCEPT, Cisco_AVPair=lines))
        assert identity.attributes["Cisco-AVPair"] == tuple(lines)

    async def test_groups_are_an_attribute_of_choice(self) -> None:
        given = {"Class": b"OU=staff;", "Filter_Id": "lab"}
        answer = reply(packets.ACCESS_ACCEPT, **given)
        for name, groups in (("Class", {"staff"}), ("Filter-Id", {"lab"}), ("", set())):
            identity, _ = await self.login(answer, groups_attribute=name)
            assert identity.groups == groups

    async def test_rejections_are_told_with_the_servers_words(self) -> None:
        answer = reply(packets.ACCESS_REJECT, Reply_Message="go\x1b away")
        error = await error_of(self.login(answer), LoginRejected)
        assert str(error) == "the RADIUS server rejects it: go? away"

    async def test_challenges_go_on_until_there_is_a_verdict(self) -> None:
        def three_rounds(request: Any) -> list[bytes]:
            state = request.get("State", [b"0"])[0]
            if state == b"3":
                return accept_alice(request) and ACCEPT(request)
            number = str(int(state) + 1)
            return reply(
                packets.ACCESS_CHALLENGE, State=number.encode(), Reply_Message=f"round {number}"
            )(request)

        answers = tuple({"answer": str(each)} for each in range(3))
        identity, server = await self.login(three_rounds, *answers)
        assert identity.user == "alice"
        given = [each.PwDecrypt(each["User-Password"][0]) for each in server.asked]
        assert given == [ALICE["password"], "0", "1", "2"]

    async def test_challenges_without_end_have_one(self) -> None:
        answer = reply(packets.ACCESS_CHALLENGE, State=b"x")
        answers = ({"answer": "1"},) * 20
        error = await error_of(self.login(answer, *answers), LoginRejected)
        assert "more than 10 answers" in str(error)

    async def test_mschap_without_a_proof_of_the_server_is_refused(self) -> None:
        error = await error_of(self.login(ACCEPT, method="mschapv2"), LoginRejected)
        assert "does not prove" in str(error)

    async def test_an_expired_password_is_told(self) -> None:
        answer = reply(packets.ACCESS_REJECT, MS_CHAP_Error="\x01E=648 R=0 V=3")
        error = await error_of(self.login(answer, method="mschapv2"), LoginRejected)
        assert str(error) == "the password has expired"

    async def test_other_codes_are_no_verdict(self) -> None:
        assert "answers with code 5" in await self.failure(reply(5))


class HostileTests(RadiusCase):
    async def test_answers_by_others_are_none(self) -> None:
        hostile: dict[str, Answering] = {
            "another secret": reply(packets.ACCESS_ACCEPT, secret=b"another"),
            "cut": lambda request: [ACCEPT(request)[0][:-1]],
            "rubbish": lambda request: [b"", b"\x02", b"\xff" * 4096, bytes(5000)],
            "another's": lambda request: [bytes([2, request.id ^ 1]) + ACCEPT(request)[0][2:]],
        }
        for name, answer in hostile.items():
            with self.subTest(name):
                assert "do not fit the secret" in await self.failure(answer)

    async def test_answers_that_are_not_signed_are_told_with_what_to_do(self) -> None:
        said = await self.failure(reply(packets.ACCESS_ACCEPT, signed=False))
        assert "update the server, or set require_message_authenticator = false" in said

    async def test_a_forged_answer_before_the_true_one_does_no_harm(self) -> None:
        def both(request: Any) -> list[bytes]:
            return reply(packets.ACCESS_ACCEPT, secret=b"another")(request) + reply(
                packets.ACCESS_REJECT
            )(request)

        await error_of(self.login(both), LoginRejected)

    async def test_old_servers_may_be_believed(self) -> None:
        answer = reply(packets.ACCESS_ACCEPT, signed=False)
        identity, _ = await self.login(answer, require_message_authenticator=False)
        assert identity.user == "alice"


class ServersTests(RadiusCase):
    async def down(self) -> ServerSettings:
        port = reactor.listenUDP(0, DatagramProtocol(), interface=HOST)  # type: ignore[attr-defined]
        settings = self.at(port.getHost().port)
        await port.stopListening()
        return settings

    async def test_the_next_server_is_asked_and_stays_the_first(self) -> None:
        silent, first = self.serve(lambda _: [])
        good, second = self.serve(ACCEPT)
        made = self.make(silent, good)
        for _ in range(2):
            await made.authenticate(ScriptedDialogue(answers=(ALICE,)))
        assert (len(first.asked), len(second.asked)) == (2, 2)

    async def test_whoever_asks_a_question_gets_the_answer(self) -> None:
        """Another server knows nothing of it, even one that works again meanwhile."""
        first, down = self.serve(lambda _: [])
        question = reply(packets.ACCESS_CHALLENGE, State=b"7", Reply_Message="Code?")

        def ask(request: Any) -> list[bytes]:
            down.answer = reply(packets.ACCESS_REJECT)
            return question(request) if "State" not in request else ACCEPT(request)

        made = self.make(first, self.serve(ask)[0], retry_after_s=0.0)
        dialogue = ScriptedDialogue(answers=(ALICE, {"answer": "123456"}))
        assert (await made.authenticate(dialogue)).user == "alice"

    async def test_each_server_has_its_own_secret(self) -> None:
        good, _ = self.serve(accept_alice)
        good.secret_file.write_bytes(b"wrong")
        made = self.make(good)
        error = await error_of(made.authenticate(ScriptedDialogue(answers=(ALICE,))), BackendFailed)
        assert "do not fit the secret" in str(error)

    async def test_all_that_are_down_are_named(self) -> None:
        silent, _ = self.serve(lambda _: [])
        made = self.make(await self.down(), silent)
        error = await error_of(made.authenticate(ScriptedDialogue(answers=(ALICE,))), BackendFailed)
        assert "refuses the connection; " in str(error)
        assert str(error).endswith("does not answer")

    async def test_a_name_that_leads_nowhere_is_told(self) -> None:
        settings = self.at(1812)
        nowhere = ServerSettings("radius.invalid", settings.secret_file)
        error = await error_of(
            self.make(nowhere).authenticate(ScriptedDialogue(answers=(ALICE,))), BackendFailed
        )
        assert "has a name that leads nowhere" in str(error)


class SettingsTests:
    def test_wrong_settings_are_refused_in_words(self, tmp_path: Path) -> None:
        server = ServerSettings(HOST, tmp_path / "secret")
        for servers, changes, why in (
            ((), {}, "servers must have one"),
            ((server,), {"tries": 0}, "tries must lie"),
            ((server,), {"time_s": 0.0}, "time_s must be"),
            ((server,), {"nas_identifier": ""}, "nas_identifier must not"),
        ):
            with pytest.raises(ValueError, match=why):
                Settings(servers, **changes)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"servers: secret_file .* cannot be read"):
            build(Settings((server,)), reactor)
        (tmp_path / "secret").write_text("\n")
        with pytest.raises(ConfigurationError, match="has no secret in its first line"):
            build(Settings((server,)), reactor)
