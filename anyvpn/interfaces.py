"""Every plug point of anyvpn, readable in one sitting.

All methods that are `async` are awaited on the reactor's thread and must not block it; a
blocking library runs in a thread inside its backend. What a method may raise stands in its
docstring; anything else costs the login or the session in question only, and is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv6Interface

    from anyvpn.model.adapter import AdapterSettings
    from anyvpn.model.authentication import Answer, Identity, LoginRequest, Question, Step
    from anyvpn.model.channels import (
        ChannelName,
        DTLSChannel,
        PeerPath,
        ReturnedConnection,
        TLSRecords,
    )
    from anyvpn.model.client_profile import ClientProfile
    from anyvpn.model.downloads import Download
    from anyvpn.model.events import Counters, Event
    from anyvpn.model.group_policy import GroupPolicy, Network, PolicyLayer
    from anyvpn.model.liveness import ChannelActivity
    from anyvpn.model.packet_filter import FilterRule
    from anyvpn.model.session import SessionRecord
    from anyvpn.model.tunnel_settings import Lease


class IDialogue(Interface):
    """What an authenticator talks to: one client in the middle of its login."""

    request: LoginRequest = Attribute("Profile, client, outer address and certificate.")
    identity: Identity | None = Attribute(
        "Who the authenticators before this one have found; None for the first or only one."
    )

    async def ask(step: Question) -> Answer:
        """Ask one thing and wait for the answer; a form's answer maps field names to text.

        Raises LoginAborted when the client goes away or its time is up, LoginRejected when it
        cannot do what is asked; for a BrowserVisit what its `serve` raises, too.
        """


class IAuthenticator(Interface):
    """Finds out who a client is."""

    async def authenticate(dialogue: IDialogue) -> Identity:
        """Ask what must be asked, then say who it is.

        Raises LoginRejected (the text is for the log), BackendFailed.
        """


class IPublisher(Interface):
    """An authenticator that has something for everybody to read, such as its metadata."""

    documents: Mapping[str, Download] = Attribute(
        "Path on the VPN port, below one of model.browser_pages.PAGE_TREES, to what stands there."
    )


class IResponder(Interface):
    """Answers the steps of a login on the client's side, all of a step or what it knows of it."""

    capabilities: frozenset[str] = Attribute(
        'What the client may announce because of it, such as "single-sign-on-external-browser".'
    )

    def login_begins() -> None:
        """A new login: what was used up in the one before may be given once more."""

    async def answer(step: Step) -> Answer:
        """The answer to one step, or what this responder knows of it; the next is asked the rest.

        Form: field name to text, for the fields it knows. BrowserLogin: the token, or with
        `external` the text that the browser brought. Empty: it knows nothing of this step. A
        step that comes again, with its `error` set, was answered wrongly before.

        Raises LoginAborted when the user gives up, BackendFailed.
        """


class IAuthorizer(Interface):
    """Says what an identity may have."""

    async def authorize(identity: Identity, request: LoginRequest) -> GroupPolicy:
        """The policy of the session to be granted. Raises AccessDenied, BackendFailed."""


class ILayeredAuthorizer(IAuthorizer):
    """An authorizer that can say which of its rules gives which value (`anyvpn explain`)."""

    async def layers(
        identity: Identity, request: LoginRequest
    ) -> tuple[str, tuple[PolicyLayer, ...]]:
        """The name of the policy and what it is made of, the strongest layer last.

        `authorize` gives what `model.group_policy.merge` makes of it. Raises what that does.
        """


class IAddressAllocator(Interface):
    """Lends inner addresses."""

    gateway_addresses: tuple[IPv4Interface | IPv6Interface, ...] = Attribute(
        "The tun device's own addresses; their networks are what sessions are lent from."
    )

    async def lease(
        identity: Identity, policy: GroupPolicy, families: frozenset[int], wish: Lease | None
    ) -> Lease:
        """Lend addresses of `families` (4, 6); the wish is granted when it is free and allowed.

        Raises AddressesExhausted.
        """

    async def release(lease: Lease) -> None:
        """Take the addresses back; releasing twice does no harm."""


