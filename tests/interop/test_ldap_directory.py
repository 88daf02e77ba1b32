"""The ldap authenticator alone, with a real slapd on loopback: good and bad ways."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from anyvpn.backends import authenticator_ldap_directory as directory_module
from anyvpn.backends.authenticator_ldap import LDAPAuthenticator, Settings, build
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator
from anyvpn.model.authentication import Answer, Form, Identity
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from anyvpn.testing.slapd import (
    GROUPS,
    PEOPLE,
    SERVICE,
    SERVICE_PASSWORD,
    SUFFIX,
    Slapd,
    group,
    person,
)
from tests.backends.hostile_credentials import HostileCredentials

ADDRESS = "127.0.0.1"
PASSWORD = "alices-pass"
STRANGE = 'o,d+d"<b>;o=b#*)(\\'


def free_port() -> int:
    with socket.socket() as found:
        found.bind((ADDRESS, 0))
        return int(found.getsockname()[1])


class Site:
    """The directory, and the files that speak of it."""

    slapd: Slapd
    directory: Path

    @classmethod
    def settings(cls, **changes: Any) -> Settings:
        own = {
            "servers": (f"ldaps://{ADDRESS}:{cls.slapd.tls_port}",),
            "ca_file": cls.directory / "ca.pem",
            "base": PEOPLE,
            "bind_dn": SERVICE,
            "bind_password_file": cls.directory / "password",
            "user_attribute": "uid",
            "groups_attribute": "memberOf",
            "time_s": 3.0,
            "login_time_s": 8.0,
            **changes,
        }
        return Settings(**own)


@pytest.fixture(scope="module", autouse=True)
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    Site.directory = tmp_path_factory.mktemp("ldap")
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert(ADDRESS, key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(Site.directory / "ca.pem")
    trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.write_to_path(Site.directory / "other.pem")
    issued.cert_chain_pems[0].write_to_path(Site.directory / "server.pem")
    issued.private_key_pem.write_to_path(Site.directory / "key.pem")
    (Site.directory / "password").write_text(f"{SERVICE_PASSWORD}\n")
    Site.slapd = Slapd(
        Site.directory / "slapd",
        address=ADDRESS,
        port=free_port(),
        tls_port=free_port(),
        certificate=Site.directory / "server.pem",
        key=Site.directory / "key.pem",
    )
    Site.slapd.start()
    alice = f"uid=alice,{PEOPLE}"
    Site.slapd.add(
        person("alice", PASSWORD, "mail: alice@example.com", "departmentNumber: 7"),
        person("bob", "bobs-passw", "mail: a@example.com", "mail: b@example.com"),
        person("locked", "locked-pw"),
        'dn: uid=o\\,d\\+d\\"\\<b\\>\\;o\\=b#*)(\\\\,' + f"{PEOPLE}\nobjectClass: inetOrgPerson\n"
        f"uid: {STRANGE}\ncn: odd\nsn: odd\nuserPassword: {PASSWORD}\n",
        f"dn: uid=expired,{PEOPLE}\nobjectClass: inetOrgPerson\nuid: expired\ncn: e\nsn: e\n"
        f"userPassword: {PASSWORD}\npwdPolicySubentry: cn=strict,{SUFFIX}\n",
        f"dn: uid=grace,{PEOPLE}\nobjectClass: inetOrgPerson\nuid: grace\ncn: g\nsn: g\n"
        f"userPassword: {PASSWORD}\npwdPolicySubentry: cn=grace,{SUFFIX}\n",
        f"dn: cn=patient,{SUFFIX}\nobjectClass: device\nobjectClass: pwdPolicy\ncn: patient\n"
        "pwdAttribute: userPassword\n",
        person("patient", PASSWORD, f"pwdPolicySubentry: cn=patient,{SUFFIX}"),
        group("staff", alice),
        group("vpn users", alice),
        group("all", f"cn=staff,{GROUPS}", f"cn=all,{GROUPS}"),
        group("everything", f"cn=all,{GROUPS}"),
    )
    for name in ("reset", "again"):
        Site.slapd.add(person(name, PASSWORD))
        Site.slapd.modify(
            f"dn: uid={name},{PEOPLE}\nchangetype: modify\nreplace: pwdReset\npwdReset: TRUE\n"
        )
    yield
    Site.slapd.stop()


class LDAPCase(TestCase):
    def make(self, **changes: Any) -> LDAPAuthenticator:
        made = build(Site.settings(**changes), reactor)  # type: ignore[arg-type]  # trial's own
        self.addCleanup(made.close)
        return made

    async def login(self, user: str, password: str = PASSWORD, **changes: Any) -> Identity:
        dialogue = ScriptedDialogue(answers=({"username": user, "password": password},))
        return await self.make(**changes).authenticate(dialogue)

    async def refusal(self, user: str, password: str = PASSWORD, **changes: Any) -> str:
        return str(await error_of(self.login(user, password, **changes), LoginRejected))

    async def failure(self, **changes: Any) -> str:
        return str(await error_of(self.login("alice", **changes), BackendFailed))


class ContractTests(LDAPCase, AuthenticatorContract):
    groups = frozenset(("staff", "vpn users"))

    def make_authenticator(self) -> IAuthenticator:
        return self.make()

    def right_answers(self) -> tuple[Answer, ...]:
        return ({"username": "alice", "password": PASSWORD},)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return ({"username": "bob", "password": "wrong-one"},)


class HostileTests(LDAPCase, HostileCredentials, AuthenticatorContract):
    """With a user whom wrong passwords do not lock out."""

    user = "patient"

    def make_authenticator(self) -> IAuthenticator:
        return self.make()

    def right_answers(self) -> tuple[Answer, ...]:
        return ({"username": "patient", "password": PASSWORD},)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return ({"username": "patient", "password": "wrong-one"},)


class UserTests(LDAPCase):
    async def test_the_entry_gives_the_name_and_what_is_wanted_of_it(self) -> None:
        identity = await self.login("ALICE", attributes=("mail", "departmentNumber", "title"))
        assert (identity.user, identity.groups) == ("alice", {"staff", "vpn users"})
        assert identity.attributes == {
            "mail": ("alice@example.com",),
            "departmentNumber": ("7",),
            "dn": (f"uid=alice,{PEOPLE}",),
        }

    async def test_the_name_is_the_directory_s_own_however_it_was_typed(self) -> None:
        """Or one user is many to policies and limits: directories know no case."""
        for changes in (
            {},
            {"user_filter": "(|(uid={user})(mail={user}))"},
            {"user_template": f"uid={{user}},{PEOPLE}", "base": ""},
        ):
            assert (await self.login("ALICE", user_attribute="", **changes)).user == "alice"
        by_mail = {"user_attribute": "", "user_filter": "(|(uid={user})(mail={user}))"}
        assert (await self.login("Alice@example.com", **by_mail)).user == "alice"
        by_title = {"user_attribute": "", "user_filter": "(&(!(title={user}))(mail={user}))"}
        assert "0 values of title" in await self.refusal("alice@example.com", **by_title)

    async def test_a_template_binds_as_the_user_at_once(self) -> None:
        template = {"user_template": f"uid={{user}},{PEOPLE}", "base": ""}
        for account in ({"bind_dn": "", "bind_password_file": None}, {}):
            identity = await self.login("alice", attributes=("mail",), **template, **account)
            assert identity.attributes["mail"] == ("alice@example.com",)
            assert "wrong password" in await self.refusal("alice", "no", **template, **account)
            assert "wrong password" in await self.refusal("nobody", **template, **account)

    async def test_start_tls_does_the_same(self) -> None:
        servers = (f"ldap://{ADDRESS}:{Site.slapd.port}",)
        assert (await self.login("alice", servers=servers)).user == "alice"
        assert "certificate" in await self.failure(
            servers=servers, ca_file=Site.directory / "other.pem"
        )
        assert (await self.login("alice", servers=servers, plaintext=True)).user == "alice"

    async def test_whatever_a_name_has_in_it_is_a_name(self) -> None:
        template = {"user_template": f"uid={{user}},{PEOPLE}", "base": ""}
        for settings in ({}, template):
            assert (await self.login(STRANGE, **settings)).user == STRANGE
            for name in ("*", "al*", "alice)(uid=*", f"alice,{PEOPLE}", "\\61lice", "a\\2alice"):
                await self.refusal(name, **settings)

    async def test_every_plane_of_unicode_is_refused_in_peace(self) -> None:
        for plane in range(17):
            name = chr(plane * 0x10000 + 0x41) * 3
            await error_of(self.login(name, name), LoginRejected)

    async def test_an_entry_of_two_is_nobodys(self) -> None:
        said = await self.refusal("x", user_filter="(|(uid={user})(objectClass=inetOrgPerson))")
        assert "entries of the directory fit this user" in said
        assert "2 values of mail" in await self.refusal("bob", "bobs-passw", user_attribute="mail")

    async def test_the_reason_of_a_refusal_is_told(self) -> None:
        assert await self.refusal("nobody") == "the directory does not know this user"
        assert await self.refusal("alice", "wrong") == "wrong password"
        for _ in range(5):
            await self.refusal("locked", "wrong")
        assert await self.refusal("locked", "locked-pw") == "the account is locked"

    async def test_a_known_user_is_asked_for_the_password_alone(self) -> None:
        dialogue = ScriptedDialogue(answers=({"password": PASSWORD},), identity=Identity("alice"))
        assert (await self.make().authenticate(dialogue)).user == "alice"


class GroupTests(LDAPCase):
    SEARCH: ClassVar[dict[str, str]] = {"groups_attribute": "", "group_base": GROUPS}

    async def test_groups_may_be_searched_for(self) -> None:
        identity = await self.login("alice", **self.SEARCH)
        assert identity.groups == {"staff", "vpn users"}

    async def test_the_filter_speaks_of_the_directory_s_name_however_it_was_typed(self) -> None:
        """Attributes such as memberUid know case, unlike uid: no group, no prohibition."""
        Site.slapd.add(
            f"dn: cn=exact,{GROUPS}\nobjectClass: groupOfNames\nobjectClass: extensibleObject\n"
            f"cn: exact\nmember: cn=nobody\nlabeledURI: alice\n"
        )
        own = {**self.SEARCH, "group_filter": "(labeledURI={user})"}
        for name in ("alice", "ALICE"):
            assert (await self.login(name, **own)).groups == {"exact"}

    async def test_whatever_a_group_s_name_has_in_it_is_its_name(self) -> None:
        name = 'Sales, "EMEA" + Süd \\2C #=<>;'
        written = "".join(f"\\{each}" if each in '\\,"+<>;=' else each for each in name)
        Site.slapd.add(
            f"dn: cn={written},{GROUPS}\nobjectClass: groupOfNames\ncn: {name}\n"
            f"member: uid=bob,{PEOPLE}\n"
        )
        assert (await self.login("bob", "bobs-passw")).groups == {name}

    async def test_a_user_of_more_groups_than_are_read_is_not_let_in(self) -> None:
        """One that is left out may be one that is denied."""
        self.patch(directory_module, "MOST_VALUES", 1)  # type: ignore[no-untyped-call]  # trial's
        said = str(await error_of(self.login("alice"), BackendFailed))
        assert said == "an entry has more than 1 values of memberof"

    async def test_groups_of_groups_count_when_they_shall(self) -> None:
        identity = await self.login("alice", nested_groups=True, **self.SEARCH)
        assert identity.groups == {"staff", "vpn users", "all", "everything"}

    async def test_the_filter_may_speak_of_the_name(self) -> None:
        wanted = f"(&(objectClass=groupOfNames)(member=uid={{user}},{PEOPLE}))"
        identity = await self.login("alice", group_filter=wanted, **self.SEARCH)
        assert "staff" in identity.groups


class PasswordChangeTests(LDAPCase):
    async def change(
        self, user: str, *new: tuple[str, str], old: str = PASSWORD
    ) -> tuple[Identity, ScriptedDialogue]:
        answers = [
            {"username": user, "password": old},
            *({"new_password": one, "verify_password": other} for one, other in new),
        ]
        dialogue = ScriptedDialogue(answers=answers)
        return await self.make().authenticate(dialogue), dialogue

    async def test_whoever_was_reset_chooses_another_and_is_in(self) -> None:
        identity, dialogue = await self.change(
            "reset",
            ("short", "short"),
            ("new-password", "another-one"),
            ("new-password", "new-password"),
        )
        assert identity.user == "reset"
        errors = [each.error for each in dialogue.asked if isinstance(each, Form)]
        assert "too short" in errors[2] and "not the same" in errors[3]
        assert (await self.login("reset", "new-password")).user == "reset"
        assert await self.refusal("reset") == "wrong password"

    async def test_whoever_gives_up_keeps_the_old_one(self) -> None:
        three = (("short", "short"),) * 3
        await error_of(self.change("again", *three), LoginRejected)
        said = await self.refusal("again", password_change=False)
        assert said == "the password must be changed"

    async def test_grace_logins_are_for_a_change(self) -> None:
        await pause(1.5)
        identity, dialogue = await self.change("grace", ("new-password", "new-password"))
        assert identity.user == "grace"
        assert len(dialogue.asked) == 2

    async def test_an_expired_password_is_told_by_name(self) -> None:
        await pause(1.5)
        assert await self.refusal("expired") == "the password has expired"


class Relay:
    """Hands everything on between any number of connections and the directory, until it is off."""

    def __init__(self) -> None:
        self.is_off = threading.Event()
        self._listening = socket.create_server((ADDRESS, 0))
        self._open = [self._listening]
        self.url = f"ldaps://{ADDRESS}:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                front, _ = self._listening.accept()
                back = socket.create_connection((ADDRESS, Site.slapd.tls_port))
                self._open += [front, back]
                for ends in ((front, back), (back, front)):
                    threading.Thread(target=self._hand_on, args=ends, daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if not self.is_off.is_set():
                    sink.sendall(data)


class ServerTests(LDAPCase):
    def serve(self, handle: Callable[[socket.socket], None]) -> str:
        """A server that does what a test wants with each connection."""
        listening = socket.create_server((ADDRESS, 0))

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    handle(connection)

        threading.Thread(target=accept, daemon=True).start()
        self.addCleanup(listening.close)
        return f"ldap://{ADDRESS}:{listening.getsockname()[1]}"

    def relay(self) -> Relay:
        """Something between us and the directory that may fall silent."""
        made = Relay()
        self.addCleanup(made.close)
        return made

    async def test_the_next_server_is_asked(self) -> None:
        down = f"ldaps://{ADDRESS}:{free_port()}"
        good = Site.settings().servers[0]
        assert (await self.login("alice", servers=(down, good))).user == "alice"

    async def test_servers_that_answer_nonsense_cost_bounded_time(self) -> None:
        good = Site.settings().servers[0]
        for handle in (
            lambda each: each.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            lambda each: (
                each.recv(4096),
                each.sendall(b"\x30\x84\xff\xff\xff\xff"),
                silence(each),
            ),
            lambda each: (each.recv(4096), each.sendall(b"\x30\x0c\x02\x01\x07\x61\x07\x0a\x01")),
            lambda each: (each.recv(4096), each.sendall(b"\x00" * 2000)),
            lambda each: each.recv(4096),
            silence,
        ):
            bad = self.serve(handle)
            own = {"plaintext": True, "time_s": 0.3, "connect_time_s": 0.3}
            assert (await self.login("alice", servers=(bad, good), **own)).user == "alice"
            assert "no directory server can be used" in await self.failure(servers=(bad,), **own)

    async def test_a_server_that_will_not_begin_tls_is_let_go(self) -> None:
        ends: list[bytes] = []

        def refuse(connection: socket.socket) -> None:
            asked = connection.recv(4096)
            answer = asked[2 : 4 + asked[3]] + b"\x78\x07\x0a\x01\x02\x04\x00\x04\x00"
            connection.sendall(bytes((0x30, len(answer))) + answer)
            connection.settimeout(2.0)
            with contextlib.suppress(TimeoutError):
                ends.append(connection.recv(4096))

        gc.disable()  # which would let go sometime
        self.addCleanup(gc.enable)
        assert "startTLS failed" in await self.failure(servers=(self.serve(refuse),))
        await pause(0.2)
        assert ends, "the connection is still open"

    async def test_referrals_lead_to_servers_with_tls_alone(self) -> None:
        """Whoever searches has a password, which another server is told, too."""
        heard: list[bytes] = []
        elsewhere = self.serve(lambda each: heard.append(each.recv(4096)))
        Site.slapd.add(
            f"dn: ou=elsewhere,{SUFFIX}\nobjectClass: referral\nobjectClass: extensibleObject\n"
            f"ou: elsewhere\nref: {elsewhere}/ou=elsewhere,{SUFFIX}\n"
        )
        below = f"ou=people,ou=elsewhere,{SUFFIX}"
        own = {"base": below, "referrals": True}
        assert "cannot search for a user: referral" in await self.failure(**own)
        assert not heard
        assert "session terminated" in await self.failure(**own, plaintext=True)
        assert SERVICE_PASSWORD.encode() in heard[0]

    async def test_entries_of_other_servers_are_found_when_they_shall(self) -> None:
        Site.slapd.add(
            f"dn: ou=other,{SUFFIX}\nobjectClass: referral\nobjectClass: extensibleObject\n"
            f"ou: other\nref: {Site.settings().servers[0]}/{SUFFIX}\n"
        )
        other = f"ou=people,ou=other,{SUFFIX}"
        assert (await self.login("alice", base=other, referrals=True)).user == "alice"
        said = await error_of(self.login("alice", base=other), BackendFailed)
        assert "cannot search for a user: referral" in str(said)

    async def test_a_server_that_dribbles_is_given_up(self) -> None:
        """Each byte comes in time, and the answer never ends."""

        def dribble(connection: socket.socket) -> None:
            connection.recv(4096)
            connection.settimeout(0.1)
            for each in b"\x30\x82\x03\xe8" + bytes(1000):
                try:
                    connection.sendall(bytes((each,)))
                    if connection.recv(1) == b"":
                        return
                except TimeoutError:
                    continue
                except OSError:
                    return

        made = self.make(
            servers=(self.serve(dribble),), plaintext=True, time_s=0.5, login_time_s=0.8
        )
        alice = {"username": "alice", "password": PASSWORD}
        login = made.authenticate(ScriptedDialogue(answers=(alice,)))
        error = await error_of(login, BackendFailed)
        assert str(error) == "the directory did not answer within 0.8 s"
        await pause(0.5)
        assert not made._threads._pool.working, "its thread is free again"

    async def test_failed_servers_are_left_alone_for_a_while(self) -> None:
        made = self.make(servers=(f"ldaps://{ADDRESS}:{free_port()}",), retry_after_s=60.0)
        alice = {"username": "alice", "password": PASSWORD}
        said = [
            str(
                await error_of(made.authenticate(ScriptedDialogue(answers=(alice,))), BackendFailed)
            )
            for _ in range(2)
        ]
        assert "refused" in said[0]
        assert said[1] == "all directory servers have failed a moment ago"

    async def test_certificates_are_checked(self) -> None:
        other = Site.directory / "other.pem"
        assert "certificate" in (await self.failure(ca_file=other)).lower()
        name = (f"ldaps://localhost:{Site.slapd.tls_port}",)
        assert "doesn't match" in await self.failure(servers=name)

    async def test_a_wrong_service_password_is_a_failure_of_ours(self) -> None:
        wrong = Path(self.mktemp())
        wrong.write_text("wrong-password\n")
        said = await self.failure(bind_password_file=wrong)
        assert f"the directory does not let {SERVICE} in" in said

    async def test_connections_are_used_again(self) -> None:
        made = self.make()
        alice = {"username": "alice", "password": PASSWORD}
        since = Site.slapd.program.position
        for _ in range(3):
            await made.authenticate(ScriptedDialogue(answers=(alice,)))
        assert Site.slapd.program.output(since).count(" ACCEPT ") == 1

    async def test_a_connection_that_was_closed_meanwhile_is_opened_again(self) -> None:
        made = self.make()
        alice = {"username": "alice", "password": PASSWORD}
        await made.authenticate(ScriptedDialogue(answers=(alice,)))
        Site.slapd.stop()
        Site.slapd.start()
        assert (await made.authenticate(ScriptedDialogue(answers=(alice,)))).user == "alice"

    async def test_a_server_that_was_switched_off_costs_its_time_once(self) -> None:
        """Nothing tells then that the connections to it are no good any more."""
        good = Site.settings().servers[0]
        relay = self.relay()
        made = self.make(servers=(relay.url, good), time_s=1.0, connect_time_s=0.5)
        alice = {"username": "alice", "password": PASSWORD}
        logins = [
            Deferred.fromCoroutine(made.authenticate(ScriptedDialogue(answers=(alice,))))
            for _ in range(8)
        ]
        for each in logins:
            await each
        relay.is_off.set()
        begun_s = time.monotonic()
        assert (await made.authenticate(ScriptedDialogue(answers=(alice,)))).user == "alice"
        assert time.monotonic() - begun_s < 3

    async def test_after_its_end_nobody_gets_in(self) -> None:
        made = self.make()
        made.close()
        alice = {"username": "alice", "password": PASSWORD}
        await error_of(made.authenticate(ScriptedDialogue(answers=(alice,))), BackendFailed)

    async def test_an_end_does_not_wait_for_a_silent_server(self) -> None:
        made = self.make(servers=(self.serve(silence),), plaintext=True, time_s=60.0)
        alice = {"username": "alice", "password": PASSWORD}
        login = Deferred.fromCoroutine(made.authenticate(ScriptedDialogue(answers=(alice,))))
        await pause(0.2)
        made.close()
        await error_of(login, BackendFailed)


def silence(connection: socket.socket) -> None:
    connection.settimeout(5)
    try:
        while connection.recv(4096):
            pass
    except OSError:
        return


async def pause(seconds: float) -> None:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(seconds, waiting.callback, None)  # type: ignore[attr-defined]
    await waiting


class SettingsTests:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"servers": ()}, "servers must name one"),
            ({"servers": ("http://x",)}, 'servers: "http://x" is not a server such as'),
            ({"servers": ("ldap://",)}, "servers:"),
            ({"user_template": "uid={user},dc=x"}, "either user_template or base"),
            ({"base": ""}, "either user_template or base"),
            ({"base": "people"}, 'base: "people" is no name of an entry'),
            ({"user_filter": "(uid=x)"}, "user_filter must have {user} in it"),
            ({"user_filter": "uid={user}"}, "user_filter must be a filter in parentheses"),
            ({"group_filter": "(x"}, "group_filter must be a filter"),
            ({"bind_dn": ""}, "bind_dn and bind_password_file go together"),
            ({"time_s": 0.0}, "time_s must be more than 0"),
            ({"max_parallel": 0}, "max_parallel must lie between 1 and"),
            ({"retry_after_s": -1.0}, "retry_after_s must not be negative"),
        ],
    )
    def test_wrong_settings_are_refused_in_words(self, changes: Any, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            Site.settings(**changes)

    def test_files_are_read_at_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        for changes, why in (
            ({"ca_file": tmp_path / "none"}, "ca_file: .* is no file"),
            ({"bind_password_file": tmp_path / "none"}, "bind_password_file: .* cannot be read"),
            ({"bind_password_file": tmp_path / "empty"}, "has no password in its first line"),
        ):
            with pytest.raises(ConfigurationError, match=why):
                build(Site.settings(**changes), reactor)  # type: ignore[arg-type]
