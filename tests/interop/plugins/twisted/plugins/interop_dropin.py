"""Announces the backends of the interoperability tests."""

from anyvpn.plugins import Backend

authenticator_identity_page = Backend(
    "authenticator",
    "identity-page",
    "identity_page",
    "a page that the user's browser logs in at",
)
authenticator_password_and_code = Backend(
    "authenticator",
    "password-and-code",
    "password_and_code",
    "a password, and then the code of the moment",
)
