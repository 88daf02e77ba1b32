"""An identity provider of OpenID Connect with a login form, by idpyoidc, for tests.

    oidc_provider.py SETTINGS

SETTINGS is the JSON file that OIDCProvider writes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from idpyoidc.message.oidc import AccessTokenRequest, AuthorizationRequest
from idpyoidc.server import Server
from idpyoidc.server.exception import ClientAuthenticationError, FailedAuthentication
from idpyoidc.server.user_authn.user import UserAuthnMethod, create_signed_jwt
from twisted.internet import ssl
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program

# Ours
_SERVES = "The identity provider serves"
_IDPYOIDC = "idpyoidc.server"
_START_TIME_S = 30.0


class OIDCProvider:
    """The server, which may be started again: with the same users and clients, but with new keys.

    `users` maps names to `password` and claims. `clients` maps names to their secret and their
    one redirect URI.
    """

    def __init__(
        self,
        directory: Path,
        users: Mapping[str, Mapping[str, Any]],
        clients: Mapping[str, tuple[str, str]],
        *,
        origin: str,
        address: str,
        tls: Path,
        namespace: Namespace | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.origin = origin
        self._namespace = namespace
        self._program: Program | None = None
        self.directory = directory
        self._file = directory / "settings.json"
        self._file.write_text(
            json.dumps(
                {
                    "users": users,
                    "clients": clients,
                    "origin": origin,
                    "address": address,
                    "tls": str(tls),
                    "dies": str(self._dies),
                }
            )
        )

    @property
    def _dies(self) -> Path:
        return self.directory / "dies"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self._dies.unlink(missing_ok=True)
        command = [sys.executable, "-m", __name__, str(self._file)]
        here = command if self._namespace is None else self._namespace.command(command)
        self._program = Program("the identity provider", here, directory=self.directory)
        self._program.wait_for(_SERVES, limit_s=_START_TIME_S)

    def die_in_mid_login(self) -> None:
        """End when the next user's code is to be redeemed."""
        self._dies.touch()

    def stop(self) -> None:
        """End it."""
        if self._program is not None:
            self._program.stop(signal.SIGTERM)


def _configuration(settings: Mapping[str, Any]) -> dict[str, Any]:
    def endpoint(module: str, name: str, path: str, **more: object) -> dict[str, Any]:
        return {"path": path, "class": f"{_IDPYOIDC}.oidc.{module}.{name}", "kwargs": more}

    return {
        "issuer": settings["origin"],
        "key_conf": {
            "key_defs": [
                {"type": "RSA", "use": ["sig"]},
                {"type": "EC", "crv": "P-256", "use": ["sig"]},
            ],
            "uri_path": "keys",
        },
        "token_handler_args": {
            "jwks_def": {"key_defs": [{"type": "OCT", "use": ["enc"], "kid": "code"}]},
            "code": {"kwargs": {"lifetime": 60}},
            "token": {"class": f"{_IDPYOIDC}.token.jwt_token.JWTToken", "kwargs": {}},
            "id_token": {"class": f"{_IDPYOIDC}.token.id_token.IDToken", "kwargs": {}},
        },
        "endpoint": {
            "provider_info": endpoint(
                "provider_config",
                "ProviderConfiguration",
                ".well-known/openid-configuration",
                client_authn_method=None,
            ),
            "authorization": endpoint(
                "authorization",
                "Authorization",
                "authorization",
                client_authn_method=None,
                response_types_supported=["code"],
            ),
            "token": endpoint(
                "token",
                "Token",
                "token",
                client_authn_method=["client_secret_basic", "client_secret_post"],
            ),
            "userinfo": endpoint("userinfo", "UserInfo", "userinfo"),
        },
        "add_on": {
            "pkce": {
                "function": f"{_IDPYOIDC}.oauth2.add_on.pkce.add_support",
                "kwargs": {"essential": True, "code_challenge_methods": {"S256": None}},
            }
        },
        "authentication": {
            "user": {
                "acr": "password",
                "class": f"{__name__}._LoginForm",
                "kwargs": {"users": settings["users"]},
            }
        },
        "userinfo": {
            "class": f"{_IDPYOIDC}.user_info.UserInfo",
            "kwargs": {
                "db": {
                    name: {key: claim for key, claim in user.items() if key != "password"}
                    for name, user in settings["users"].items()
                }
            },
        },
        "claims_interface": {
            "class": f"{_IDPYOIDC}.session.claims.ClaimsInterface",
            "kwargs": {},
        },
    }


