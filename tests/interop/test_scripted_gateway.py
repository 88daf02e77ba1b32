"""The scripted gateway is one for stock openconnect and for the command of our client, too."""

from __future__ import annotations

import subprocess
import sys

from twisted.internet.threads import deferToThread

from anyvpn.testing.programs import Program
from anyvpn.testing.scripted_answers import TOKEN, form, grant, refusal, success
from anyvpn.testing.scripted_gateway import ScriptedGateway, connect, containing, get, post
from anyvpn.wire.cstp import PacketKind, frame_packet
from tests.interop.hostile_case import ASK, PASSWORD, USER, HostileCase, asynchronous

PROGRAM_TIME_S = 15.0
ANSWERED = containing(
    f"<username>{USER}</username>".encode(), f"<password>{PASSWORD}</password>".encode()
)
PROBE = b"are you there"


def login_options(gateway: ScriptedGateway) -> list[str]:
    """Which both clients know."""
    return ["--servercert", gateway.pin, "--user", USER, "--passwd-on-stdin", gateway.url]


class StockClientTests(HostileCase):
    async def run_program(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end, with the password on its input."""
        done: subprocess.CompletedProcess[str] = await deferToThread(
            subprocess.run,
            command,
            input=f"{PASSWORD}\n",
            capture_output=True,
            text=True,
            timeout=PROGRAM_TIME_S,
            check=False,
        )
        return done

    @asynchronous
    async def test_openconnect_authenticates(self) -> None:
        gateway = await self.gateway(
            post("/", form("username", "password", message="Who is there?")),
            post("/auth", success(banner="Welcome"), ANSWERED),
        )
        done = await self.run_program("openconnect", "--authenticate", *login_options(gateway))
        assert done.returncode == 0, done.stderr
        assert f"webvpn={TOKEN}" in done.stdout
        assert "Who is there?" in done.stderr
        assert "Open AnyConnect" in gateway.requests[0].header("User-Agent")
        await gateway.wait_until_left()
        await gateway.close()

    @asynchronous
    async def test_openconnect_speaks_the_protocol_of_version_1(self) -> None:
        gateway = await self.gateway(
            get("/", form("username", "password", version=1)),
            post("/auth", success(version=1), containing(f"username={USER}".encode())),
        )
        command = ["openconnect", "--authenticate", "--no-xmlpost"]
        done = await self.run_program(*command, *login_options(gateway))
        assert TOKEN in done.stdout, done.stderr
        await gateway.close()

    @asynchronous
    async def test_openconnect_opens_a_tunnel(self) -> None:
        gateway = await self.gateway(ASK, post("/auth", success(), ANSWERED), connect(grant()))
        program = Program(
            "openconnect",
            [
                *("openconnect", "--script-tun", "--script", "exec sleep 60", "--no-dtls"),
                *login_options(gateway),
            ],
            stdin=f"{PASSWORD}\n",
        )
        self.addCleanup(program.kill)
        tunnel = await gateway.tunnel(limit_s=PROGRAM_TIME_S)
        tunnel.send(frame_packet(PacketKind.DPD_REQUEST, PROBE))
        while (await tunnel.frame())[0] != PacketKind.DPD_RESPONSE:
            pass
        tunnel.send(frame_packet(PacketKind.TERMINATE, b"\xb0over"))
        await deferToThread(program.wait_for_end)
        assert gateway.requests[-1].header("Cookie") == f"webvpn={TOKEN}"
        await gateway.close()

    @asynchronous
    async def test_our_command_shows_nothing_that_steers_a_terminal(self) -> None:
        evil = "Go\N{CONTROL SEQUENCE INTRODUCER}31m\N{RIGHT-TO-LEFT OVERRIDE}away"
        gateway = await self.gateway(
            post("/", form("username", "password", message=evil, error=evil)),
            post("/auth", refusal(evil)),
        )
        command = [sys.executable, "-m", "anyvpn.cli.main", "authenticate", "-v"]
        done = await self.run_program(*command, *login_options(gateway))
        assert done.returncode != 0
        assert "Go?31m?away" in done.stderr
        assert "Traceback" not in done.stderr
        for text in (done.stdout, done.stderr):
            assert all(each.isprintable() or each == "\n" for each in text), ascii(text)
            assert PASSWORD not in text
        await gateway.close()
