"""An identity provider of SAML 2.0 with a login form, by pysaml2, for tests.

    saml_provider.py SETTINGS

SETTINGS is the JSON file that SAMLProvider writes.
"""

from __future__ import annotations

import json
import signal
import sys
import warnings
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from twisted.internet import ssl
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a cipher that it knows and nobody uses
    from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
    from saml2.config import IdPConfig
    from saml2.metadata import entity_descriptor
    from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
    from saml2.samlp import STATUS_AUTHN_FAILED
    from saml2.server import Server
    from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

# Ours
_SERVES = "The identity provider serves"
_PASSWORD_CLASS = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
_FORM = """<!DOCTYPE html>
<title>Identity provider</title>
<p>{text}</p>
<form method="post" action="/login">
{kept}
<input name="user"><input name="password" type="password">
<button>Log in</button>
</form>
"""


class SAMLProvider:
    """The server, which may be started again with other keys or users.

    `users` maps names to `password`, `attributes` (name to values) and `answer`: what of
    pysaml2's `create_authn_response` is to be otherwise for this user. The metadata of the
    service that it is for is read at the start. `key` signs; TLS has its own.
    """

    def __init__(
        self,
        directory: Path,
        users: Mapping[str, Mapping[str, Any]],
        *,
        origin: str,
        address: str,
        key: Path,
        certificate: Path,
        tls: Path,
        namespace: Namespace | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._namespace = namespace
        self._program: Program | None = None
        self.directory = directory
        self._settings = {
            "users": users,
            "origin": origin,
            "address": address,
            "key": str(key),
            "certificate": str(certificate),
            "tls": str(tls),
        }

    def metadata(self) -> str:
        """What the service must know of it; it need not be started for that."""
        return str(entity_descriptor(_configuration(self._settings)))

    def start(self, service_metadata: str) -> None:
        """Start it for this service, and wait until it serves."""
        file = self.directory / "settings.json"
        file.write_text(json.dumps({**self._settings, "service": service_metadata}))
        command = [sys.executable, "-m", __name__, str(file)]
        here = command if self._namespace is None else self._namespace.command(command)
        self._program = Program("the identity provider", here)
        self._program.wait_for(_SERVES)

    @property
    def program(self) -> Program:
        """The running server."""
        assert self._program is not None, "not started"
        return self._program

    def stop(self) -> None:
        """End it."""
        if self._program is not None:
            self._program.stop(signal.SIGTERM)


def _configuration(settings: Mapping[str, Any]) -> IdPConfig:
    login = (f"{settings['origin']}/login", BINDING_HTTP_REDIRECT)
    about: dict[str, Any] = {
        "entityid": f"{settings['origin']}/metadata",
        "key_file": settings["key"],
        "cert_file": settings["certificate"],
        "service": {
            "idp": {
                "endpoints": {"single_sign_on_service": [login]},
                "policy": {"default": {"lifetime": {"minutes": 5}}},
                "want_authn_requests_signed": 'AuthnRequestsSigned="true"'
                in settings.get("service", ""),
            }
        },
    }
    if "service" in settings:
        about["metadata"] = {"inline": [settings["service"]]}
    return IdPConfig().load(about)


class _Login(Resource):
    """Shows a form for a request, and answers the request when the form is filled in."""

    isLeaf = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted has no types here
        self._users = settings["users"]
        self._server = Server(config=_configuration(settings))

    def render_GET(self, request: Request) -> bytes:
        """The form, for a request that is one of the service's."""
        given = _given(request)
        self._asked(given)
        return self._form(given, "Who are you?")

    def render_POST(self, request: Request) -> bytes:
        """The answer, in a form that the browser sends on by itself."""
        given = _given(request)
        asked = self._asked(given)
        name = given.pop("user", "")
        password = given.pop("password", "")
        user = self._users.get(name)
        if user is None or user["password"] != password:
            request.setResponseCode(403)
            return self._form(given, "Wrong user or password.")
        about = self._server.response_args(asked.message, [BINDING_HTTP_POST])
        about.pop("binding")
        if user.get("locked"):
            answer = self._server.create_error_response(
                about["in_response_to"],
                about["destination"],
                (STATUS_AUTHN_FAILED, "The account is locked"),
            )
        else:
            name_id = NameID(text=name, format=NAMEID_FORMAT_PERSISTENT)
            made = {
                **about,
                "name_id": name_id,
                "authn": {"class_ref": _PASSWORD_CLASS},
                "sign_assertion": True,
                "sign_alg": SIG_RSA_SHA256,
                "digest_alg": DIGEST_SHA256,
                **user.get("answer", {}),
            }
            answer = self._server.create_authn_response(user.get("attributes", {}), **made)
        sent = self._server.apply_binding(
            BINDING_HTTP_POST, str(answer), about["destination"], given["RelayState"], response=True
        )
        return str(sent["data"]).encode("utf-8")

    def _asked(self, given: Mapping[str, str]) -> Any:
        """The request; raises when it is none, or not signed as the service's metadata says."""
        return self._server.parse_authn_request(
            given["SAMLRequest"],
            BINDING_HTTP_REDIRECT,
            relay_state=given.get("RelayState"),
            sigalg=given.get("SigAlg"),
            signature=given.get("Signature"),
        )

    def _form(self, given: Mapping[str, str], text: str) -> bytes:
        kept = "".join(
            f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
            for name, value in given.items()
        )
        return _FORM.format(text=text, kept=kept).encode("utf-8")


def _given(request: Request) -> dict[str, str]:
    return {name.decode(): values[0].decode() for name, values in (request.args or {}).items()}


def _serve(settings: Mapping[str, Any]) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - choosing it is for programs

    pem = Path(settings["tls"]).read_text()
    certificate = ssl.PrivateCertificate.loadPEM(pem)  # type: ignore[no-untyped-call]  # nor here
    port = int(settings["origin"].rpartition(":")[2])
    site = Site(_Login(settings))  # type: ignore[no-untyped-call]  # nor here
    reactor.listenSSL(  # type: ignore[attr-defined]  # the default reactor can
        port, site, certificate.options(), interface=settings["address"]
    )
    print(_SERVES, settings["origin"], flush=True)
    reactor.run()


if __name__ == "__main__":
    _serve(json.loads(Path(sys.argv[1]).read_text()))