def _clients(clients: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    return {
        name: {
            "client_secret": secret,
            "redirect_uris": [(redirect_uri, {})],
            "response_types_supported": ["code"],
            "allowed_scopes": ["openid", "profile", "email"],
            "scopes_to_claims": {
                "openid": ["sub"],
                "profile": ["preferred_username", "groups"],
                "email": ["email"],
            },
            "client_salt": "salt",
        }
        for name, (secret, redirect_uri) in clients.items()
    }


class _LoginForm(UserAuthnMethod):  # type: ignore[misc]  # idpyoidc has no types
    """Asks for name and password."""

    def __init__(self, users: Mapping[str, Any], upstream_get: Any = None) -> None:
        super().__init__(upstream_get=upstream_get)
        self._users = users

    def __call__(self, **about: Any) -> str:
        """The form, in which the request goes along."""
        keys = self.upstream_get("attribute", "keyjar")
        token = create_signed_jwt(self.upstream_get("context").issuer, keys, **about)
        return (
            "<!DOCTYPE html>\n<title>Identity provider</title>\n<p>Who are you?</p>\n"
            '<form method="post" action="/login">\n'
            f'<input type="hidden" name="token" value="{escape(token)}">\n'
            '<input name="user"><input name="password" type="password">\n'
            "<button>Log in</button>\n</form>\n"
        )

    def verify(self, *_: Any, **answers: str) -> str:
        """Who it is."""
        user = self._users.get(answers["user"])
        if user is None or user["password"] != answers["password"]:
            raise FailedAuthentication("Wrong user or password.")
        return answers["user"]


class _Pages(Resource):
    """Hands requests to idpyoidc, and its answers back."""

    isLeaf = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted has no types here
        self._server = Server(_configuration(settings))
        self._server.get_context().cdb.update(_clients(settings["clients"]))
        self._endpoints = {each.endpoint_path: each for each in self._server.endpoint.values()}
        self._dies = Path(settings["dies"])

    def render(self, request: Request) -> bytes:
        """One page."""
        path = request.path.decode().strip("/")
        given = {name.decode(): values[0].decode() for name, values in (request.args or {}).items()}
        if path == "token" and self._dies.exists():
            os._exit(1)
        try:
            if path == "keys":
                return json.dumps(self._server.keyjar.export_jwks()).encode()
            if path == "login":
                return self._log_in(request, given)
            return self._ask(request, self._endpoints[path], given)
        except FailedAuthentication as error:
            return _refuse(request, 403, {"error": str(error)})
        except ClientAuthenticationError as error:
            why = {"error": "invalid_client", "error_description": str(error)}
            return _refuse(request, 401, why)
        except Exception as error:  # whatever a request breaks is a fault of whoever asks
            why = {"error": "invalid_request", "error_description": str(error)}
            return _refuse(request, 400, why)

    def _ask(self, request: Request, endpoint: Any, given: Mapping[str, str]) -> bytes:
        headers = {
            name.decode().lower(): values[0].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        about = {"headers": headers, "method": request.method.decode()}
        asked = endpoint.parse_request(given, http_info=about)
        if "error" in asked:
            return _refuse(request, 400, asked.to_dict())
        if endpoint.name == "token":
            asked = AccessTokenRequest(**asked)
        return self._answer(
            request, endpoint, asked, endpoint.process_request(asked, http_info=about)
        )

    def _log_in(self, request: Request, given: Mapping[str, str]) -> bytes:
        """The form comes back."""
        method = self._server.get_context().authn_broker.get_method_by_id("user")
        user = method.verify(**given)
        about = method.unpack_token(given["token"])
        asked = AuthorizationRequest().from_urlencoded(about["query"])
        endpoint = self._server.get_endpoint("authorization")
        session = endpoint.create_session(
            asked, user, about["authn_class_ref"], about["iat"], method
        )
        found = endpoint.authz_part2(request=asked, session_id=session)
        return self._answer(request, endpoint, asked, found)

    @staticmethod
    def _answer(request: Request, endpoint: Any, asked: Any, found: Any) -> bytes:
        if "http_response" in found:
            return str(found["http_response"]).encode()
        if "error" in found:
            return _refuse(request, 400, found.to_dict())
        made = endpoint.do_response(request=asked, **found)
        for name, text in made["http_headers"]:
            request.setHeader(name, text)  # type: ignore[no-untyped-call]  # nor here
        if made.get("response_placement", endpoint.response_placement) == "body":
            return str(made["response"]).encode()
        request.redirect(made["response"].encode())  # type: ignore[no-untyped-call]  # nor here
        return b""


def _refuse(request: Request, status: int, why: Mapping[str, Any]) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"application/json")  # type: ignore[no-untyped-call]
    return json.dumps(why).encode()


def _serve(settings: Mapping[str, Any]) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - choosing it is for programs

    pem = Path(settings["tls"]).read_text()
    certificate = ssl.PrivateCertificate.loadPEM(pem)  # type: ignore[no-untyped-call]  # nor here
    port = int(settings["origin"].rpartition(":")[2])
    site = Site(_Pages(settings))  # type: ignore[no-untyped-call]  # nor here
    reactor.listenSSL(  # type: ignore[attr-defined]  # the default reactor can
        port, site, certificate.options(), interface=settings["address"]
    )
    print(_SERVES, settings["origin"], flush=True)
    reactor.run()


if __name__ == "__main__":
    _serve(json.loads(Path(sys.argv[1]).read_text()))
