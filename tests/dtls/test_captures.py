"""Whole sessions of openconnect with ocserv, played again with one side of ours in the middle.

GCM records have no randomness of their own, so what our side answers is compared byte for byte;
the one random part of a CBC record, its IV, is taken from the capture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from anyvpn.dtls.handshake import Handshake
from anyvpn.dtls.handshake_messages import ClientHello
from anyvpn.dtls.psk import ClientPSK, ServerPSK
from anyvpn.dtls.records import APPLICATION_DATA, RecordOpener, split_datagram
from anyvpn.dtls.resumption import ClientResumption, ServerResumption
from anyvpn.dtls.suites import DTLS12_HEADER, DTLS_HEADER, OFFERS
from tests.dtls.captured import CapturedSession, read_session

SESSIONS = ("psk", "oc_dtls12", "dtls12", "bad_ver")
OFFER = {
    "oc_dtls12": (DTLS_HEADER, "OC-DTLS1_2-AES256-GCM"),
    "dtls12": (DTLS12_HEADER, "AES256-GCM-SHA384"),
    "bad_ver": (DTLS_HEADER, "AES256-SHA"),
}


def captured_random(*values: bytes) -> Callable[[int], bytes]:
    """Gives the captured bytes, each when so many are asked for, and in that order."""
    rest: Iterator[bytes] = iter(values)

    def give(size: int) -> bytes:
        value = next(rest)
        assert len(value) == size
        return value

    return give


def finished_iv(session: CapturedSession, who: str) -> bytes:
    """The IV of the record with someone's Finished."""
    for datagram in session.sent_by(who):
        for record in split_datagram(datagram):
            if record.epoch == 1 and record.content_type == 22:
                return record.body(datagram)[:16]
    raise AssertionError("no Finished in this capture")


def make_server(name: str) -> ServerPSK | ServerResumption:
    session = read_session(name)
    hello = session.sent_by("server")[0]
    if name == "psk":
        return ServerPSK(psk=session.secret, random=captured_random(hello[60:92], hello[27:59]))
    version, suite = OFFERS[OFFER[name][0]][OFFER[name][1]]
    return ServerResumption(
        version=version,
        suite=suite,
        session_id=session.session_id,
        master_secret=session.secret,
        random=captured_random(hello[27:59], finished_iv(session, "server")),
    )


def make_client(name: str, monkeypatch: pytest.MonkeyPatch) -> ClientPSK | ClientResumption:
    """A client of ours that says hello as openconnect did."""
    session = read_session(name)
    hello = ClientHello.read(session.sent_by("client")[0][25:])
    client: ClientPSK | ClientResumption
    if name == "psk":
        client = ClientPSK(psk=session.secret, session_id=session.session_id)
    else:
        version, suite = OFFERS[OFFER[name][0]][OFFER[name][1]]
        client = ClientResumption(
            version=version,
            suite=suite,
            session_id=session.session_id,
            master_secret=session.secret,
            random=captured_random(finished_iv(session, "client")),
        )
    monkeypatch.setattr(client, "_make_hello", lambda: hello)
    return client


def handshake_bytes(session: CapturedSession, who: str) -> bytes:
    """Everything of someone's that is no application data."""
    return b"".join(
        record.whole(datagram)
        for datagram in session.sent_by(who)
        for record in split_datagram(datagram)
        if record.content_type != APPLICATION_DATA
    )


def application_payloads(side: Handshake, datagrams: list[bytes]) -> list[bytes]:
    assert side.keys is not None
    opener = RecordOpener(side.keys)
    records = [
        record.whole(datagram)
        for datagram in datagrams
        for record in split_datagram(datagram)
        if record.content_type == APPLICATION_DATA
    ]
    payloads = opener.open_records(records)
    assert len(payloads) == len(records) > 3
    return payloads


@pytest.mark.parametrize("name", SESSIONS)
class CaptureTests:
    def test_our_server_answers_openconnect_as_ocserv_did(self, name: str) -> None:
        session = read_session(name)
        server = make_server(name)
        answers: list[bytes] = []
        for datagram in session.sent_by("client"):
            answers += server.receive(datagram, 0.0)
        assert b"".join(answers) == handshake_bytes(session, "server")
        assert server.keys is not None

    def test_our_client_answers_ocserv_as_openconnect_did(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = read_session(name)
        client = make_client(name, monkeypatch)
        sent = client.start(0.0)
        for datagram in session.sent_by("server"):
            sent += client.receive(datagram, 0.0)
        assert b"".join(sent) == handshake_bytes(session, "client")
        assert client.keys is not None

    def test_every_application_record_opens_on_the_other_side(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = read_session(name)
        server, client = make_server(name), make_client(name, monkeypatch)
        client.start(0.0)
        for who, datagram in session.datagrams:
            (server if who == "client" else client).receive(datagram, 0.0)
        requests = application_payloads(server, session.sent_by("client"))
        responses = application_payloads(client, session.sent_by("server"))
        assert requests[0][0] == 3 and responses[0][0] == 4  # the path MTU probe, echoed
        assert requests[0][1:] == responses[0][1:]
        assert {payload[0] for payload in requests[1:] + responses[1:]} == {0}
        assert {payload[1] >> 4 for payload in requests[1:]} <= {4, 6}

    def test_application_records_that_were_handed_over_are_kept_for_the_opener(
        self, name: str
    ) -> None:
        session = read_session(name)
        server = make_server(name)
        for datagram in session.sent_by("client"):
            server.receive(datagram, 0.0)
        assert server.keys is not None
        opened = RecordOpener(server.keys).open_records(server.early_records)
        assert opened == application_payloads(server, session.sent_by("client"))
