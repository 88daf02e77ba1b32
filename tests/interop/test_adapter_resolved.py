"""The client's adapter with a real systemd-resolved, on a bus and in a /run of their own."""

from __future__ import annotations

import os
import sys
from json import loads
from pathlib import Path

from anyvpn.testing.programs import Program

REPOSITORY = Path(__file__).parents[2]
UNPACKED = Path(sys.prefix) / "resolved"
"""Where `make test` has put it, not installed."""

BUS = """<busconfig><type>system</type>
<listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow send_type="method_call"/><allow receive_sender="*"/></policy></busconfig>
"""

HOST = f"""
mount -t tmpfs none /run
mkdir -p /run/dbus /run/systemd/resolve /run/anyvpn
grep -v ^systemd-resolve: /etc/passwd > /run/passwd
echo systemd-resolve:x:995:995::/:/usr/sbin/nologin >> /run/passwd
mount --bind /run/passwd /etc/passwd
chown 995:995 /run/systemd/resolve
ip link set lo up
echo '{BUS}' > /run/bus.conf
dbus-daemon --config-file=/run/bus.conf --fork
PATH={UNPACKED}/usr/bin:$PATH
export LD_LIBRARY_PATH=$(dirname $(find {UNPACKED} -name 'libsystemd-shared*' | head -1))
$(find {UNPACKED} -name systemd-resolved -type f -perm -1 | head -1) > /run/log 2>&1 &
until resolvectl status > /dev/null 2>&1; do sleep 0.1; done
{sys.executable} -c "$DRIVER"
"""

DRIVER = """
import json, subprocess
from ipaddress import IPv4Interface, ip_address
from pathlib import Path
from twisted.internet import task
from anyvpn.backends.adapter_linux import Settings, build
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.tunnel_settings import Lease, TunnelSettings

def show(what):
    found = subprocess.run(["resolvectl", "status"], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in found.stdout.splitlines()]
    print("shown", json.dumps([what, lines]), flush=True)

def granted(*split):
    return AdapterSettings(TunnelSettings(
        Lease(IPv4Interface("10.1.2.3/24")), 1400, dns=(ip_address("10.1.2.1"),),
        default_domain="corp.example home.example", split_dns=split,
    ), 1400)

async def main(reactor):
    settings = Settings(device="vpn7", state_directory=Path("/run/anyvpn"))
    show("before")
    adapter = await build(settings, reactor).open(granted("corp.example", "lab.example"))
    show("split")
    await adapter.apply(granted())
    show("everything")
    await adapter.close()
    show("after")

task.react(main)
"""


def test_resolved_asks_the_tunnels_resolvers_for_what_is_theirs() -> None:
    assert UNPACKED.is_dir(), "not there: `make test` unpacks it"
    before = Path("/etc/resolv.conf").read_bytes()
    program = Program(
        "resolved",
        ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", HOST],
        environment={**os.environ, "DRIVER": DRIVER, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        program.wait_for(r'^shown \["after"', limit_s=30)
        lines = [each for each in program.output().splitlines() if each.startswith("shown ")]
        shown = dict(loads(each.removeprefix("shown ")) for each in lines)
    finally:
        program.stop()
    assert "DNS Servers: 10.1.2.1" in shown["split"]
    assert "DNS Domain: corp.example home.example ~lab.example" in shown["split"]
    assert any("-DefaultRoute" in each for each in shown["split"])
    assert "DNS Domain: corp.example home.example ~." in shown["everything"]
    assert shown["after"] == shown["before"]
    assert Path("/etc/resolv.conf").read_bytes() == before
