"""Asks for the code of the moment that a user's phone or token shows (RFC 6238)."""

from __future__ import annotations

from typing import Any

import attrs

from anyvpn.backends.one_time_code_authenticator import (
    CodeAuthenticator,
    CodeSettings,
    check_window,
    open_store,
)

# Ours
LARGEST_WINDOW = 10


@attrs.frozen
class Settings(CodeSettings):
    """Codes that change with the time."""

    window: int = attrs.field(
        default=1, metadata={"help": "How many periods a device's clock may be off."}
    )
    period_s: int = attrs.field(
        default=30, metadata={"help": "How long a code of a new device lasts, in seconds."}
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        check_window("window", self.window, LARGEST_WINDOW)
        if not 1 <= self.period_s <= 3600:
            raise ValueError("period_s must lie between 1 and 3600")


def build(settings: Settings, reactor: Any) -> CodeAuthenticator:
    """What the configuration `backend = "totp"` makes. Raises: ConfigurationError."""
    return CodeAuthenticator(
        "totp", settings, open_store(settings, reactor), window=settings.window
    )
