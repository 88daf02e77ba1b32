"""Lets clients in by their TLS certificate, which TLS itself has verified before."""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from anyvpn.backends.authenticator_certificate_rules import CertificateCheck, CertificateRules
from anyvpn.errors import LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import CertificateRequest, Identity


@attrs.frozen
class Settings(CertificateRules):
    """Which certificates are accepted; their authorities stand in `client_ca` of [tls]."""


def build(settings: Settings, reactor: IReactorTime) -> CertificateAuthenticator:
    """What the configuration `backend = "certificate"` makes. Raises: ConfigurationError."""
    return CertificateAuthenticator(CertificateCheck(settings, reactor))


@implementer(IAuthenticator)
class CertificateAuthenticator:
    """Takes the certificate that the connection brought, or asks for one."""

    def __init__(self, check: CertificateCheck) -> None:
        self._check = check

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Whose certificate it is.

        Raises: LoginRejected: there is none, or it breaks a rule.
        """
        return await self._check.identify(await shown_certificates(dialogue))


async def shown_certificates(dialogue: IDialogue) -> tuple[bytes, ...]:
    """The client's verified chain (DER), leaf first; it is asked for one if it has shown none.

    Raises: LoginRejected: it has none, or one that TLS does not accept.
    """
    request = dialogue.request
    if request.certificates:
        return request.certificates
    if request.certificate_problem:
        raise LoginRejected(f"the certificate is not accepted: {request.certificate_problem}")
    chain = await dialogue.ask(CertificateRequest())
    if not isinstance(chain, tuple) or not chain:
        raise LoginRejected("the client has shown no certificate")
    return chain
