"""Asks for the next code that a user's token shows when its button is pressed (RFC 4226)."""

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
LARGEST_WINDOW = 100
LARGEST_RESYNC_WINDOW = 1000


@attrs.frozen
class Settings(CodeSettings):
    """Codes that change with each press of a button."""

    window: int = attrs.field(
        default=10, metadata={"help": "How many codes a user may have skipped."}
    )
    resync_window: int = attrs.field(
        default=100,
        metadata={"help": "How many more, when two codes in a row are given; 0: none."},
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        check_window("window", self.window, LARGEST_WINDOW)
        check_window("resync_window", self.resync_window, LARGEST_RESYNC_WINDOW)


def build(settings: Settings, reactor: Any) -> CodeAuthenticator:
    """What the configuration `backend = "hotp"` makes. Raises: ConfigurationError."""
    own = settings
    return CodeAuthenticator(
        *("hotp", own, open_store(own, reactor)),
        window=own.window,
        resync_window=own.resync_window,
    )