class IProfileProvider(Interface):
    """Gives clients their AnyConnect profiles."""

    async def profiles_for(identity: Identity, policy: GroupPolicy) -> tuple[ClientProfile, ...]:
        """The profiles of this user, read whole; at most one per name. Raises BackendFailed."""


class ITunDevice(Interface):
    """An open tun device, or something that stands for one."""

    name: str = Attribute("The device's name, as the operator sees it.")
    mtu_bytes: int = Attribute("The largest inner packet.")
    vnet_header_bytes: int = Attribute(
        "0: plain IP packets. 10 or 12: each packet follows a virtio_net_hdr of that size, may "
        "be a super-packet of up to 64 KB, and its checksum may still have to be filled in."
    )
    takes_datagrams: bool = Attribute(
        "Whether datagrams of one UDP flow, too, may be written as a super-packet: with a "
        "virtio_net_hdr, since Linux 6.2."
    )
    on_lost: Callable[[str], None] = Attribute(
        "Called with the reason when the device is gone that nobody has closed; its owner sets it."
    )

    def start_reading(packets_ready: Callable[[], None]) -> None:
        """Call `packets_ready` on the reactor's thread whenever packets wait."""

    def read_packets(limit: int) -> list[bytes]:
        """Up to `limit` packets that wait now; empty when there are none."""

    def write_packets(packets: Iterable[bytes]) -> int:
        """Hand packets to the kernel; gives the number that it refused (dropped)."""

    async def close() -> None:
        """Remove device, addresses, routes and rules; closing twice does no harm."""


class IDescriptorDevice(ITunDevice):
    """A tun device that a packet engine with threads of its own may read and write itself."""

    def descriptors() -> tuple[int, ...]:
        """Those of its queues, non-blocking; none when it is closed."""

    def lost(reason: str) -> None:
        """Whoever reads the descriptor found that the device is gone."""


class IRoutedTunDevice(ITunDevice):
    """A gateway's tun device, to which networks behind clients can be led."""

    async def set_routes(networks: Collection[Network]) -> None:
        """Let the kernel send what is for these networks, and for no others, to the device.

        Raises TunUnavailable: one that is new cannot be had, the text says which and why; then
        none of the new ones is there.
        """


class ITunBackend(Interface):
    """Makes tun devices."""

    async def open(
        addresses: Sequence[IPv4Interface | IPv6Interface], mtu_bytes: int
    ) -> IRoutedTunDevice:
        """A device that is up, with the gateway's own addresses and offloads where there are.

        Raises TunUnavailable, whose text says what would help.
        """


class IAdapter(ITunDevice):
    """The client's tun device, with the addresses, routes and resolvers of one tunnel."""

    async def apply(settings: AdapterSettings) -> None:
        """Be what these settings say from now on: another MTU, other addresses, other routes.

        Raises TunUnavailable.
        """

    async def prepare_reconnect() -> None:
        """The host's network may have changed: let the gateway be reached past the tunnel again.

        Raises TunUnavailable.
        """


class IAdapterBackend(Interface):
    """Makes the client's adapters."""

    async def open(settings: AdapterSettings) -> IAdapter:
        """An adapter that is up. Raises TunUnavailable, whose text says what would help."""


class IInnerNetwork(Interface):
    """The network behind a tunnel, reached from outside it."""

    async def connect(host: str, port: int, timeout_s: float) -> int:
        """The descriptor of a connected, non-blocking TCP socket, now the caller's to close.

        Names are looked up behind the tunnel. Raises ConnectError or DNSLookupError (of
        twisted.internet.error).
        """

    async def run(command: Sequence[str]) -> int:
        """Run a command that has nothing but this network; gives its exit status.

        Raises TunUnavailable.
        """


class IPacketObserver(Interface):
    """Who is told of what the packet engine does not handle itself: a tunnel's control plane."""

    def control_received(name: ChannelName, kind: int, payload: bytes) -> None:
        """A packet that is not data came on that channel."""

    def peer_moved(path: PeerPath) -> None:
        """A DTLS record that authenticates came from a new address, to which answers now go."""


