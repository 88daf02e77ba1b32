"""Checks passwords against an LDAP directory, and reads groups and attributes from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import attrs
from ldap3.core.exceptions import LDAPExceptionError
from ldap3.utils.dn import parse_dn
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as NotInTime
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from anyvpn.backends.authenticator_ldap_connection import ConnectionSettings, read_server
from anyvpn.backends.authenticator_ldap_directory import Directory, Found, Layout
from anyvpn.backends.authenticator_ldap_servers import Servers, Work
from anyvpn.backends.worker_threads import ThreadsReactor, WorkerThreads
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Field, Form, Identity
from anyvpn.model.credentials import Credentials, password_form, read_credentials, read_text

Result = TypeVar("Result")

# Ours
MOST_THREADS = 256
MOST_WAITING = 4096
MOST_NEW_PASSWORDS = 3


def _help(text: str, example: object = None) -> dict[str, object]:
    return {"help": text} if example is None else {"help": text, "example": example}


@attrs.frozen
class Settings:
    """The servers, where users and groups stand in the tree, and how long anything may take."""

    servers: tuple[str, ...] = attrs.field(
        metadata=_help(
            "Servers, asked in this order: ldaps://HOST, or ldap://HOST, which begins TLS.",
            ("ldaps://ldap.example.com",),
        )
    )
    ca_file: Path | None = attrs.field(
        default=None, metadata=_help("Authorities of the servers (PEM); none: the system's.")
    )
    plaintext: bool = attrs.field(
        default=False, metadata=_help("Whether ldap:// may go without TLS, passwords and all.")
    )
    user_template: str = attrs.field(
        default="",
        metadata=_help(
            "The user's DN, to bind as it at once; or give base and user_filter.",
            "uid={user},ou=people,dc=example,dc=com",
        ),
    )
    base: str = attrs.field(
        default="",
        metadata=_help("Where users are searched for.", "ou=people,dc=example,dc=com"),
    )
    user_filter: str = attrs.field(
        default="(uid={user})", metadata=_help("What the user's entry must fit.")
    )
    bind_dn: str = attrs.field(
        default="",
        metadata=_help("Who searches; empty: nobody in particular.", "cn=vpn,dc=example,dc=com"),
    )
    bind_password_file: Path | None = attrs.field(
        default=None, metadata=_help("File whose first line is the password of bind_dn.")
    )
    user_attribute: str = attrs.field(
        default="",
        metadata=_help(
            "Attribute with the user's name; empty: the one that {user} stands for.", "uid"
        ),
    )
    attributes: tuple[str, ...] = attrs.field(
        default=(),
        metadata=_help("Attributes to keep for the authorizer.", ("department", "vpnAddress")),
    )
    groups_attribute: str = attrs.field(
        default="", metadata=_help("Attribute with the user's groups.", "memberOf")
    )
    group_base: str = attrs.field(
        default="",
        metadata=_help("Where groups are searched for.", "ou=groups,dc=example,dc=com"),
    )
    group_filter: str = attrs.field(
        default="(&(objectClass=groupOfNames)(member={dn}))",
        metadata=_help("What the user's groups fit; {dn} and {user} stand for the user."),
    )
    group_name_attribute: str = attrs.field(
        default="cn", metadata=_help("Attribute with the name of a group.")
    )
    nested_groups: bool = attrs.field(
        default=False, metadata=_help("Whether the groups of groups count, too.")
    )
    password_change: bool = attrs.field(
        default=True, metadata=_help("Whether users may replace a password that has expired.")
    )
    referrals: bool = attrs.field(
        default=False, metadata=_help("Whether to go on at another server that one names.")
    )
    connect_time_s: float = attrs.field(
        default=5.0, metadata=_help("How long a connection may take, in seconds.")
    )
    time_s: float = attrs.field(
        default=10.0, metadata=_help("How long a server may be silent, in seconds.")
    )
    login_time_s: float = attrs.field(
        default=45.0, metadata=_help("How long all of one check may take, in seconds.")
    )
    retry_after_s: float = attrs.field(
        default=15.0, metadata=_help("How long a server that failed is left alone, in seconds.")
    )
    max_parallel: int = attrs.field(
        default=16, metadata=_help("Users checked at a time, each in a thread.")
    )

    def __attrs_post_init__(self) -> None:
        if not self.servers:
            raise ValueError("servers must name one at least")
        for each in self.servers:
            try:
                read_server(each)
            except ValueError as error:
                raise ValueError(f"servers: {error}") from None
        if bool(self.user_template) == bool(self.base):
            raise ValueError("either user_template or base must be set")
        if self.user_template:
            _check_dn("user_template", self.user_template.replace("{user}", "user"))
        for key, text in (
            ("user_template", self.user_template),
            ("user_filter", self.user_filter),
        ):
            if text and "{user}" not in text:
                raise ValueError(f"{key} must have {{user}} in it, where the name goes")
        for key, text in (("user_filter", self.user_filter), ("group_filter", self.group_filter)):
            if not text.startswith("(") or text.count("(") != text.count(")"):
                raise ValueError(f'{key} must be a filter in parentheses, such as "(uid={{user}})"')
        for key, text in (
            ("base", self.base),
            ("bind_dn", self.bind_dn),
            ("group_base", self.group_base),
        ):
            if text:
                _check_dn(key, text)
        if bool(self.bind_dn) != (self.bind_password_file is not None):
            raise ValueError("bind_dn and bind_password_file go together")
        for key in ("connect_time_s", "time_s", "login_time_s"):
            if not 0 < getattr(self, key) <= 600:
                raise ValueError(f"{key} must be more than 0 and at most 600")
        if self.retry_after_s < 0:
            raise ValueError("retry_after_s must not be negative")
        if not 1 <= self.max_parallel <= MOST_THREADS:
            raise ValueError(f"max_parallel must lie between 1 and {MOST_THREADS}")


class _Reactor(ThreadsReactor, IReactorTime):
    """What the authenticator needs of a reactor."""


def build(settings: Settings, reactor: _Reactor) -> LDAPAuthenticator:
    """What the configuration `backend = "ldap"` makes. Raises: ConfigurationError."""
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise ConfigurationError(f"ca_file: {settings.ca_file} is no file")
    password = ""
    if settings.bind_password_file is not None:
        password = _first_line(settings.bind_password_file)
    servers = Servers(
        ConnectionSettings(
            servers=tuple(map(read_server, settings.servers)),
            ca_file=settings.ca_file,
            plaintext=settings.plaintext,
            bind_dn=settings.bind_dn,
            bind_password=password,
            connect_time_s=settings.connect_time_s,
            time_s=settings.time_s,
            retry_after_s=settings.retry_after_s,
            referrals=settings.referrals,
        )
    )
    layout = Layout(**{each.name: getattr(settings, each.name) for each in fields(Layout)})
    binds = bool(settings.bind_dn) or not settings.user_template
    return LDAPAuthenticator(settings, servers, Directory(layout, binds=binds), reactor)


@implementer(IAuthenticator)
class LDAPAuthenticator:
    """Asks for name and password, and for a new password when the directory wants one."""

    def __init__(
        self, settings: Settings, servers: Servers, directory: Directory, reactor: _Reactor
    ) -> None:
        self._settings = settings
        self._servers = servers
        self._directory = directory
        self._reactor = reactor
        self._under_way: set[Work] = set()
        reactor.addSystemEventTrigger("during", "shutdown", self.close)
        self._threads = WorkerThreads(
            "users", reactor, most=settings.max_parallel, most_waiting=MOST_WAITING
        )

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Who it is to the directory.

        Raises: LoginRejected: it knows no such user, or another password, or has locked it.
        Raises: BackendFailed: no server can say, or not in time.
        """
        answer = await dialogue.ask(password_form(dialogue.identity))
        said = read_credentials(answer, dialogue.identity)
        found = await self._in_thread(self._directory.identify, said)
        if found.must_change:
            if not self._settings.password_change:
                raise LoginRejected("the password must be changed")
            found = await self._change(dialogue, found, said)
        return found.identity

    def close(self) -> None:
        """End what is under way, and then the threads."""
        for work in tuple(self._under_way):
            work.end()
        self._threads.close()
        self._servers.close()

    async def _change(self, dialogue: IDialogue, found: Found, said: Credentials) -> Found:
        error = ""
        for _ in range(MOST_NEW_PASSWORDS):
            answer = await dialogue.ask(_new_password_form(error))
            new = read_text(answer, "new_password")
            if new != read_text(answer, "verify_password"):
                error = "The two passwords are not the same. Please try again."
                continue
            problem = await self._in_thread(
                self._directory.change_password, found.dn, said.password, new
            )
            if not problem:
                again = await self._in_thread(
                    self._directory.identify, Credentials(said.username, new)
                )
                if again.must_change:
                    raise BackendFailed("the directory wants a new password again and again")
                return again
            error = f"The new password is not accepted: {problem}. Please try another one."
        raise LoginRejected("no new password was accepted")

    async def _in_thread(
        self,
        task: Callable[..., Result],
        *arguments: object,
    ) -> Result:
        work = Work()
        self._under_way.add(work)
        doing = self._threads.run(
            lambda: self._servers.run(work, lambda each: task(each, *arguments))
        )
        waiting: Deferred[Result] = Deferred.fromCoroutine(doing)
        try:
            return await waiting.addTimeout(self._settings.login_time_s, self._reactor)
        except NotInTime:
            work.end()
            time_s = self._settings.login_time_s
            raise BackendFailed(f"the directory did not answer within {time_s:g} s") from None
        except CancelledError:
            work.end()
            raise
        finally:
            self._under_way.discard(work)


def _new_password_form(error: str) -> Form:
    return Form(
        "Your password has expired. Please choose a new one.",
        (
            Field("new_password", "New password:", secret=True),
            Field("verify_password", "The same again:", secret=True),
        ),
        kind="main",
        error=error,
    )


def _first_line(file: Path) -> str:
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError as error:
        problem = f"bind_password_file: {file} cannot be read: {error.strerror}"
        raise ConfigurationError(problem) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"bind_password_file: {file} is not UTF-8 text") from None
    if not lines or not lines[0]:
        raise ConfigurationError(f"bind_password_file: {file} has no password in its first line")
    return lines[0]


def _check_dn(key: str, text: str) -> None:
    try:
        parse_dn(text)
    except (LDAPExceptionError, IndexError):
        example = "ou=people,dc=example,dc=com"
        raise ValueError(f'{key}: "{text}" is no name of an entry, such as "{example}"') from None
