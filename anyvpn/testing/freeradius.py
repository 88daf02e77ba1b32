"""Debian's freeradius with a few users, as a real RADIUS server for tests."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program

SECRET = "radius-secret"

_CONFIGURATION = """
name = anyvpn-test
prefix = /usr
libdir = /usr/lib/freeradius
logdir = {directory}
run_dir = {directory}
raddbdir = {directory}
max_requests = 4096
max_request_time = 10
cleanup_delay = 1
log {{
    destination = stdout
    auth = no
}}
security {{
    max_attributes = 200
    reject_delay = 0
    status_server = no
}}
proxy_requests = no
thread pool {{
    start_servers = 2
    max_servers = 4
    min_spare_servers = 1
    max_spare_servers = 2
}}
client anyvpn {{
    ipaddr = {address}
    secret = "{secret}"
    require_message_authenticator = {authenticator}
}}
modules {{
    files {{
        filename = {directory}/users
    }}
    pap {{
    }}
    mschap {{
        use_mppe = no
    }}
    detail {{
        filename = {directory}/detail
        permissions = 0600
    }}
    always handled {{
        rcode = handled
    }}
    always ok {{
        rcode = ok
    }}
}}
server default {{
    listen {{
        type = auth
        ipaddr = {address}
        port = {port}
    }}
    listen {{
        type = acct
        ipaddr = {address}
        port = {accounting_port}
    }}
    authorize {{
        files
        mschap
        if (&control:Tmp-String-0) {{
            if (!&State) {{
                update control {{
                    Auth-Type := FirstStep
                }}
            }}
            elsif (&User-Password == "again") {{
                update control {{
                    Auth-Type := AnotherStep
                }}
            }}
            else {{
                update control {{
                    Cleartext-Password := &control:Tmp-String-0
                    Auth-Type := PAP
                }}
            }}
        }}
        pap
    }}
    authenticate {{
        Auth-Type PAP {{
            pap
        }}
        Auth-Type MS-CHAP {{
            mschap
        }}
        Auth-Type FirstStep {{
            pap
            update reply {{
                Reply-Message := "Which code?"
            }}
            update control {{
                Response-Packet-Type := Access-Challenge
            }}
            handled
        }}
        Auth-Type AnotherStep {{
            update reply {{
                Reply-Message := "Which code, again?"
            }}
            update control {{
                Response-Packet-Type := Access-Challenge
            }}
            handled
        }}
    }}
    post-auth {{
        update reply {{
            Message-Authenticator := 0x00
        }}
        Post-Auth-Type REJECT {{
            update reply {{
                Message-Authenticator := 0x00
            }}
        }}
        Post-Auth-Type Challenge {{
            update reply {{
                Message-Authenticator := 0x00
            }}
        }}
    }}
    preacct {{
    }}
    accounting {{
        detail
        ok
    }}
}}
"""


class FreeRadius:
    """The server, which may be killed and started again.

    `users` are lines of its file of users. One with `Tmp-String-0 := "code"` is asked for this
    code after the password, and once more for each answer "again".
    """

    def __init__(
        self,
        directory: Path,
        users: Sequence[str],
        *,
        address: str,
        namespace: Namespace | None = None,
        port: int = 1812,
        accounting_port: int = 1813,
        requires_authenticator: bool = True,
    ) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._namespace = namespace
        self._program: Program | None = None
        (directory / "users").write_text("\n".join(users) + "\n")
        (directory / "dictionary").write_text("$INCLUDE /usr/share/freeradius/dictionary\n")
        (directory / "radiusd.conf").write_text(
            _CONFIGURATION.format(
                directory=directory,
                address=address,
                secret=SECRET,
                port=port,
                accounting_port=accounting_port,
                authenticator="yes" if requires_authenticator else "no",
            )
        )

    def start(self) -> None:
        """Start it and wait until it serves."""
        command = [
            "freeradius",
            "-fxx",
            "-l",
            "stdout",
            "-n",
            "radiusd",
            "-d",
            str(self._directory),
        ]
        here = command if self._namespace is None else self._namespace.command(command)
        self._program = Program("freeradius", here)
        self._program.wait_for("Ready to process requests")

    @property
    def program(self) -> Program:
        """The running server."""
        assert self._program is not None, "not started"
        return self._program

    @property
    def accounting(self) -> str:
        """The file of what it was told, as it writes it down."""
        file = self._directory / "detail"
        return file.read_text() if file.exists() else ""

    def stop(self) -> None:
        """End it."""
        if self._program is not None:
            self._program.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.program.kill()
