"""The downloader (phase 4): client profiles, in a TLS session of their own, checked by SHA-1.

Nothing that is downloaded is ever executed, and no software is fetched.

Source: protocol reference, section 6.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from twisted.logger import Logger

from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.http_session import HTTPSession
from anyvpn.client.login import Login
from anyvpn.client.profile_store import ProfileStore
from anyvpn.errors import GatewayUnreachable, PeerError, ProfileUnavailable
from anyvpn.model.authentication import Manifest
from anyvpn.model.client_events import ClientEvent, Phase, PhaseEntered, ProfileStored
from anyvpn.model.client_profile import ClientProfile
from anyvpn.model.printable import printable
from anyvpn.wire.cookies import SESSION_COOKIE
from anyvpn.wire.downloads import read_path

log = Logger()

# Ours
MOST_PROFILES = 16


async def download_profiles(
    login: Login,
    new_session: Callable[[GatewayURL], HTTPSession],
    store: ProfileStore,
    *,
    required: bool,
    tell: Callable[[ClientEvent], None],
) -> None:
    """Fetch what the gateway announces and the store has not, or has differently.

    Raises: ProfileUnavailable: one cannot be had as it was announced, and they are `required`.
    Raises: GatewayUnreachable, GatewayUntrusted.
    """
    if not login.profiles:
        return
    if len(login.profiles) > MOST_PROFILES:
        raise ProfileUnavailable(f"the gateway announces more than {MOST_PROFILES} profiles")
    tell(PhaseEntered(Phase.DOWNLOADER, f"{len(login.profiles)} profile(s)"))
    session = new_session(login.url)
    session.cookies.update(login.cookies)
    session.cookies[SESSION_COOKIE] = login.token  # which may have come in the document alone
    try:
        for manifest in login.profiles:
            try:
                await _download(login, manifest, session, store, tell)
            except (ProfileUnavailable, PeerError, GatewayUnreachable) as error:
                if required:
                    raise ProfileUnavailable(
                        f"{error}; the gateway insists on its profile, so there is no connection"
                    ) from error
                log.warn("Going on without a client profile: {why}", why=error)
    finally:
        session.close()


async def _download(
    login: Login,
    manifest: Manifest,
    session: HTTPSession,
    store: ProfileStore,
    tell: Callable[[ClientEvent], None],
) -> None:
    url = login.url.resolve(manifest.uri)
    if not url.is_same_gateway(login.url):
        raise ProfileUnavailable("the gateway wants a profile to be fetched from somebody else")
    name = PurePosixPath(read_path(url.path)).name
    stored = store.find(login.url.host, name)
    if stored is not None and manifest.sha1 and stored.sha1 == manifest.sha1.upper():
        tell(ProfileStored(name, str(store.path_of(login.url.host, name) or ""), is_new=False))
        return
    session.url = url
    answer = await session.request("GET")
    if answer.status != 200:
        raise ProfileUnavailable(
            f"the profile {name} cannot be had: {answer.status} {printable(answer.reason)}".rstrip()
        )
    profile = ClientProfile(name, answer.body)
    if not manifest.sha1:
        raise ProfileUnavailable(f"the profile {name} is announced without a SHA-1")
    if profile.sha1 != manifest.sha1.upper():
        raise ProfileUnavailable(f"the profile {name} is not the one that was announced (SHA-1)")
    path = store.store(login.url.host, profile)
    tell(ProfileStored(name, str(path or ""), is_new=True))
