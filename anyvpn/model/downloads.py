"""What a client fetches between its login and its tunnel."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Download:
    """The answer to one GET: its media type and its bytes."""

    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DownloadHints:
    """Where things are, as the cookie `webvpnc` tells it; SHA-1 digests are upper-case hex.

    Paths other than `base_path` are relative to it unless they begin with a slash.
    """

    base_path: str = "/"
    packages_path: str = "1/"
    server_cert_hash: str = ""
    translation_path: str = ""
    profile_path: str = ""
    profile_sha1: str = ""
