"""Which session the networks behind clients lie behind, and that the kernel knows of them.

A network belongs to one session at a time, from its first tunnel to its end: while its client is
away, what is for the network is lost, as with any router that is down.
"""

from __future__ import annotations

from ipaddress import ip_address

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from anyvpn.errors import NetworkRefused
from anyvpn.gateway.session import Session
from anyvpn.interfaces import IAddressAllocator, IRoutedTunDevice
from anyvpn.model.group_policy import Address, Network

log = Logger()


class ClientNetworks:
    """The networks of all sessions. Of one user's sessions the last one has them."""

    def __init__(self, device: IRoutedTunDevice, addresses: IAddressAllocator) -> None:
        self._device = device
        self._pools = tuple(each.network for each in addresses.gateway_addresses)
        self._owners: dict[Network, Session] = {}
        self._turn = DeferredLock()
        self._stopped = False

    def stop(self) -> None:
        """Change no route any more: they end with the device."""
        self._stopped = True

    async def take(self, session: Session, peer: str) -> None:
        """Lead the session's networks to it; `peer` is its client's outer address.

        Raises: NetworkRefused: another user's connected session has one, or it cannot be behind
            this client.
        Raises: TunUnavailable: the kernel does not take one.
        """
        networks = session.record.policy.client_networks
        if not networks:
            return
        for each in networks:
            self._check(each, session, peer)
        before = {each: self._owners.get(each) for each in networks}
        self._owners |= dict.fromkeys(networks, session)
        try:
            await self._set_routes()
        except BaseException:
            for each, owner in before.items():
                if self._owners.get(each) is session:
                    self._give(each, owner)
            raise

    def release(self, session: Session) -> None:
        """The session has ended: what is still its own leads nowhere any more."""
        own = [each for each, owner in self._owners.items() if owner is session]
        if own:
            for each in own:
                del self._owners[each]
            outcome = Deferred.fromCoroutine(self._set_routes())
            outcome.addErrback(
                lambda failure: log.warn(
                    "A route stays behind: {why}", why=failure.getErrorMessage()
                )
            )

    def _check(self, network: Network, session: Session, peer: str) -> None:
        pool = next((each for each in self._pools if each.overlaps(network)), None)
        if pool is not None:
            raise NetworkRefused(f"{network} behind the client overlaps the pool {pool}")
        outer = _outer_address(peer)
        if outer is not None and outer.version == network.version and outer in network:
            raise NetworkRefused(
                f"{network} behind the client holds its outer address {peer}, so the tunnel "
                "would lead into itself"
            )
        owner = self._owners.get(network)
        if owner is None or owner is session or owner.tunnel is None:
            return
        user = owner.record.identity.user
        if owner.user != session.user:
            raise NetworkRefused(
                f"{network} lies behind {user} already, whose session {owner.identifier} is "
                "connected"
            )
        log.warn(
            "{network} lies behind session {new} of {user} now, and no longer behind session {old}",
            network=network,
            new=session.identifier,
            user=user,
            old=owner.identifier,
        )

    def _give(self, network: Network, owner: Session | None) -> None:
        if owner is None:
            del self._owners[network]
        else:
            self._owners[network] = owner

    async def _set_routes(self) -> None:
        """One change after the other; each is about all that is known when its turn comes."""
        if self._stopped:
            return
        await self._turn.run(
            lambda: Deferred.fromCoroutine(self._device.set_routes(tuple(self._owners)))
        )


def _outer_address(peer: str) -> Address | None:
    try:
        return ip_address(peer.partition("%")[0])
    except ValueError:
        return None
