"""The AnyConnect profile."""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import MalformedMessage, PeerError
from anyvpn.model.client_profile import ClientProfileSettings, ServerEntry
from anyvpn.wire.client_profile import read_client_profile, write_client_profile
from tests.wire.captured import messages
from tests.wire.texts import trimmed

CAPTURED = messages("06_profile_download")[-1].body

filled = trimmed.filter(bool)
addresses = st.lists(filled, max_size=3).map(tuple)
profiles = st.builds(
    ClientProfileSettings,
    servers=st.lists(
        st.builds(
            ServerEntry,
            name=filled,
            address=filled,
            user_group=trimmed,
            primary_protocol=st.sampled_from(["SSL", "IPsec"]),
            backup_addresses=addresses,
        ),
        max_size=3,
    ).map(tuple),
    backup_addresses=addresses,
    authentication_timeout_s=st.integers(0, 3600),
    auto_reconnect=st.booleans(),
    ip_protocols=st.lists(st.sampled_from(["IPv4", "IPv6"]), max_size=2).map(tuple),
    proxy_settings=st.sampled_from(["Native", "IgnoreProxy", "Override"]),
    local_lan_access=st.booleans(),
)


def read(inside: str) -> ClientProfileSettings:
    return read_client_profile(f"<AnyConnectProfile>{inside}</AnyConnectProfile>".encode())


class ProfileReaderTests(TestCase):
    """What a client applies is read, the rest passed over."""

    def test_the_captured_profile(self) -> None:
        self.assertEqual(
            read_client_profile(CAPTURED),
            ClientProfileSettings(
                servers=(ServerEntry("anyvpn test gateway", "vpn.test", "staff"),)
            ),
        )

    def test_a_setting_is_its_own_text_not_its_childrens(self) -> None:
        inside = (
            "<AutoReconnect>false<AutoReconnectBehavior>x</AutoReconnectBehavior></AutoReconnect>"
        )
        self.assertFalse(
            read(f"<ClientInitialization>{inside}</ClientInitialization>").auto_reconnect
        )

    def test_every_applied_setting(self) -> None:
        settings_text = (
            "<ClientInitialization><AuthenticationTimeout> 30 </AuthenticationTimeout>"
            "<IPProtocolSupport>IPv6, IPv4</IPProtocolSupport>"
            "<ProxySettings>IgnoreProxy</ProxySettings>"
            '<LocalLanAccess UserControllable="true">true</LocalLanAccess>'
            "<BackupServerList><HostAddress>b1</HostAddress><HostAddress/></BackupServerList>"
            "</ClientInitialization><ServerList><HostEntry><HostName>only a name</HostName>"
            "<PrimaryProtocol>IPsec<StandardAuthenticationOnly>true</StandardAuthenticationOnly>"
            "</PrimaryProtocol><BackupServerList><HostAddress>b2</HostAddress></BackupServerList>"
            "</HostEntry><HostEntry/></ServerList>"
        )
        self.assertEqual(
            read(settings_text),
            ClientProfileSettings(
                servers=(
                    ServerEntry(
                        "only a name",
                        "only a name",
                        primary_protocol="IPsec",
                        backup_addresses=("b2",),
                    ),
                ),
                backup_addresses=("b1",),
                authentication_timeout_s=30,
                ip_protocols=("IPv6", "IPv4"),
                proxy_settings="IgnoreProxy",
                local_lan_access=True,
            ),
        )

    def test_nothing_and_nonsense_leave_the_defaults(self) -> None:
        self.assertEqual(read(""), ClientProfileSettings())
        for nonsense in ("", "soon", "-1", "1e9", "999999999", "٣"):
            inside = f"<AuthenticationTimeout>{nonsense}</AuthenticationTimeout><AutoReconnect/>"
            self.assertEqual(
                read(f"<ClientInitialization>{inside}</ClientInitialization>"),
                ClientProfileSettings(),
            )

    def test_what_is_no_profile_is_refused(self) -> None:
        for content in (b"", b"<vpn/>", b"<!DOCTYPE x><AnyConnectProfile/>", b"\xff\xfe<\0a\0"):
            with self.assertRaises(MalformedMessage):
                read_client_profile(content)

    def test_truncated_anywhere_it_is_refused(self) -> None:
        content = CAPTURED.rstrip()
        for length in range(len(content)):
            with self.assertRaises(MalformedMessage):
                read_client_profile(content[:length])

    @given(st.data())
    @settings(max_examples=100)
    def test_a_changed_profile_is_read_or_refused(self, data: st.DataObject) -> None:
        content = bytearray(CAPTURED)
        position = data.draw(st.integers(0, len(content) - 1))
        content[position : position + data.draw(st.integers(0, 9))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"<", b">", b"&", b"</a>", b"\0"])
        )
        try:
            read_client_profile(bytes(content))
        except PeerError:
            return


class ProfileWriterTests(TestCase):
    """What `anyvpn init` writes."""

    @given(profiles)
    @settings(max_examples=100)
    def test_what_is_written_is_read(self, profile: ClientProfileSettings) -> None:
        self.assertEqual(read_client_profile(write_client_profile(profile)), profile)

    def test_the_frame_is_ciscos(self) -> None:
        content = write_client_profile(ClientProfileSettings(servers=(ServerEntry("a", "b"),)))
        self.assertEqual(content.splitlines()[:3], CAPTURED.splitlines()[:3])
        self.assertIn(
            b"    <HostEntry>\n      <HostName>a</HostName>\n      <HostAddress>b</HostAddress>\n",
            content,
        )
        self.assertTrue(content.endswith(b"</AnyConnectProfile>\n"))
        self.assertEqual(content.count(b"xmlns"), 2)

    def test_controls_never_break_a_document(self) -> None:
        content = write_client_profile(
            ClientProfileSettings(servers=(ServerEntry("a\0b", "c\x1b"),))
        )
        self.assertEqual(read_client_profile(content).servers, (ServerEntry("ab", "c"),))
