import pytest

from anyvpn.dtls.key_schedule import derive, key_block, psk_premaster, transcript_hash
from anyvpn.dtls.suites import DTLS12_HEADER, OFFERS

# the exporter of case 01 of the protocol reference's captures, and what followed from it
PSK = bytes.fromhex("a519602133713c0e1107c1b1b6475152cde2ff6860ea5de9e4b4392532b72996")
CLIENT_RANDOM = bytes.fromhex("6de986a90c60e74e6d55bc942b2aa9ecb69b66ed077a43f48bc3a3d1836c3d0c")
SERVER_RANDOM = bytes.fromhex("56fd35d41e8cb0edb99ac274435a99e42067e080d80f49c58194b08fd598ef3b")
MASTER_SECRET = bytes.fromhex(
    "c33906b7241a08da607212f5290b6eae39ac6f99b461f41a7b0dae8ae82ea835"
    "dea72a1de5abf5abea6c329dcfc33984"
)


class DerivationTests:
    def test_a_psk_gives_the_master_secret_that_gnutls_wrote_into_its_key_log(self) -> None:
        seed = CLIENT_RANDOM + SERVER_RANDOM
        derived = derive("sha384", psk_premaster(PSK), b"master secret", seed, 48)
        assert derived == MASTER_SECRET

    def test_the_sha256_prf_agrees_with_the_published_vector(self) -> None:
        """The vector that the TLS working group published for P_SHA256."""
        secret = bytes.fromhex("9bbe436ba940f017b17652849a71db35")
        seed = bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c")
        output = derive("sha256", secret, b"test label", seed, 100)
        assert output.startswith(bytes.fromhex("e3f229ba727be17b8d122620557cd453"))
        assert output.endswith(bytes.fromhex("87347b66"))

    def test_the_md5_sha1_prf_is_the_sum_of_two(self) -> None:
        """With a secret of odd length both halves hold its middle byte: RFC 2246, section 5."""
        whole = derive("md5-sha1", b"abcde", b"label", b"seed", 33)
        left = derive("md5", b"abc", b"label", b"seed", 33)
        right = derive("sha1", b"cde", b"label", b"seed", 33)
        assert whole == bytes(a ^ b for a, b in zip(left, right, strict=True))

    def test_the_old_transcript_hash_is_both_hashes(self) -> None:
        assert transcript_hash("md5-sha1", b"").hex() == (
            "d41d8cd98f00b204e9800998ecf8427eda39a3ee5e6b4b0d3255bfef95601890afd80709"
        )


class KeyBlockTests:
    @pytest.mark.parametrize(
        ("name", "sizes"),
        [("AES256-GCM-SHA384", (32, 4, 0)), ("AES128-SHA", (16, 0, 20))],
    )
    def test_each_side_has_parts_of_the_suites_sizes(
        self, name: str, sizes: tuple[int, int, int]
    ) -> None:
        _, suite = OFFERS[DTLS12_HEADER][name]
        client, server = key_block(suite, bytes(48), bytes(32), bytes(32))
        for keys in (client, server):
            assert (len(keys.key), len(keys.fixed_iv), len(keys.mac_key)) == sizes
        assert client.key != server.key

    def test_the_order_is_mac_keys_then_keys_the_clients_first(self) -> None:
        _, suite = OFFERS[DTLS12_HEADER]["AES128-SHA"]
        client, server = key_block(suite, bytes(48), CLIENT_RANDOM, SERVER_RANDOM)
        seed = SERVER_RANDOM + CLIENT_RANDOM
        block = derive(suite.hash_name, bytes(48), b"key expansion", seed, 72)
        assert client.mac_key + server.mac_key + client.key + server.key == block
