"""A login: what is asked of a client, what it answers, and who it turns out to be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from anyvpn.model.browser_pages import BrowserKind, Page, PageRequest

# --- steps: one thing asked of the client -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """One text input of a form.

    `secret` hides what is typed; a `hidden` field is not shown and comes back as it is;
    `second` marks an input of the second authentication (protocol reference, section 3.8).
    """

    name: str
    label: str = ""
    secret: bool = False
    hidden: bool = False
    value: str = field(default="", repr=False)
    second: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One entry of a choice: what is sent, what is shown."""

    value: str
    label: str = ""
    selected: bool = False
    second: bool = False
    without_credentials: bool = False
    secondary_username: str = ""
    secondary_username_editable: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A drop-down list of a form."""

    name: str
    label: str
    options: tuple[Option, ...]

    def value_of(self, wanted: str) -> str:
        """What to send for a value or a label; nothing when the list has neither."""
        for option in self.options:
            if wanted.casefold() in (option.value.casefold(), option.label.casefold()):
                return option.value
        return ""


@dataclass(frozen=True, slots=True)
class Form:
    """Asks for text: the step of passwords, codes and password changes.

    `kind` is the `id` that clients see: "main" for a login, "challenge" for a code. The ids of
    message and error let a client show a text of its own instead; empty ones are not sent.
    """

    message: str
    fields: tuple[Field | Choice, ...]
    title: str = "Login"
    kind: str = "main"
    error: str = ""
    error_id: str = "91"
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """Asks for a TLS client certificate, which comes on a new connection."""


@dataclass(frozen=True, slots=True)
class SignatureRequest:
    """Asks for certificates and a signature over the request itself (multiple certificates)."""

    hash_algorithms: tuple[str, ...] = ("sha256", "sha384", "sha512")
    nonce: str = ""


@dataclass(frozen=True, slots=True)
class BrowserLogin:
    """Sends the user's browser to an identity provider (single sign-on, version 2).

    The token comes back in the answer named `token_field`.
    """

    login_url: str
    final_url: str
    token_cookie: str = "acSamlv2Token"  # noqa: S105 - the cookie's name, not a secret
    error_cookie: str = "acSamlv2Error"
    logout_url: str = ""
    external: bool = False
    message: str = ""
    title: str = "Login"
    error: str = ""
    token_field: str = "sso-token"  # noqa: S105 - a field's name, not a secret


Step = Form | CertificateRequest | SignatureRequest | BrowserLogin


@dataclass(frozen=True, slots=True)
class BrowserVisit:
    """Sends the user's browser to pages of the authenticator's own, on the VPN port.

    `serve` gives a page for each request of the browser, one after another, until it says that
    somebody has logged in; what it raises, asking raises. The gateway makes a `BrowserLogin` of
    this for the client, and brings the browser's login home to it.
    """

    serve: Callable[[PageRequest], Awaitable[Page]]
    browser: BrowserKind = BrowserKind.AUTO
    message: str = "Please log in with your browser."


Question = Step | BrowserVisit
"""What an authenticator may ask."""

GROUP_FORM = "group"
"""The `kind` of the form by which a client asks its user for a group; never on the wire."""

PASSWORD_FORM = Form(
    "Please enter your username and password.",
    (Field("username", "Username:"), Field("password", "Password:", secret=True)),
)

# --- answers ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedCertificates:
    """The answer to a SignatureRequest: chain as sent (PKCS#7, DER) and the signature."""

    chain_pkcs7: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    hash_algorithm: str
    signed_document: bytes = field(default=b"", repr=False)


FormAnswers = Mapping[str, str]

NO_ANSWERS: FormAnswers = MappingProxyType({})

# --- who asks, and who it is --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientDescription:
    """What a client says of itself; nothing of it is proven."""

    user_agent: str = ""
    version: str = ""
    platform: str = ""
    platform_version: str = ""
    device_type: str = ""
    computer_name: str = ""
    unique_id: str = ""
    mac_addresses: tuple[str, ...] = ()
    capabilities: frozenset[str] = frozenset()
    unique_id_global: str = ""

    @property
    def is_mobile(self) -> bool:
        """Phones and tablets get slower probes."""
        return self.platform.lower().startswith(("apple-ios", "android"))


UNKNOWN_CLIENT = ClientDescription()


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """What an authenticator may know before it asks: profile, client, outer address, certificate.

    `certificates` is the DER chain, leaf first, that TLS has verified against the gateway's
    client CAs; empty when the client sent none, or one that `certificate_problem` says is not
    accepted. `origin` is where the client thinks the gateway is, such as
    "https://vpn.example.com:8443"; empty when it does not say. `browser_key` is the client's key
    (DER) that the token of a login in an external browser is sealed for; empty when it sent none.
    """

    profile: str
    client: ClientDescription
    peer_address: str
    host: str = ""
    origin: str = ""
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    certificate_problem: str = ""
    browser_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who it turned out to be, with groups and attributes (name to values)."""

    user: str
    groups: frozenset[str] = frozenset()
    attributes: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )

    def __post_init__(self) -> None:
        if not self.user:
            raise ValueError("an identity needs a user name")


Answer = FormAnswers | SignedCertificates | str | tuple[bytes, ...] | Identity
"""Form: field name to text. CertificateRequest: DER chain, leaf first. BrowserLogin: the token.
BrowserVisit: who has logged in there."""


# --- the messages of the aggregate authentication protocol ---------------------------------


class ClientMessageKind(Enum):
    """Why a client posts."""

    INIT = "init"
    REPLY = "auth-reply"
    LOGOUT = "logout"


@dataclass(frozen=True, slots=True)
class Opaque:
    """The gateway's note to itself, which clients carry back.

    `document` is the whole element as received, for a client to echo byte for byte.
    """

    tunnel_group: str = ""
    group_alias: str = ""
    config_hash: str = ""
    handle: str = ""
    auth_methods: tuple[str, ...] = ()
    document: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """One POST of a client, in version 2 (XML) or version 1 (form) of the protocol."""

    kind: ClientMessageKind
    protocol_version: int = 2
    client: ClientDescription = UNKNOWN_CLIENT
    group_select: str = ""
    group_access: str = ""
    opaque: Opaque | None = None
    answers: FormAnswers = field(default_factory=lambda: NO_ANSWERS, repr=False)
    certificates: SignedCertificates | None = field(default=None, repr=False)
    certificate_refused: bool = False
    session_id: str = ""
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class GroupList:
    """The connection profiles to choose from: the first option is the selected one."""

    options: tuple[Option, ...]
    label: str = "GROUP:"


@dataclass(frozen=True, slots=True)
class LoginStep:
    """The gateway asks: one step, with the groups to choose from when it is the first.

    `action` is the path of the next POST, empty for the same one again. With `nothing_to_ask`
    the step is an empty form that the client answers at once. `host_scan_wanted` says that the
    gateway waits for a posture check first.
    """

    step: Step
    opaque: Opaque | None = None
    groups: GroupList | None = None
    action: str = "/"
    nothing_to_ask: bool = False
    certificate_accepted: bool = False
    banner: str = ""
    host_scan_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """One downloadable item as announced: its URI and the SHA-1 of its bytes in hex."""

    uri: str
    sha1: str
    kind: str = "profile"
    service: str = "user"


@dataclass(frozen=True, slots=True)
class CorePackage:
    """One software package of the core manifest."""

    identifier: str
    version: str
    uri: str
    display_name: str = ""
    operating_system: str = ""
    kind: str = "exe"
    action: str = "install"
    module: str = ""
    is_core: bool = False


@dataclass(frozen=True, slots=True)
class LoginComplete:
    """The gateway lets the client in: the token and what to download first."""

    session_id: str
    session_token: str = field(repr=False)
    banner: str = ""
    message: str = ""
    server_cert_hash: str = ""
    base_package_uri: str = "/CACHE/stc/1"
    core_packages: tuple[CorePackage, ...] = ()
    profiles: tuple[Manifest, ...] = ()


@dataclass(frozen=True, slots=True)
class LogoutComplete:
    """The gateway's answer to a logout."""


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """The gateway says why nothing can be asked: an error without a form."""

    error: str
    error_id: str = "98"


GatewayMessage = LoginStep | LoginComplete | LogoutComplete | LoginRefused
