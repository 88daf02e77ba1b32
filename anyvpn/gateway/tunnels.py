"""The tunnel desk: a CONNECT with a live token becomes a tunnel (phase 5)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address
from math import isinf

from anyvpn.dtls.suites import Mode
from anyvpn.errors import (
    AddressesExhausted,
    BackendFailed,
    NetworkRefused,
    PeerError,
    TunUnavailable,
)
from anyvpn.gateway.client_networks import ClientNetworks
from anyvpn.gateway.http_connection import Response
from anyvpn.gateway.session import Session
from anyvpn.gateway.settings import DTLSSettings
from anyvpn.gateway.tunnel import DTLSAgreement, Tunnel, TunnelParts
from anyvpn.gateway.tunnel_grant import Plan, grant, make_plan, told_lease
from anyvpn.model.authentication import LoginComplete
from anyvpn.model.events import Event, EventKind
from anyvpn.model.session import Ended
from anyvpn.model.tunnel_settings import TunnelOffer
from anyvpn.packets.stream import TLSStream
from anyvpn.wire.authentication import write_gateway_message
from anyvpn.wire.tunnel_settings import read_offer, write_settings

# From the protocol (protocol reference, sections 12.1 and 12.4)
PSK_LABEL = b"EXPORTER-openconnect-psk"
PSK_BYTES = 32
IDENTIFIER_BYTES = 32


class TunnelDesk:
    """Answers CONNECT."""

    def __init__(
        self,
        parts: TunnelParts,
        dtls: DTLSSettings,
        networks: ClientNetworks,
        certificate_hash: Callable[[str], str],
    ) -> None:
        self._parts = parts
        self._dtls = dtls
        self._networks = networks
        self._certificate_hash = certificate_hash
        self._stopped = False

    def stop(self) -> None:
        """Open no tunnel any more."""
        self._stopped = True

    async def open(
        self, stream: TLSStream, headers: tuple[tuple[bytes, bytes], ...], peer: str
    ) -> Response:
        """What a CONNECT is answered; it names the session by its token."""
        try:
            offer = read_offer(headers)
        except PeerError as error:
            return self._refuse(peer, 400, f"CONNECT: {error}")
        try:
            session = await self._parts.registry.find(offer.token) if offer.token else None
        except BackendFailed as error:
            return self._refuse(peer, 503, f"session store: {error}", "please try again later")
        if session is None:
            return self._refuse(peer, 401, "the token is not, or no longer, valid")
        return await self._open(stream, session, offer, peer)

    async def _open(
        self, stream: TLSStream, session: Session, offer: TunnelOffer, peer: str
    ) -> Response:
        plan = make_plan(
            offer,
            session.record.policy,
            self._dtls,
            ip_version=_ip_version(peer),
            path_mtu_bytes=stream.path_mtu(),
        )
        if not plan.families:
            why = "the client wants no IP version that its policy allows"
            return self._refuse(peer, 503, why, why, session)
        try:
            lease = await self._parts.registry.lease(session, plan.families)
        except AddressesExhausted as error:
            return self._refuse(peer, 503, str(error), "no address is free", session)
        except BackendFailed as error:
            return self._refuse(peer, 503, str(error), "please try again later", session)
        told = told_lease(lease, plan.families)
        if told is None:
            why = "the session's addresses are of another IP version"
            return self._refuse(peer, 503, why, why, session)
        try:
            await self._networks.take(session, peer)
        except (NetworkRefused, TunUnavailable) as error:
            why = "a network behind this client cannot be led to it"
            return self._refuse(peer, 503, str(error), why, session)
        if self._stopped:
            return self._refuse(peer, 503, "the gateway stops", "please try again later", session)
        if isinstance(session.record.state, Ended):
            return self._refuse(peer, 401, "the session has ended", "", session)
        agreement = self._agree(stream, plan)
        settings = grant(
            plan,
            told,
            dtls_port=self._dtls.port,
            dtls_identifier=b"" if agreement is None else agreement.identifier,
            remaining_s=self._remaining_s(session),
            post_auth_xml=self._post_auth_xml(stream, session, offer),
        )
        tunnel = Tunnel(self._parts, session, stream, agreement, peer=peer, dpd_s=plan.dpd_s)
        return Response(
            200,
            headers=tuple(write_settings(settings, anyconnect=plan.is_cisco)),
            reason=b"CONNECTED",
            take_over=partial(tunnel.begin, settings),
        )

    def _agree(self, stream: TLSStream, plan: Plan) -> DTLSAgreement | None:
        choice = plan.choice
        if choice is None:
            return None
        secret = plan.offer.dtls_master_secret
        if choice.mode is Mode.PSK:
            secret = stream.export_keying_material(PSK_LABEL, PSK_BYTES)
        identifier = self._parts.random(IDENTIFIER_BYTES)
        return DTLSAgreement(choice, identifier, secret, plan.dtls_encoding)

    def _remaining_s(self, session: Session) -> float:
        """What is left of the longest session; 0 without a limit."""
        ends_at_s = session.times_out_at_s()
        return 0.0 if isinf(ends_at_s) else max(1.0, ends_at_s - self._parts.timers.seconds())

    def _post_auth_xml(self, stream: TLSStream, session: Session, offer: TunnelOffer) -> str:
        """The document that ended the login, once more."""
        complete = LoginComplete(
            session_id=str(session.identifier),
            session_token=offer.token,
            server_cert_hash=self._certificate_hash(stream.server_name_indication()),
        )
        return write_gateway_message(complete).decode("utf-8")

    def _refuse(
        self, peer: str, status: int, why: str, reason: str = "", session: Session | None = None
    ) -> Response:
        """Say so to the client, in `reason` if it is to know why, and to the operator."""
        record = None if session is None else session.record
        self._parts.tell(
            Event(
                EventKind.TUNNEL_REFUSED,
                self._parts.timers.seconds(),
                user="" if record is None else record.identity.user,
                peer=peer,
                session_id=0 if record is None else record.session_id,
                profile="" if record is None else record.profile,
                detail=f"{status}: {why}",
            )
        )
        headers = ((b"X-Reason", reason.encode("ascii", "replace")),) if reason else ()
        phrase = HTTPStatus(status).phrase.encode("ascii")
        return Response(status, headers=headers, reason=phrase, closes=True)


def _ip_version(peer: str) -> int:
    try:
        return ip_address(peer.partition("%")[0]).version
    except ValueError:
        return 4
