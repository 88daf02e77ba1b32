"""An identity provider that says whatever a test wants, over TLS on loopback."""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlsplit

import trustme
from joserfc import jwt
from joserfc.jwk import RSAKey
from twisted.internet import reactor, ssl
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

AUTHORITY = trustme.CA()
KEY = RSAKey.generate_key(2048, parameters={"kid": "first", "use": "sig"})
OTHER_KEY = RSAKey.generate_key(2048, parameters={"kid": "second", "use": "sig"})
NOW_S = 1_800_000_000
CLIENT = "gateway"
SECRET = "s3cret/+ ä"
Change = Callable[[Any], Any]


class FakeProvider(Resource):
    """Keeps to the rules, but for what a test changes.

    `changes` maps "description", "keys", "answer" (of the token endpoint), "claims" (of the ID
    token), "header" and "user" to what is made of them; a page that is not JSON then is sent as it
    is. `asked` has the paths of all requests.
    """

    isLeaf = True

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.changes: dict[str, Change] = {}
        self.statuses: dict[str, int] = {}
        self.keys = [KEY]
        self.signs_with: Any = KEY
        self.asked: list[str] = []
        self.requests: dict[str, dict[str, str]] = {}
        self.proofs: list[tuple[str, str]] = []
        self.silent: set[str] = set()
        issued = AUTHORITY.issue_cert(*(names or ("localhost",)))
        pem = issued.private_key_and_cert_chain_pem.bytes()
        site = Site(self)
        site.noisy = False
        self.port = reactor.listenSSL(  # type: ignore[attr-defined]
            0, site, ssl.PrivateCertificate.loadPEM(pem).options(), interface="127.0.0.1"
        )
        self.issuer = f"https://localhost:{self.port.getHost().port}"

    @staticmethod
    def ca_file(file: Path) -> Path:
        """The authority of its certificate, in this file."""
        AUTHORITY.cert_pem.write_to_path(file)
        return file

    def log_in(self, location: str, user: str = "alice") -> dict[str, str]:
        """What the browser is sent back with, when it was sent here."""
        asked = dict(parse_qsl(urlsplit(location).query, strict_parsing=True))
        code = f"code-{len(self.requests)}-{user}"
        self.requests[code] = {**asked, "user": user}
        return {"state": asked["state"], "code": code, "iss": self.issuer}

    # --- endpoints ------------------------------------------------------------------------

    def render(self, request: Request) -> Any:
        path = request.path.decode()
        self.asked.append(path)
        if path in self.silent:
            return 1  # NOT_DONE_YET
        status, found = {
            "/.well-known/openid-configuration": self.description,
            "/keys": self.key_set,
            "/token": self.token,
            "/userinfo": self.userinfo,
        }.get(path, lambda _: (404, {}))(request)
        request.setResponseCode(self.statuses.get(path, status))
        request.setHeader("Content-Type", "application/json")
        return found if isinstance(found, bytes) else json.dumps(found).encode()

    def changed(self, name: str, found: Any) -> Any:
        return self.changes.get(name, lambda each: each)(found)

    def description(self, _: Request) -> tuple[int, Any]:
        return 200, self.changed(
            "description",
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "jwks_uri": f"{self.issuer}/keys",
                "token_endpoint_auth_methods_supported": [
                    "client_secret_basic",
                    "client_secret_post",
                ],
                "authorization_response_iss_parameter_supported": True,
            },
        )

    def key_set(self, _: Request) -> tuple[int, Any]:
        keys = [key.as_dict(private=False) for key in self.keys]
        return 200, self.changed("keys", {"keys": keys})

    def token(self, request: Request) -> tuple[int, Any]:
        form = {k: v[0] for k, v in parse_qs(request.content.read().decode()).items()}
        if self.proved(request, form) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        asked = self.requests.pop(form["code"], None)
        if asked is None or not fits(asked, form):
            return 400, {"error": "invalid_grant", "error_description": "spent or foreign"}
        access_token = f"access-{asked['user']}"
        digest = urlsafe_b64encode(sha256(access_token.encode()).digest()[:16])
        claims = {
            "iss": self.issuer,
            "sub": f"sub-{asked['user']}",
            "aud": CLIENT,
            "exp": NOW_S + 300,
            "iat": NOW_S,
            "nonce": asked["nonce"],
            "at_hash": digest.rstrip(b"=").decode(),
            "preferred_username": asked["user"],
        }
        header = self.changed("header", {"alg": "RS256", "kid": self.signs_with.kid})
        algorithms = [header["alg"]]
        claims = self.changed("claims", claims)
        id_token = jwt.encode(header, claims, self.signs_with, algorithms=algorithms)
        return 200, self.changed(
            "answer",
            {"id_token": id_token, "access_token": access_token, "token_type": "Bearer"},
        )

    def proved(self, request: Request, form: dict[str, str]) -> tuple[str, str]:
        """Who asks, by header or by form."""
        kind, _, pair = (request.getHeader("Authorization") or "").partition(" ")
        if kind == "Basic":
            client, _, secret = b64decode(pair).decode().partition(":")
            self.proofs.append(("basic", unquote_plus(client)))
            return unquote_plus(client), unquote_plus(secret)
        self.proofs.append(("post", form["client_id"]))
        return form["client_id"], form.get("client_secret", "")

    def userinfo(self, request: Request) -> tuple[int, Any]:
        user = (request.getHeader("Authorization") or "").removeprefix("Bearer access-")
        claims = {"sub": f"sub-{user}", "email": f"{user}@example.com", "team": ["staff", "admin"]}
        return 200, self.changed("user", claims)


def fits(asked: dict[str, str], form: dict[str, str]) -> bool:
    """Whether whoever redeems a code is who has asked for it (RFC 7636)."""
    challenge = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
    return (
        form["grant_type"] == "authorization_code"
        and asked["redirect_uri"] == form["redirect_uri"]
        and asked["code_challenge_method"] == "S256"
        and asked["code_challenge"] == challenge.decode()
    )
