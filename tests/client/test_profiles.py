"""Tests of anyvpn.client.profile_store and anyvpn.client.downloads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from anyvpn.client.downloads import MOST_PROFILES, download_profiles
from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.http_connection import Answer
from anyvpn.client.login import Login
from anyvpn.client.profile_store import ProfileStore, default_directory
from anyvpn.errors import ProfileUnavailable
from anyvpn.model.authentication import Manifest
from anyvpn.model.client_events import ClientEvent, ProfileStored
from anyvpn.model.client_profile import ClientProfile, ClientProfileSettings, ServerEntry
from anyvpn.wire.client_profile import write_client_profile
from tests.client.conversation import ScriptedSession, raw
from tests.client.scripted import result_of

URL = GatewayURL("vpn.example.com")
CONTENT = write_client_profile(
    ClientProfileSettings(
        servers=(
            ServerEntry("Head Office", "vpn.example.com", "staff", backup_addresses=("b.example",)),
        ),
        backup_addresses=("b.example", "c.example"),
    )
)
PROFILE = ClientProfile("office.xml", CONTENT)
MANIFEST = Manifest("/CACHE/stc/profiles/office.xml", PROFILE.sha1)


class Downloader:
    """Phase 4 against a scripted gateway."""

    def __init__(self, directory: Path, manifest: Manifest, *answers: Answer) -> None:
        self.store = ProfileStore(directory)
        self.session = ScriptedSession(list(answers))
        self.events: list[ClientEvent] = []
        self.login = Login(URL, "token", profiles=(manifest,), cookies=(("webvpn", "token"),))

    def run(self, *, required: bool = True) -> None:
        deferred: Deferred[object] = Deferred.fromCoroutine(
            download_profiles(
                self.login,
                lambda _: self.session,  # type: ignore[arg-type,return-value]
                self.store,
                required=required,
                tell=self.events.append,
            )
        )
        result_of(deferred)


class DownloadTests:
    def test_a_new_profile_is_fetched_and_kept(self, tmp_path: Path) -> None:
        downloader = Downloader(tmp_path, MANIFEST, raw(CONTENT))
        downloader.run()
        assert downloader.store.find(URL.host, "office.xml") == PROFILE
        assert downloader.session.sent[0].url.endswith("/CACHE/stc/profiles/office.xml")
        assert downloader.session.cookies == {"webvpn": "token"}
        [stored] = [each for each in downloader.events if isinstance(each, ProfileStored)]
        assert stored.is_new
        assert downloader.session.closed == 1

    def test_the_token_goes_along_wherever_it_came_from(self, tmp_path: Path) -> None:
        downloader = Downloader(tmp_path, MANIFEST, raw(CONTENT))
        downloader.login = replace(downloader.login, cookies=())
        downloader.run()
        assert downloader.session.cookies == {"webvpn": "token"}

    def test_one_without_a_hash_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileUnavailable, match="without a SHA-1"):
            Downloader(tmp_path, Manifest(MANIFEST.uri, ""), raw(CONTENT)).run()

    def test_the_same_profile_is_not_fetched_again(self, tmp_path: Path) -> None:
        Downloader(tmp_path, MANIFEST, raw(CONTENT)).run()
        again = Downloader(tmp_path, MANIFEST)
        again.run()
        assert again.session.sent == []

    def test_a_changed_profile_replaces_the_old_one(self, tmp_path: Path) -> None:
        store = ProfileStore(tmp_path)
        store.store(URL.host, ClientProfile("office.xml", b"<old/>"))
        Downloader(tmp_path, MANIFEST, raw(CONTENT)).run()
        assert store.find(URL.host, "office.xml") == PROFILE

    def test_a_profile_that_lies_about_its_hash_ends_it_all(self, tmp_path: Path) -> None:
        downloader = Downloader(tmp_path, MANIFEST, raw(b"<other/>"))
        with pytest.raises(ProfileUnavailable, match="not the one that was announced"):
            downloader.run()
        assert downloader.store.find(URL.host, "office.xml") is None

    def test_a_profile_that_cannot_be_had_ends_it_all(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileUnavailable, match="404"):
            Downloader(tmp_path, MANIFEST, raw(status=404)).run()

    def test_more_profiles_than_anybody_has(self, tmp_path: Path) -> None:
        downloader = Downloader(tmp_path, MANIFEST)
        downloader.login = Login(URL, "token", profiles=(MANIFEST,) * (MOST_PROFILES + 1))
        with pytest.raises(ProfileUnavailable, match="more than 16"):
            downloader.run()
        assert downloader.session.sent == []

    def test_that_can_be_relaxed(self, tmp_path: Path) -> None:
        Downloader(tmp_path, MANIFEST, raw(status=404)).run(required=False)

    @pytest.mark.parametrize(
        "uri",
        [
            "https://other.example/office.xml",
            "http://vpn.example.com/office.xml",
            "/profiles/../../etc/passwd%00",
            "/profiles/.hidden",
            "/profiles/a%2f..%2f..%2fb",
            "/" + "a" * 3000,
        ],
    )
    def test_an_address_that_leaves_or_climbs(self, tmp_path: Path, uri: str) -> None:
        with pytest.raises(ProfileUnavailable):
            Downloader(tmp_path, Manifest(uri, PROFILE.sha1), raw(CONTENT)).run()
        assert not [each for each in tmp_path.rglob("*") if each.is_file()]


class StoreTests:
    def test_a_server_is_found_by_the_name_that_users_type(self, tmp_path: Path) -> None:
        store = ProfileStore(tmp_path)
        store.store(URL.host, PROFILE)
        found = store.find_server("head office")
        assert found is not None
        assert (found.address, found.user_group) == ("vpn.example.com", "staff")
        assert found.backup_addresses == ("b.example", "c.example")
        assert store.find_server("nowhere") is None

    def test_no_profile_says_where_another_gateway_is(self, tmp_path: Path) -> None:
        content = CONTENT.replace(b"Head Office", b"vpn.bank.example")
        store = ProfileStore(tmp_path)
        store.store("a.evil.example", ClientProfile("evil.xml", content))
        assert store.find_server("vpn.bank.example") is None
        store.store("vpn.bank.example", ClientProfile("own.xml", content))
        assert store.find_server("vpn.bank.example") is not None

    def test_a_host_may_be_called_by_its_own_address(self, tmp_path: Path) -> None:
        store = ProfileStore(tmp_path)
        content = CONTENT.replace(b"Head Office", b"vpn.example.com")
        store.store("gateway7.example", ClientProfile("own.xml", content))
        assert store.find_server("VPN.example.com") is not None

    def test_a_broken_profile_hides_no_other(self, tmp_path: Path) -> None:
        store = ProfileStore(tmp_path)
        store.store("a.example", ClientProfile("broken.xml", b"nonsense"))
        store.store(URL.host, PROFILE)
        assert store.find_server("Head Office") is not None

    def test_without_a_directory_nothing_is_kept(self) -> None:
        store = ProfileStore(None)
        assert store.store(URL.host, PROFILE) is None
        assert store.servers() == ()

    def test_the_place_is_the_users_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", "/data")
        assert default_directory() == Path("/data/anyvpn/profiles")
        monkeypatch.setenv("XDG_DATA_HOME", "relative")
        assert default_directory().is_absolute()
