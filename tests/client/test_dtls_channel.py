"""Tests of anyvpn.client.dtls_channel: when hellos go out, and what becomes of handshakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.task import Clock

from anyvpn.client.dtls_channel import DTLSNegotiation, new_handshake
from anyvpn.dtls.psk import ServerPSK
from anyvpn.model.channels import DTLSChannel, PeerPath, Suite
from anyvpn.model.dtls_life import RETRY_AFTER_S, GivenUp, Handshaking, Up
from anyvpn.model.tunnel_settings import DTLSGrant

GRANT = DTLSGrant(443, "X-DTLS-CipherSuite", "PSK-NEGOTIATE", app_id=bytes(range(32)))
PSK = bytes(32)
ADDRESS = ("192.0.2.1", 443)


class Datagrams:
    """Stands for GatewayDatagrams: keeps what is sent, and when."""

    def __init__(self, clock: Clock) -> None:
        self.on_handshake: Callable[[PeerPath, bytes], None] = lambda path, datagram: None
        self.sent: list[tuple[float, bytes]] = []
        self.sockets = 0
        self.is_open = False
        self._clock = clock

    def renew(self, host: str, port: int) -> PeerPath:
        self.sockets += 1
        self.is_open = True
        return PeerPath(self.sockets, (host, port))

    def send(self, path: PeerPath, datagrams: Sequence[bytes]) -> int:
        self.sent += [(self._clock.seconds(), each) for each in datagrams]
        return 0

    def close(self) -> None:
        self.is_open = False


class Scene:
    """A negotiation, its owner and its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.datagrams = Datagrams(self.clock)
        self.told: list[str] = []
        self.negotiation = DTLSNegotiation(
            self.clock,
            self.datagrams,  # type: ignore[arg-type]
            self,
            lambda: new_handshake(GRANT, PSK, b"", lambda size: bytes(size)),
            host=ADDRESS[0],
            port=ADDRESS[1],
            encoding="",
        )
        self.negotiation.start()

    def dtls_up(self, channel: DTLSChannel, suite: Suite) -> None:
        self.told.append(f"up {suite.name}")

    def dtls_down(self, reason: str) -> None:
        self.told.append(f"down {reason}")

    def dtls_given_up(self, reason: str) -> None:
        self.told.append("given up")

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)

    def answer(self) -> None:
        """Let a gateway shake hands."""
        gateway = ServerPSK(psk=PSK, random=lambda size: b"\1" * size)
        path = PeerPath(self.datagrams.sockets, ADDRESS)
        given = 0
        while given < len(self.datagrams.sent):
            datagram = self.datagrams.sent[given][1]
            given += 1
            for each in gateway.receive(datagram, self.clock.seconds()):
                self.datagrams.on_handshake(path, each)


class NobodyAnswersTests:
    def test_hellos_go_out_at_the_protocols_times(self) -> None:
        scene = Scene()
        scene.pass_time(30)
        assert [round(at_s) for at_s, _ in scene.datagrams.sent] == [0, 1, 3, 7, 15]
        assert scene.negotiation.is_hopeful
        assert scene.told == []

    def test_it_is_given_up_after_the_last_wait(self) -> None:
        scene = Scene()
        scene.pass_time(31.5)
        assert scene.told == ["given up"]
        assert isinstance(scene.negotiation.state, GivenUp)
        assert not scene.negotiation.is_hopeful
        assert not scene.datagrams.is_open

    def test_quiet_tries_follow_and_nobody_is_told_again(self) -> None:
        scene = Scene()
        scene.pass_time(31.5 + RETRY_AFTER_S)
        assert scene.negotiation.state == Handshaking(quiet=True)
        scene.pass_time(40)
        assert scene.told == ["given up"]
        assert scene.datagrams.sockets == 2

    def test_nothing_goes_on_after_a_stop(self) -> None:
        scene = Scene()
        scene.negotiation.stop()
        assert scene.clock.getDelayedCalls() == []
        scene.pass_time(60)
        assert len(scene.datagrams.sent) == 1


class AnsweredTests:
    def test_a_complete_handshake_is_told(self) -> None:
        scene = Scene()
        scene.answer()
        assert scene.told == ["up TLS_PSK_WITH_AES_256_GCM_SHA384"]
        assert isinstance(scene.negotiation.state, Up)

    def test_a_channel_that_is_lost_is_tried_again_at_once_from_a_new_port(self) -> None:
        scene = Scene()
        scene.answer()
        scene.pass_time(10)
        scene.negotiation.lost("silent")
        assert scene.told[1:] == ["down silent"]
        assert scene.negotiation.state == Handshaking()
        assert scene.datagrams.sockets == 2

    def test_a_channel_that_is_closed_at_once_is_given_up_for_a_while(self) -> None:
        scene = Scene()
        scene.answer()
        scene.negotiation.lost("closed")
        assert scene.told[1:] == ["down closed", "given up"]
        assert scene.datagrams.sockets == 1

    def test_garbage_changes_nothing(self) -> None:
        scene = Scene()
        path = PeerPath(1, ADDRESS)
        for garbage in (b"", b"\0" * 100, b"\x16\xfe\xfd" + bytes(50), bytes(range(256))):
            scene.datagrams.on_handshake(path, garbage)
        scene.answer()
        assert scene.told == ["up TLS_PSK_WITH_AES_256_GCM_SHA384"]

    def test_what_comes_from_elsewhere_is_not_looked_at(self) -> None:
        scene = Scene()
        seen = len(scene.datagrams.sent)
        gateway = ServerPSK(psk=PSK, random=lambda size: b"\1" * size)
        for each in gateway.receive(scene.datagrams.sent[0][1], 0):
            scene.datagrams.on_handshake(PeerPath(1, ("198.51.100.1", 443)), each)
        assert len(scene.datagrams.sent) == seen