class ICSTPStream(Interface):
    """The CSTP channel as the engine sees it: whole frames out, batches in."""

    encoding: str = Attribute("How the peer may compress packets, as in X-CSTP-Content-Encoding.")

    def take_over(received: Callable[[bytes], None], writable: Callable[[], None]) -> None:
        """Hand all that comes from now on to `received`; call `writable` when congestion is over.

        What came before and was given back comes first, after this call has returned.
        """

    def write_frames(frames: Sequence[bytes]) -> int:
        """Send each frame in a TLS record of its own; gives how many were taken.

        Fewer than all: the connection is congested, the rest was not taken.
        """

    def write_last(frame: bytes) -> None:
        """Send one more frame before the owner closes it, congested or not."""

    def abort(reason: str) -> None:
        """End the connection at once: the peer broke the rules, `reason` says which."""


class IRecordKeeper(Interface):
    """Who seals and opens the TLS records of a connection instead of its stream."""

    def keep(records: TLSRecords) -> None:
        """Read and write the connection from now on; its descriptor is the keeper's."""

    def give_back() -> ReturnedConnection:
        """Read and write it no more; what has to go out yet has TLS's goodbye at the end."""


class IHandedOverStream(ICSTPStream):
    """A CSTP channel whose TLS records a packet engine may seal and open itself."""

    def hand_over(keeper: IRecordKeeper) -> None:
        """Let `keeper` have the records, as soon as it can be; where it cannot, nothing changes."""

    def take_back(returned: ReturnedConnection) -> None:
        """The keeper is done: nothing more comes, and nothing goes but what is unsent."""

    def end(reason: str) -> None:
        """The keeper has given it back, for it is over."""


class IPacketEngine(Interface):
    """Moves packets in batches between the tun device and the channels of all tunnels."""

    def attach(
        tunnel_id: int,
        lease: Lease,
        networks: Sequence[Network],
        mtu_bytes: int,
        observer: IPacketObserver,
        *,
        filters: Sequence[FilterRule] = (),
    ) -> None:
        """Begin to route packets to and from these addresses (and networks behind the client).

        `filters` are kept to as model/packet_filter.py has it; without any, everything passes.
        """

    def replace_channel(
        tunnel_id: int, name: ChannelName, channel: ICSTPStream | DTLSChannel | None
    ) -> None:
        """Give a tunnel its CSTP or its DTLS channel, another one, or none any more.

        Data goes over DTLS from the moment that it is given; what was handed over before goes
        out first.
        """

    def send_control(tunnel_id: int, name: ChannelName, kind: int, payload: bytes) -> None:
        """Send a packet that is not data on that channel, if it is there."""

    def counters(tunnel_id: int) -> Counters:
        """What the tunnel has moved so far, over all of its channels."""

    def activity(tunnel_id: int, name: ChannelName) -> ChannelActivity | None:
        """When that channel last received and last sent; None when it is not there."""

    def detach(tunnel_id: int) -> None:
        """Forget the tunnel and its channels."""


class ISessionStore(Interface):
    """Keeps sessions beyond connections and processes."""

    async def save(record: SessionRecord) -> None:
        """Insert or replace, by token digest. Raises BackendFailed."""

    async def find(token_digest: bytes) -> SessionRecord | None:
        """The session with this digest, if there is one. Raises BackendFailed."""

    async def remove(token_digest: bytes) -> None:
        """Forget it; removing what is not there does no harm. Raises BackendFailed."""

    async def sessions() -> tuple[SessionRecord, ...]:
        """All of them. Raises BackendFailed."""

    async def close() -> None:
        """Flush and let go."""


class IEventListener(Interface):
    """Hears of everything that happens, after it happened; must not block nor raise."""

    def event_happened(event: Event) -> None:
        """One event."""


class IBackend(Interface):
    """What a dropin under twisted/plugins announces: a backend that can be configured."""

    kind: str = Attribute("One of anyvpn.plugins.KINDS.")
    name: str = Attribute("What the configuration calls it, unique within its kind.")
    summary: str = Attribute("One line for `anyvpn backends`.")

    def settings_class() -> type:
        """The attrs class that holds its settings: the TOML table is read into it, strictly."""

    def build(settings: object, reactor: object) -> object:
        """Make the backend from its settings. Raises ConfigurationError."""
