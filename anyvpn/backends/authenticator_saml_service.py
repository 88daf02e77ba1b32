"""Our side of SAML by pysaml2: requests, our metadata, and the signatures of answers.

pysaml2 is asked for what it is good at. Its reading of answers is not used: it takes keys out of
the answer where metadata has none, SHA-1, answers without destination or audience, and it waits
for its helper program without end.
"""

from __future__ import annotations

import logging
import re
import subprocess
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from anyvpn.backends.authenticator_saml_documents import Answer, shown
from anyvpn.backends.authenticator_saml_metadata import (
    REDIRECT,
    SHORTEST_KEY_BITS,
    IdentityProvider,
)
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a cipher that it knows and we do not use
    import saml2
    from saml2 import samlp, sigver
    from saml2.client import Saml2Client
    from saml2.config import SPConfig
    from saml2.metadata import entity_descriptor
    from saml2.xml.schema import XMLSchemaError
    from saml2.xmldsig import SIG_RSA_SHA256

# What it has to say comes as exceptions; its log quotes whole documents
logging.getLogger("saml2").addHandler(logging.NullHandler())

# What others say, of which xmlsec1 1.2 says the latter part only
_SCHEMA_REASON = re.compile(r"^Reason: (.+)$", re.MULTILINE)
_VERIFIED = re.compile(r"^(Verification status: )?OK$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Keys:
    """What our requests are signed with, in files of PEM."""

    key: Path
    certificate: Path

    def check(self) -> None:
        """See that they are what they should be, and belong together.

        Raises: ConfigurationError.
        """
        try:
            key = load_pem_private_key(_content(self.key, "signing_key"), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            problem = "has no private key in PEM without a password"
            raise ConfigurationError(f"signing_key: {self.key} {problem}") from None
        if not isinstance(key, RSAPrivateKey) or key.key_size < SHORTEST_KEY_BITS:
            problem = f"is no RSA key of {SHORTEST_KEY_BITS} bits or more"
            raise ConfigurationError(f"signing_key: {self.key} {problem}")
        try:
            content = _content(self.certificate, "signing_certificate")
            certificate = x509.load_pem_x509_certificate(content)
        except ValueError:
            problem = "has no certificate in PEM"
            raise ConfigurationError(f"signing_certificate: {self.certificate} {problem}") from None
        if certificate.public_key() != key.public_key():
            problem = f"is not of the key {self.key}"
            raise ConfigurationError(f"signing_certificate: {self.certificate} {problem}")


def _content(file: Path, setting: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        problem = f"{setting}: {file} cannot be read: {error.strerror}"
        raise ConfigurationError(problem) from None


class ServiceProvider:
    """The gateway as identity providers know it. Everything here blocks; any thread may call it."""

    def __init__(
        self,
        xmlsec1: Path,
        *,
        entity_id: str,
        acs_url: str,
        keys: Keys | None,
        name_id_format: str,
        force_authn: bool,
        time_s: float,
    ) -> None:
        """Raises: ConfigurationError: the keys cannot be used, or the program does not work."""
        try:
            self._program = _Program(xmlsec1, time_s)
        except BackendFailed as error:
            raise ConfigurationError(str(error)) from None
        self._signs = keys is not None
        self._force_authn = force_authn
        own: dict[str, object] = {
            "endpoints": {"assertion_consumer_service": [(acs_url, saml2.BINDING_HTTP_POST)]},
            "authn_requests_signed": self._signs,
            "want_assertions_signed": True,
        }
        if name_id_format:
            own |= {"name_id_policy_format": name_id_format, "name_id_format": [name_id_format]}
        about: dict[str, object] = {"entityid": entity_id, "service": {"sp": own}}
        if keys is not None:
            keys.check()
            about |= {"key_file": str(keys.key), "cert_file": str(keys.certificate)}
        self._config = SPConfig().load(about)
        self._client = Saml2Client(self._config)

    def metadata(self) -> bytes:
        """What identity providers must know of us."""
        return str(entity_descriptor(self._config)).encode("utf-8")

    def login_address(self, provider: IdentityProvider, request_id: str, relay_state: str) -> str:
        """Where the browser is sent with a request for a login."""
        _, request = self._client.create_authn_request(
            provider.login_url,
            message_id=request_id,
            sign=False,  # what is signed is the address, not the document in it
            force_authn="true" if self._force_authn else None,
        )
        sent = self._client.apply_binding(
            REDIRECT,
            str(request),
            provider.login_url,
            relay_state,
            sign=self._signs,
            sigalg=SIG_RSA_SHA256,
        )
        return str(dict(sent["headers"])["Location"])

    def check_signatures(self, answer: Answer, provider: IdentityProvider) -> None:
        """Check every signature of an answer by the certificates of metadata, and no others.

        Raises: LoginRejected: one does not fit.
        Raises: BackendFailed: xmlsec1 does not do its work.
        """
        context = sigver.SecurityContext(
            self._program, metadata=_Certificates(provider), only_use_keys_in_metadata=True
        )
        response = samlp.response_from_string(answer.text)
        for element in answer.signed():
            item = response if element is answer.response else response.assertion[0]
            what = "answer" if item is response else "assertion"
            try:
                context.check_signature(item, saml2.class_name(item), answer.text)
            except sigver.SignatureError as error:
                raise LoginRejected(f"the {what}{_why(error)}") from None


def _why(error: sigver.SignatureError) -> str:
    """What is wrong, to be put behind the name of what is signed."""
    if isinstance(error.__cause__, XMLSchemaError):
        said = _SCHEMA_REASON.search(str(error.__cause__.args[0]["error"]))
        return f" does not fit SAML's schema{f': {shown(said[1])}' if said else ''}"
    if error.args and isinstance(error.args[0], dict):
        return f"'s signature is not as it should be: {shown(str(error.args[0]['message']))}"
    return "'s signature fits no certificate of the identity provider"


class _Certificates:
    """Gives pysaml2 the certificates of one identity provider, whoever the answer says it is by."""

    def __init__(self, provider: IdentityProvider) -> None:
        self._provider = provider

    def certs(self, _issuer: str, _role: str, _use: str) -> Iterable[tuple[None, str]]:
        """Pairs of a name and a certificate in base64."""
        return [(None, each) for each in self._provider.certificates]


class _Program(sigver.CryptoBackend):  # type: ignore[misc]  # pysaml2 has no types
    """Lets xmlsec1 check a signature, with a time limit."""

    def __init__(self, path: Path, time_s: float) -> None:
        """Raises: BackendFailed: it does not work."""
        super().__init__()
        self._path = path
        self._time_s = time_s
        said = self._run("--version")
        found = re.match(r"\S+ (\d+)\.(\d+)", said.stdout)
        if found is None:
            raise BackendFailed(f"{path} does not say which version it is")
        # Since 1.3 only keys that the document names are looked at, unless it is told so
        is_strict = (int(found[1]), int(found[2])) >= (1, 3)
        self._options = ("--lax-key-search",) if is_strict else ()

    def validate_signature(
        self, signedtext: str, cert_file: str, cert_type: str, node_name: str, node_id: str
    ) -> bool:
        """Whether the key of the certificate has made the signature of one element."""
        done = self._run(
            "--verify",
            *self._options,
            *("--enabled-reference-uris", "same-doc"),
            *("--enabled-key-data", "raw-x509-cert"),  # and none that the document brings
            *(f"--pubkey-cert-{cert_type}", cert_file),
            *("--id-attr:ID", node_name),
            *("--node-id", node_id),
            "/dev/stdin",
            document=signedtext,
        )
        return done.returncode == 0 and _VERIFIED.search(done.stderr) is not None

    def _run(self, *arguments: str, document: str = "") -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - the operator's program, no shell
                [str(self._path), *arguments],
                input=document,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=self._time_s,
                check=False,
            )
        except OSError as error:
            raise BackendFailed(f"{self._path} cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise BackendFailed(f"{self._path} has not ended in {self._time_s:g} s") from None
