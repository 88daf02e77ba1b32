"""What a directory says of a password beside right and wrong (password policy control)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum

from pyasn1.codec.ber import decoder
from pyasn1.error import PyAsn1Error
from pyasn1.type import namedtype, tag, univ

# From the protocol: draft-behera-ldap-password-policy-10, section 6
POLICY_CONTROL = "1.3.6.1.4.1.42.2.27.8.5.1"
POLICY_REQUEST = [(POLICY_CONTROL, False, None)]
# From Active Directory: the number behind "data" in its message of a wrong password
_ACTIVE_DIRECTORY = re.compile(r"\bdata ([0-9a-f]{3,4})\b")
_ACTIVE_DIRECTORY_REASONS = {
    "525": "unknown user",
    "52e": "wrong password",
    "530": "the user may not log in at this time",
    "531": "the user may not log in from here",
    "532": "the password has expired",
    "533": "the account is disabled",
    "701": "the account has expired",
    "773": "the password must be changed",
    "775": "the account is locked",
}


class PolicyError(IntEnum):
    """Why a password is not good for now, or a new one not at all."""

    PASSWORD_EXPIRED = 0
    ACCOUNT_LOCKED = 1
    CHANGE_AFTER_RESET = 2
    MODIFICATION_NOT_ALLOWED = 3
    MUST_SUPPLY_OLD_PASSWORD = 4
    INSUFFICIENT_QUALITY = 5
    TOO_SHORT = 6
    TOO_YOUNG = 7
    IN_HISTORY = 8
    TOO_LONG = 9


REASONS = {
    PolicyError.PASSWORD_EXPIRED: "the password has expired",
    PolicyError.ACCOUNT_LOCKED: "the account is locked",
    PolicyError.CHANGE_AFTER_RESET: "the password must be changed",
    PolicyError.MODIFICATION_NOT_ALLOWED: "the password may not be changed",
    PolicyError.MUST_SUPPLY_OLD_PASSWORD: "the old password is needed",
    PolicyError.INSUFFICIENT_QUALITY: "it is too simple",
    PolicyError.TOO_SHORT: "it is too short",
    PolicyError.TOO_YOUNG: "the password was changed a moment ago",
    PolicyError.IN_HISTORY: "it was used before",
    PolicyError.TOO_LONG: "it is too long",
}


class _Warning(univ.Choice):  # type: ignore[misc]  # pyasn1 has no types
    componentType = namedtype.NamedTypes(
        namedtype.NamedType(
            "timeBeforeExpiration",
            univ.Integer().subtype(implicitTag=tag.Tag(tag.tagClassContext, 0, 0)),
        ),
        namedtype.NamedType(
            "graceAuthNsRemaining",
            univ.Integer().subtype(implicitTag=tag.Tag(tag.tagClassContext, 0, 1)),
        ),
    )


class _Answer(univ.Sequence):  # type: ignore[misc]  # likewise
    componentType = namedtype.NamedTypes(
        namedtype.OptionalNamedType(
            "warning", _Warning().subtype(explicitTag=tag.Tag(tag.tagClassContext, 32, 0))
        ),
        namedtype.OptionalNamedType(
            "error", univ.Enumerated().subtype(implicitTag=tag.Tag(tag.tagClassContext, 0, 1))
        ),
    )


class PasswordState:
    """What the control of an answer says; nothing when there is none, or none to be read."""

    def __init__(self, controls: Mapping[str, bytes]) -> None:
        self.error: PolicyError | None = None
        self.expires_in_s: int | None = None
        self.grace_logins: int | None = None
        value = controls.get(POLICY_CONTROL)
        if not value:
            return
        try:
            answer, _ = decoder.decode(value, asn1Spec=_Answer())
            if answer["error"].isValue:
                self.error = PolicyError(int(answer["error"]))
            warning = answer["warning"]
            if warning.isValue:
                amount = int(warning.getComponent())
                if warning.getName() == "timeBeforeExpiration":
                    self.expires_in_s = amount
                else:
                    self.grace_logins = amount
        except (PyAsn1Error, ValueError):
            return

    @property
    def must_change(self) -> bool:
        """Whether the password was right, and is good for nothing but for changing it."""
        return self.error is PolicyError.CHANGE_AFTER_RESET or self.grace_logins is not None


def refusal_reason(state: PasswordState, message: str) -> str:
    """Why a directory does not let a user in, as precisely as it says."""
    if state.error is not None:
        return REASONS[state.error]
    found = _ACTIVE_DIRECTORY.search(message)
    if found is not None:
        return _ACTIVE_DIRECTORY_REASONS.get(found[1], f"Active Directory's reason {found[1]}")
    return "wrong password"
