"""An authorizer that breaks for users whose name says so."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from anyvpn.interfaces import IAuthorizer
from anyvpn.model.authentication import Identity, LoginRequest
from anyvpn.model.group_policy import GroupPolicy


@attrs.frozen
class Settings:
    """None."""


def build(settings: Settings, reactor: object) -> object:
    return Broken()


@implementer(IAuthorizer)
class Broken:
    async def authorize(self, identity: Identity, request: LoginRequest) -> GroupPolicy:
        rubbish: Any = "rubbish"
        match identity.user:
            case "raises":
                raise ZeroDivisionError("no policy")
            case "silent":
                await Deferred()
            case "rubbish":
                return rubbish
        return GroupPolicy()
