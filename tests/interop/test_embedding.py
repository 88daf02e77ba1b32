"""Programs inside and around the VPN, as the tutorials have them, by a user without privileges."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyvpn.testing.programs import Program, wait_until
from tests.interop.gateway import NAME, PASSWORD, PORT
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.terminal import Terminal
from tests.interop.test_client_without_root import (  # noqa: F401 - fixtures
    NOBODY,
    WEB_PORT,
    AsNobody,
    gateway_changes,
    nobody,
)

DOCS = Path(__file__).parents[2] / "docs" / "tutorials"
LONGEST_EXAMPLE_LINES = 30
PATIENCE_S = 60.0

RESOLVER = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
print("serving", flush=True)
while True:
    query, client = server.recvfrom(512)
    end = query.index(b"\\0", 12) + 5
    known = b"\\6inside\\0" in query[12:end].lower() and query[end - 4 : end - 2] == b"\\0\\1"
    found = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + socket.inet_aton(sys.argv[1])
    head = query[:2] + b"\\x81\\x80\\0\\1" + (b"\\0\\1" if known else b"\\0\\0") + bytes(4)
    server.sendto(head + query[12:end] + (found if known else b""), client)
"""


@pytest.fixture
def resolver(nobody: AsNobody) -> Iterator[None]:  # noqa: F811
    """Knows the names below "inside", behind the VPN alone."""
    program = Program(
        "the resolver",
        nobody.site.gateway.namespace.command([sys.executable, "-c", RESOLVER, nobody.inside]),
    )
    program.wait_for("serving")
    yield
    program.kill()


def examples(page: str, language: str) -> list[str]:
    """The blocks of a tutorial."""
    text = (DOCS / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def configuration(user: AsNobody) -> Path:
    """The tutorial's, for the gateway of the tests."""
    text = examples("embed.md", "toml")[0].replace(
        'url = "vpn.example.com"',
        f'url = "{NAME}:{PORT}"\nresolve = {{ "{NAME}" = "{GATEWAY_ADDRESS}" }}',
    )
    (user.directory / "password").write_text(f"{PASSWORD}\n")
    file = user.directory / "client.toml"
    file.write_text(f'{text}\n[trust]\nca_file = "ca.pem"\n')
    return file


@pytest.mark.usefixtures("resolver")
class EmbeddingTests:
    def fetch(self, user: AsNobody, url: str) -> Program:
        example = examples("embed.md", "python")[0]
        assert len(example.splitlines()) < LONGEST_EXAMPLE_LINES
        file = user.directory / "fetch.py"
        file.write_text(example)
        return user.start("fetch", [sys.executable, str(file), str(configuration(user)), url])

    def test_the_tutorial_s_program_fetches_a_page(self, nobody: AsNobody) -> None:  # noqa: F811
        (nobody.directory / "page").write_text("behind the VPN")
        program = self.fetch(nobody, f"http://wiki.inside:{WEB_PORT}/page")
        assert program.wait_for_end(30) == 0, program.output()
        assert "200 behind the VPN" in program.output()
        nobody.site.gateway.wait_for_event("session_ended", user="alice", detail="goodbye")

    def test_a_name_that_is_not_there_is_a_failed_look_up(self, nobody: AsNobody) -> None:  # noqa: F811
        program = self.fetch(nobody, "http://wiki.outside/")
        assert program.wait_for_end(30) == 1
        assert program.find("DNSLookupError")

    def test_names_are_looked_up_behind_the_vpn(self, nobody: AsNobody) -> None:  # noqa: F811
        program = nobody.anyvpn("run", "--", "getent", "ahosts", "any.inside")
        assert program.wait_for_end(20) == 0, program.output()
        assert program.find(nobody.inside)


def has_terminal(command: str) -> bool:
    """Whether a process with this command line runs, and the keyboard's signals are for it."""
    for pid in processes(command).split():
        # After the name: state, parent, process group, session, terminal, its foreground group
        state, _, group, _, _, foreground = (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:6]
        )
        if state != "T" and group == foreground:
            return True
    return False


def wait_for_foreground(command: str) -> None:
    """Shells say that a job goes on before it does."""
    wait_until(lambda: has_terminal(command), f"{command} has the terminal", limit_s=20)


class TerminalTests:
    def terminal(self, user: AsNobody, *command: str) -> Terminal:
        """`anyvpn run` in a shell that has job control, as users have it."""
        password = user.directory / "password"
        password.write_text(f"{PASSWORD}\n")
        whole = [
            *(*NOBODY, sys.executable, "-m", "anyvpn.cli.main", "run", f"https://{NAME}:{PORT}"),
            *("--user", "alice", "--password-file", str(password), "--cafile"),
            *(str(user.ca_file), "--resolve", f"{NAME}:{GATEWAY_ADDRESS}", "--", *command),
        ]
        return Terminal(user.namespace.command(whole), user.environment, user.directory)

    def test_a_shell_has_job_control(self, nobody: AsNobody) -> None:  # noqa: F811
        terminal = self.terminal(nobody, "bash", "--norc", "--noprofile", "-i")
        terminal.type("echo jobs: $-; PS1='> '\n")
        terminal.wait_for(rb"jobs: \w*m")
        terminal.type("sleep 4721; echo ended\n")
        terminal.wait_for(rb"echo ended\r\n")
        wait_for_foreground("sleep 4721")
        terminal.type("\x03")
        terminal.wait_for(rb"> ")
        terminal.type("sleep 4722\n")
        wait_for_foreground("sleep 4722")
        terminal.type("\x1a")
        terminal.wait_for(rb"Stopped")
        terminal.type("fg; echo back\n")
        terminal.wait_for(rb"echo back\r\n")
        terminal.wait_for(rb"sleep 4722\r\n")
        wait_for_foreground("sleep 4722")
        terminal.type("\x03")
        terminal.wait_for(rb"> ")
        terminal.type("exit 5\n")
        assert terminal.wait_for_end() == 5

    def test_ctrl_c_goes_to_the_command_alone(self, nobody: AsNobody) -> None:  # noqa: F811
        script = "trap 'echo caught; sleep 0.3; echo still; exit 9' INT; echo on; sleep 4723 & wait"
        terminal = self.terminal(nobody, "bash", "-c", script)
        terminal.wait_for(rb"on\r\n")
        terminal.type("\x03")
        terminal.wait_for(rb"caught")
        terminal.wait_for(rb"still")
        assert terminal.wait_for_end() == 9

    def test_who_is_told_to_end_ends_the_command(self, nobody: AsNobody) -> None:  # noqa: F811
        program = nobody.anyvpn("run", "--", "sh", "-c", "trap 'echo hup; exit' HUP; sleep 4724")
        wait_for_process("sleep 4724")
        program.send_signal(signal.SIGTERM)
        assert program.wait_for_end(20) == 128 + signal.SIGTERM
        assert not processes("sleep 4724")


def processes(command: str) -> str:
    done = subprocess.run(
        ["pgrep", "-f", "-x", command], capture_output=True, text=True, check=False
    )
    return done.stdout


def wait_for_process(command: str) -> None:
    ends_at_s = time.monotonic() + PATIENCE_S
    while not processes(command):
        assert time.monotonic() < ends_at_s, command
        time.sleep(0.02)
