"""Shows what happens to a client, line by line; on a terminal a status line stays below."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from anyvpn.client.tunnel import VPNTunnel
from anyvpn.model.channels import ChannelName
from anyvpn.model.client_events import (
    AdapterChanged,
    CertificateWarning,
    ChannelChanged,
    ClientEvent,
    Disconnected,
    MessageShown,
    Phase,
    PhaseEntered,
    ProfileStored,
    Retrying,
    Traffic,
    TunnelReady,
)
from anyvpn.model.printable import printable

_NUMBERS = {
    Phase.TLS: "1",
    Phase.GROUP: "2",
    Phase.AUTHENTICATION: "3",
    Phase.DOWNLOADER: "4",
    Phase.CSTP: "5",
    Phase.DTLS: "6",
}
_USUAL_WIDTH = 80
"""Of terminals that do not know theirs."""
_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Writes to standard error, so that standard output is for results.

    `verbosity` below 0 shows warnings alone, above 1 also requests and answers.
    """

    def __init__(self, verbosity: int, output: TextIO = sys.stderr) -> None:
        self._verbosity = verbosity
        self._output = output
        self._is_gone = False
        self._status = ""
        self._rates = (0.0, 0, 0)

    def event_happened(self, event: ClientEvent) -> None:
        """One event, one line or none."""
        line = self._line(event)
        is_warning = isinstance(event, CertificateWarning | Retrying)
        if line and (self._verbosity >= 0 or is_warning):
            self.say(line)

    def say(self, line: str) -> None:
        """A line above the status line."""
        clear = _CLEAR_LINE if self._status else ""
        self._write(f"{clear}{line}\n{self._status}")

    def show_status(self, tunnel: VPNTunnel, now_s: float) -> None:
        """Write the status line anew, where there is a terminal for it."""
        if self._verbosity < 0 or not self._width():
            return
        status = tunnel.status()
        before_s, received, sent = self._rates
        counters = status.counters
        self._rates = (now_s, counters.received_bytes, counters.sent_bytes)
        passed_s = max(now_s - before_s, 0.001)
        parts = [
            _channel_name(status.channel) if status.is_connected else "no connection",
            f"in {_rate(counters.received_bytes - received, passed_s)}",
            f"out {_rate(counters.sent_bytes - sent, passed_s)}",
        ]
        if status.round_trip_s:
            parts.append(f"{status.round_trip_s * 1000:.1f} ms")
        parts.append(_duration(now_s - status.connected_at_s))
        parts.append(" ".join(str(each) for each in status.settings.lease.addresses))
        parts.append(status.cipher)
        self.show("  ".join(parts))

    def show(self, status: str) -> bool:
        """Make this the status line; gives whether there is a terminal for it."""
        width = self._width()
        if width:
            # A line that wraps could not be taken back
            self._status = status[: width - 1]
            self._write(f"{_CLEAR_LINE}{self._status}")
        return bool(width)

    def end_status(self) -> None:
        """No status line any more."""
        if self._status:
            self._write(_CLEAR_LINE)
            self._status = ""

    def _width(self) -> int:
        """Of the terminal; 0 when there is none."""
        try:
            if self._is_gone or not self._output.isatty():
                return 0
            return os.get_terminal_size(self._output.fileno()).columns or _USUAL_WIDTH
        except OSError:
            return 0

    def _write(self, text: str) -> None:
        """Whoever closes the window still wants the tunnel taken down in order."""
        if self._is_gone:
            return
        try:
            self._output.write(text)
            self._output.flush()
        except OSError:
            self._is_gone = True

    def _line(self, event: ClientEvent) -> str:
        match event:
            case PhaseEntered(phase, detail):
                number = _NUMBERS.get(phase, "-")
                text = printable(detail)
                return f"{number}  {phase.value}{f': {text}' if text else ''}"
            case CertificateWarning(reason, pin):
                return (
                    f"Warning: the gateway's certificate is not trusted: {printable(reason)}. "
                    f"To accept this key alone: --servercert {pin}"
                )
            case MessageShown(text):
                return "\n".join(f"   | {line}" for line in printable(text, lines=True).split("\n"))
            case ProfileStored(name, path, is_new):
                what = "stored" if is_new else "unchanged"
                where = f" in {path}" if path else ""
                return f"   profile {printable(name)} {what}{where}"
            case TunnelReady(settings, device, mtu_bytes, tls):
                addresses = " ".join(str(each) for each in settings.lease.addresses)
                return f"Connected: {addresses} on {device}, MTU {mtu_bytes}, {tls}"
            case ChannelChanged(channel, cipher, reason):
                return f"   data goes over {_channel_name(channel)} ({cipher}): {printable(reason)}"
            case AdapterChanged(mtu_bytes, reason):
                return f"-  reconnecting (adapter): MTU {mtu_bytes}, {printable(reason)}"
            case Retrying(reason, attempt, delay_s):
                when = f"in {delay_s:g} s" if delay_s else "now"
                return f"-  the tunnel is lost: {printable(reason)}; try {attempt} {when}"
            case Disconnected(reason):
                return f"Disconnected: {printable(reason)}"
            case Traffic(direction, text):
                arrow = ">" if direction == "sent" else "<"
                lines = printable(text, lines=True).split("\n")
                return "\n".join(f"   {arrow} {line}" for line in lines)


def _channel_name(channel: ChannelName) -> str:
    return "UDP" if channel is ChannelName.DTLS else "TLS"


def _rate(size: int, passed_s: float) -> str:
    bits_per_s = max(size, 0) * 8 / passed_s
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if bits_per_s < 1000:
            return f"{bits_per_s:.0f} {unit}"
        bits_per_s /= 1000
    return f"{bits_per_s:.1f} Gbit/s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:d}:{minutes:02d}:{rest:02d}"
