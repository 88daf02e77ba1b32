"""The network is laid once for all tests; each module has its own gateway in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence

import pytest

from anyvpn.testing.ocserv import Ocserv
from tests.interop import toml
from tests.interop.gateway import Gateway
from tests.interop.network import GATEWAY_ADDRESS, GATEWAY_ADDRESS_IPV6, Network
from tests.interop.ocserv_site import OcservSite
from tests.interop.site import BASE, Site

NEEDED = (
    *("ip", "nft", "nsenter", "ocpasswd", "ocserv", "openconnect", "ping", "setpriv"),
    *("freeradius", "redis-server", "slapd", "tcpdump", "unshare", "xmlsec1"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything beside this file is of the same kind."""
    here = os.path.dirname(__file__)  # noqa: PTH120
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    assert os.geteuid() == 0, "these tests make network namespaces: run them as root"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    assert not missing, f"not installed: {', '.join(missing)}; `make test` installs them"
    network = Network()
    yield network
    network.close()


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    """What a module's gateway has beyond `anyvpn init`; modules redefine it."""
    return {}


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    """Whom a module's gateway knows; modules redefine it."""
    return ("alice",)


@pytest.fixture(scope="module")
def module_site(
    network: Network,
    tmp_path_factory: pytest.TempPathFactory,
    gateway_changes: Mapping[str, object],
    gateway_users: tuple[str, ...],
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    gateway = Gateway(
        network.gateway,
        directory / "gateway",
        users=gateway_users,
        changes=toml.merge(BASE, gateway_changes),
    )
    site = Site(network, gateway, directory)
    try:
        gateway.start()
        yield site
    finally:
        site.close()


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    """The module's gateway; what a test leaves running is ended after it."""
    yield module_site
    module_site.close_clients()


@pytest.fixture(scope="module")
def ocserv_changes() -> Mapping[str, str | Sequence[str] | None]:
    """What a module's ocserv has beyond the usual; modules redefine it."""
    return {}


@pytest.fixture(scope="module")
def ocserv_profile() -> bytes:
    """The file profile.xml of a module's ocserv; modules redefine it."""
    return b""


@pytest.fixture(scope="module")
def module_ocserv(
    network: Network,
    tmp_path_factory: pytest.TempPathFactory,
    ocserv_changes: Mapping[str, str | Sequence[str] | None],
    ocserv_profile: bytes,
) -> Iterator[OcservSite]:
    directory = tmp_path_factory.mktemp("ocserv")
    gateway = Ocserv(
        network.gateway,
        directory / "gateway",
        addresses=(GATEWAY_ADDRESS, GATEWAY_ADDRESS_IPV6),
        changes=ocserv_changes,
        profile=ocserv_profile,
    )
    site = OcservSite(network, gateway, directory)
    try:
        gateway.start()
        yield site
    finally:
        site.close()


@pytest.fixture
def ocserv(module_ocserv: OcservSite) -> Iterator[OcservSite]:
    """The module's ocserv; what a test leaves running is ended after it."""
    yield module_ocserv
    module_ocserv.close_clients()
