"""Announces the backends of the interoperability tests."""

from anyvpn.plugins import Backend

authenticator_identity_page = Backend(
    "authenticator",
    "identity-page",
    "identity_page",
    "a page that the user's browser logs in at",
)
authenticator_broken = Backend(
    "authenticator",
    "broken",
    "broken",
    "breaks in whichever way it is told to",
)
authorizer_broken = Backend(
    "authorizer",
    "broken",
    "broken_rules",
    "breaks for users whose name says so",
)
authenticator_unimportable = Backend(
    "authenticator",
    "unimportable",
    "unimportable",
    "raises while it is imported",
)
