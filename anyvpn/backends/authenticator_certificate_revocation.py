"""Whether certificates are revoked, by lists in files and by asking the authority's responder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from anyvpn.backends.authenticator_certificate_crl import RevocationLists
from anyvpn.backends.authenticator_certificate_ocsp import Responder, ResponderFailed
from anyvpn.errors import LoginRejected

log = Logger()


@dataclass(frozen=True, slots=True)
class RevocationSettings:
    """Where to look; `unknown` is "refuse" or "accept" for those of whom nobody knows."""

    crl: tuple[Path, ...] = ()
    ocsp: bool = False
    ocsp_url: str = ""
    ocsp_time_s: float = 5.0
    unknown: str = "refuse"


class Revocation:
    """Looks into the lists first, and asks the responder then.

    The first certificate of a chain must be known to be good. Those of authorities are looked up
    in the lists too, where there is one of their issuer.
    """

    def __init__(self, settings: RevocationSettings, reactor: IReactorTime) -> None:
        """Raises: ConfigurationError: a list cannot be read."""
        self._settings = settings
        self._lists = RevocationLists(settings.crl) if settings.crl else None
        self._responder = (
            Responder(reactor, settings.ocsp_url, settings.ocsp_time_s) if settings.ocsp else None
        )

    async def check(self, chain: Sequence[x509.Certificate]) -> None:
        """Let a verified chain pass, leaf first. Raises: LoginRejected."""
        if self._lists is None and self._responder is None:
            return
        if len(chain) < 2:
            raise LoginRejected("the certificate is its own issuer, so nobody can revoke it")
        doubts: list[str] = []
        is_known = False
        if self._lists is not None:
            doubt = await deferToThread(self._lists.check, chain)
            is_known = not doubt
            doubts.append(doubt)
        if self._responder is not None:
            try:
                await self._responder.check(chain[0], chain[1])
                is_known = True
            except ResponderFailed as error:
                doubts.append(str(error))
        if is_known:
            return
        doubt = "; ".join(filter(None, doubts))
        if self._settings.unknown == "refuse":
            raise LoginRejected(f"nobody knows whether the certificate is revoked: {doubt}")
        log.warn(
            "A certificate is accepted of which nobody knows whether it is revoked: {doubt}",
            doubt=doubt,
        )
