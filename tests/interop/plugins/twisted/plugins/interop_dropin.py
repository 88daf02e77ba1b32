"""Announces the backends of the interoperability tests."""

from anyvpn.plugins import Backend

authenticator_identity_page = Backend(
    "authenticator",
    "identity-page",
    "identity_page",
    "a page that the user's browser logs in at",
)
