"""ID tokens of OpenID Connect: by which key, from whom, for whom, and until when (RFC 7519)."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key
from joserfc.jws import JWSRegistry

from anyvpn.model.printable import printable

# From the protocol: RFC 7518, 8037 and 9864; the last are what at_hash is made with
ALGORITHMS: Mapping[str, tuple[type[Key], str]] = MappingProxyType(
    {
        "RS256": (RSAKey, "sha256"),
        "RS384": (RSAKey, "sha384"),
        "RS512": (RSAKey, "sha512"),
        "PS256": (RSAKey, "sha256"),
        "PS384": (RSAKey, "sha384"),
        "PS512": (RSAKey, "sha512"),
        "ES256": (ECKey, "sha256"),
        "ES384": (ECKey, "sha384"),
        "ES512": (ECKey, "sha512"),
        "EdDSA": (OKPKey, "sha512"),
        "Ed25519": (OKPKey, "sha512"),
    }
)
_LONGEST_SUBJECT = 255

# Ours
LONGEST_TOKEN_CHARACTERS = 64 * 1024
_MOST_KEYS = 64
_SHORTEST_RSA_BITS = 2048

Key = RSAKey | ECKey | OKPKey
Claims = Mapping[str, Any]


class TokenRefused(Exception):
    """The token is not to be believed; the text says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a token says of its signature before anybody has checked it."""

    algorithm: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the token of this login must say; times in seconds."""

    issuer: str
    client_id: str
    nonce: str = field(repr=False)
    clock_skew_s: float
    longest_since_login_s: int | None = None
    contexts: tuple[str, ...] = ()


# --- JSON ----------------------------------------------------------------------------------


def read_object(text: bytes) -> dict[str, Any]:
    """A JSON object. Raises: ValueError."""
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


# --- keys and signatures -------------------------------------------------------------------


def read_keys(document: bytes) -> tuple[Key, ...]:
    """The keys of a key set (JWKS) that can sign tokens; what is of no use is passed over.

    Raises: ValueError: it is no key set.
    """
    found = read_object(document).get("keys")
    if not isinstance(found, list):
        raise ValueError("it has no list of keys")
    return tuple(key for key in map(_read_key, found[:_MOST_KEYS]) if key is not None)


def _read_key(parameters: object) -> Key | None:
    if not isinstance(parameters, dict):
        return None
    try:
        key = import_key(parameters)
        public_key = key.public_key  # which is what shows whether the numbers make a key
    except Exception:  # joserfc raises its own errors, those of cryptography and of Python
        return None
    match key, public_key:
        case RSAKey(), RSAPublicKey() if public_key.key_size >= _SHORTEST_RSA_BITS:
            return key
        case ECKey(), _:
            return key
        case OKPKey(), Ed25519PublicKey():
            return key
    return None  # such as a secret, with which anybody who reads it could sign


def read_header(token: str, algorithms: Iterable[str]) -> Header:
    """Raises: TokenRefused: nothing that a key of ours could have signed."""
    if len(token) > LONGEST_TOKEN_CHARACTERS:
        raise TokenRefused("it is too long")
    try:
        header = jws.extract_compact(token.encode("ascii")).headers()
    except (JoseError, ValueError, RecursionError):
        raise TokenRefused("it is not a signed token") from None
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if algorithm not in tuple(algorithms):
        raise TokenRefused(f"its signature is of the kind {printable(str(algorithm))[:32]}")
    if not isinstance(key_id, str) or "crit" in header:
        raise TokenRefused("its header has what nobody here understands")
    return Header(algorithm, key_id)


def fitting_keys(keys: Iterable[Key], header: Header) -> tuple[Key, ...]:
    """Those that may have signed it: by kind, and by name if it has one."""
    kind, _ = ALGORITHMS[header.algorithm]
    return tuple(
        key
        for key in keys
        if isinstance(key, kind) and (not header.key_id or key.kid == header.key_id)
    )


