"""Connection profiles: what a group alias, a group URL or a certificate selects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionProfile:
    """One tunnel group: its name, the name shown in the drop-down, and the URLs that select it.

    `group_urls` are paths ("/engineering") or host and path ("vpn.example.com/engineering").
    A profile that is not `listed` is reached by its URL alone.
    """

    name: str
    alias: str
    group_urls: tuple[str, ...] = ()
    listed: bool = True

    def answers_to(self, name: str) -> bool:
        """Clients send back the alias or the name; they are compared without case."""
        return name.casefold() in (self.name.casefold(), self.alias.casefold())
