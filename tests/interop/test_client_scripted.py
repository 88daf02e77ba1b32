"""Our client against gateways that do what no real one at hand does."""

from __future__ import annotations

import trustme

from anyvpn.client.credentials import ClientCredential, load_credential
from anyvpn.model.authentication import CertificateRequest, LoginStep
from anyvpn.testing.scripted_answers import TOKEN, document, form, success
from anyvpn.testing.scripted_gateway import containing, post
from tests.interop.hostile_case import HostileCase, asynchronous

WANTED = document(LoginStep(CertificateRequest(), action=""))


class LoginTests(HostileCase):
    def credential(self, name: str) -> ClientCredential:
        issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(common_name=name)
        path = self.directory / f"{name}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        return load_credential(path)

    @asynchronous
    async def test_a_gateway_that_names_no_authorities_is_shown_a_certificate(self) -> None:
        gateway = await self.gateway(
            post("/", WANTED),
            post("/", success(), containing(b'type="init"', without=(b"client-cert-fail",))),
        )
        both = (self.credential("alice"), self.credential("bob"))
        client = self.client(gateway, credentials=both)
        assert (await client.authenticate()).token == TOKEN
        client.close()
        await gateway.close()

    @asynchronous
    async def test_who_has_none_says_so(self) -> None:
        gateway = await self.gateway(
            post("/", WANTED), post("/", success(), containing(b"client-cert-fail"))
        )
        client = self.client(gateway)
        await client.authenticate()
        client.close()
        await gateway.close()

    @asynchronous
    async def test_a_gateway_that_is_not_where_it_was_is_looked_up(self) -> None:
        gateway = await self.gateway(
            post("/", form("username", "password")), post("/auth", success())
        )
        client = self.client(gateway)
        assert (await client.authenticate("127.0.0.2")).address == "127.0.0.1"
        client.close()
        await gateway.wait_until_left()
        await gateway.close()