def verified_claims(token: str, header: Header, keys: Iterable[Key]) -> Claims:
    """What it says, when one of these keys has signed it, and is for that.

    Raises: TokenRefused.
    """
    registry = JWSRegistry(algorithms=[header.algorithm], strict_check_header=False)
    for key in keys:
        try:
            payload = jws.deserialize_compact(token, key, registry=registry).payload
        except (JoseError, ValueError):
            continue
        return _read_claims(payload)
    raise TokenRefused("it is signed by no key of the provider")


def _read_claims(payload: bytes) -> Claims:
    try:
        return MappingProxyType(read_object(payload))
    except ValueError:
        raise TokenRefused("it says nothing that can be read") from None


# --- claims --------------------------------------------------------------------------------


def check_claims(claims: Claims, expected: Expectations, now_s: float) -> None:
    """Raises: TokenRefused."""
    problem = (
        _audience_problem(claims, expected)
        or _time_problem(claims, expected, now_s)
        or _login_problem(claims, expected, now_s)
    )
    if problem:
        raise TokenRefused(problem)


def check_access_token(claims: Claims, header: Header, access_token: str) -> None:
    """Whether it was given along with this one, if it says so. Raises: TokenRefused."""
    expected = claims.get("at_hash")
    if expected is None:
        return
    _, hash_name = ALGORITHMS[header.algorithm]
    digest = hashlib.new(hash_name, access_token.encode("utf-8")).digest()
    made = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode("ascii")
    if not _same(expected, made):
        raise TokenRefused("it was given along with another access token")


def subject(claims: Claims) -> str:
    """Whom it is about; empty when it does not say."""
    found = claims.get("sub")
    is_one = isinstance(found, str) and 0 < len(found) <= _LONGEST_SUBJECT
    return str(found) if is_one else ""


def _audience_problem(claims: Claims, expected: Expectations) -> str:
    if claims.get("iss") != expected.issuer:
        return f"it is issued by {_shown(claims.get('iss'))}"
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in audiences:
        return f"it is for {_shown(audience)}"
    authorized = claims.get("azp")
    if authorized != expected.client_id and (authorized is not None or len(audiences) > 1):
        return f"it is for several, of whom {_shown(authorized)} has asked for it"
    return "" if subject(claims) else "it does not say whom it is about"


def _time_problem(claims: Claims, expected: Expectations, now_s: float) -> str:
    expires_s, issued_s = _moment(claims, "exp"), _moment(claims, "iat")
    if expires_s is None or issued_s is None:
        return "it does not say from when and until when it holds"
    if now_s >= expires_s + expected.clock_skew_s:
        return f"it has expired {now_s - expires_s:.0f} s ago"
    begins_s = _moment(claims, "nbf") if "nbf" in claims else issued_s
    if begins_s is None:
        return "it does not say from when it holds"
    if max(begins_s, issued_s) > now_s + expected.clock_skew_s:
        return f"it holds only in {max(begins_s, issued_s) - now_s:.0f} s"
    return ""


def _login_problem(claims: Claims, expected: Expectations, now_s: float) -> str:
    if not _same(claims.get("nonce"), expected.nonce):
        return "it is of another login (nonce)"
    if expected.contexts and claims.get("acr") not in expected.contexts:
        return f"the user has logged in there in another way: {_shown(claims.get('acr'))}"
    longest_s = expected.longest_since_login_s
    if longest_s is None:
        return ""
    logged_in_s = _moment(claims, "auth_time")
    if logged_in_s is None:
        return "it does not say when the user has logged in there"
    if now_s - logged_in_s > longest_s + expected.clock_skew_s:
        return f"the user has logged in there {now_s - logged_in_s:.0f} s ago"
    return ""


def _moment(claims: Claims, name: str) -> float | None:
    found = claims.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if -(10**12) < found < 10**12 and math.isfinite(found) else None


def _same(found: object, expected: str) -> bool:
    return isinstance(found, str) and hmac.compare_digest(
        found.encode("utf-8", "replace"), expected.encode("utf-8")
    )


def _shown(found: object) -> str:
    return printable(json.dumps(found, ensure_ascii=False))[:100]
