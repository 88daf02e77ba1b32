"""Every exception that anyvpn raises on purpose.

AnyvpnError
    ConfigurationError          the operator's file or option is wrong
        BackendUnavailable      a backend cannot be found, or cannot be imported
        EngineUnavailable       a packet engine that is not installed
    StartUpFailed               what was configured cannot be had, such as a port that is taken
    PeerError                   the other side sent what it must not
        MalformedMessage        a document, header or form cannot be read
        MalformedPacket         a CSTP frame, DTLS payload or inner packet cannot be read
            PacketTooLong
        MessageTooLarge         more bytes than we are willing to hold
        DTLSError
            HandshakeFailed     a DTLS handshake cannot go on
        CompressionError        a compressed packet cannot be expanded
    LoginRejected               who asks may not come in; the text is for the log only
    LoginAborted                the dialogue ended without a verdict
    AddressesExhausted          no inner address is free
    AccessDenied                a known identity has no policy, or may have no further session
    TunUnavailable              the tun device cannot be made or configured
    NetworkRefused              a network behind a client cannot be led to it
    BackendFailed               a server or store behind a backend did not do its work
        LoginUndecided          and what the user typed was refused by another one
    ControlFailed               a running gateway cannot be asked what it does
    ClientError                 a client's connection cannot go on; the text says what to do
        GatewayUnreachable      no connection, or none that answers
        GatewayUntrusted        its certificate is not one to talk to
        LoginDenied             the gateway lets the user not in
        TokenRejected           the session is over; only a new login helps
        TunnelRefused           the gateway grants no tunnel now
        ProfileUnavailable      an announced client profile cannot be had as announced
"""

from __future__ import annotations


class AnyvpnError(Exception):
    """The root of all errors of this project."""


class ConfigurationError(AnyvpnError):
    """The operator's file or option is wrong; each problem is one line, ready to print."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class BackendUnavailable(ConfigurationError):
    """A backend that the configuration names cannot be found or imported."""


class EngineUnavailable(ConfigurationError):
    """The packet engine that was chosen is not installed."""


class StartUpFailed(AnyvpnError):
    """The gateway cannot start; the text is one line for the operator."""


class PeerError(AnyvpnError):
    """The other side sent what it must not; never shown to it as a traceback."""


class MalformedMessage(PeerError):
    """A document, a header or a form that cannot be read."""


class MessageTooLarge(PeerError):
    """More bytes than we are willing to hold."""


class MalformedPacket(PeerError):
    """A CSTP frame, a DTLS payload or an inner packet that cannot be read."""


class PacketTooLong(MalformedPacket):
    """A packet longer than its frame can carry."""


class CompressionError(PeerError):
    """A compressed packet that cannot be expanded within its limit."""


class DTLSError(PeerError):
    """Something is wrong on the DTLS channel."""


class HandshakeFailed(DTLSError):
    """A DTLS handshake that cannot go on; the text says why."""


class LoginRejected(AnyvpnError):
    """Who asks may not come in; the text is for the log and says why, the peer sees none of it."""


class LoginAborted(AnyvpnError):
    """The dialogue ended without a verdict: the client went away, or its time was up."""


class AddressesExhausted(AnyvpnError):
    """No inner address is free for this session."""


class AccessDenied(AnyvpnError):
    """A known identity that has no policy here, or may have no further session."""


class TunUnavailable(AnyvpnError):
    """The tun device cannot be made or configured; the text says what would help."""


class NetworkRefused(AnyvpnError):
    """A network behind a client cannot be led to it; the text says why."""


class BackendFailed(AnyvpnError):
    """A directory, a store or another server behind a backend did not do its work."""


class LoginUndecided(BackendFailed):
    """One backend could not say who it is, another one has refused the same answers.

    It is told as a failure, and counted as a guess, which it may be.
    """


class ControlFailed(AnyvpnError):
    """A running gateway cannot be asked; the text is one line for the operator."""


class ClientError(AnyvpnError):
    """A client's connection cannot go on; the text is for the user and says what to do."""


class GatewayUnreachable(ClientError):
    """There is no connection to the gateway, or none that answers in time."""


class GatewayUntrusted(ClientError):
    """The gateway's certificate is not one to talk to; `pin` is what would accept it."""

    def __init__(self, reason: str, pin: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.pin = pin


class LoginDenied(ClientError):
    """The gateway does not let the user in; the text is the gateway's, made printable."""


class TokenRejected(ClientError):
    """The gateway knows the session no more: only a new login helps."""


class TunnelRefused(ClientError):
    """The gateway grants no tunnel now; `status` is its HTTP status."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class ProfileUnavailable(ClientError):
    """A client profile that the gateway insists on cannot be had as it was announced."""
