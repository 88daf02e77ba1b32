"""What clients post, as XML: init, auth-reply and logout.

Source: protocol reference, sections 3.1, 3.3, 3.4, 3.10 and 3.13.
"""

from __future__ import annotations

import base64
import binascii
from types import MappingProxyType

from anyvpn.errors import MalformedMessage, MessageTooLarge
from anyvpn.model.authentication import (
    ClientDescription,
    ClientMessage,
    ClientMessageKind,
    SignedCertificates,
)
from anyvpn.wire.authentication_opaque import (
    echo_opaque,
    read_opaque,
    write_opaque,
    write_opaque_placeholder,
)
from anyvpn.wire.xml_document import (
    Element,
    add_element,
    child_text,
    is_element_name,
    new_root,
    read_document,
    whole_text,
    without_controls,
    write_document,
)

# From the protocol (protocol reference, sections 3.3, 3.4 and 3.10)
GROUP_FIELD = "group_list"
_SENT_AS_PASSWORD = frozenset({"answer", "whichpin", "new_password"})
_NEVER_SENT = frozenset({"verify_pin", "verify_password"})
_MACHINE_STORE, _USER_STORE = "1M", "1U"

# Ours
MAXIMUM_ANSWERS = 64
MAXIMUM_ANSWER_CHARACTERS = 64 * 1024
_MAXIMUM_MAC_ADDRESSES = 32
_MAXIMUM_CAPABILITIES = 64
_MAXIMUM_DESCRIPTION_CHARACTERS = 256


def read_client_message(body: bytes) -> ClientMessage:
    """One XML POST of a client.

    A document without a type is an init: a client that says nothing gets the first form. The
    answers are named as the client named them, which openconnect does in its own way.

    Raises: MalformedMessage, MessageTooLarge.
    """
    root = read_document(body)
    if root.tag != "config-auth":
        raise MalformedMessage("a client's document has another root than config-auth")
    try:
        kind = ClientMessageKind(root.get("type", ClientMessageKind.INIT.value))
    except ValueError:
        raise MalformedMessage("a client's document is of an unknown type") from None
    auth = root.find("auth")
    answers = _read_answers(auth)
    group_in_form = answers.pop(GROUP_FIELD, "")
    return ClientMessage(
        kind=kind,
        protocol_version=1 if root.get("aggregate-auth-version") == "1" else 2,
        client=_read_description(root),
        group_select=child_text(root, "group-select") or group_in_form,
        group_access=child_text(root, "group-access"),
        opaque=read_opaque(root),  # its bytes are for those who carry it back
        answers=MappingProxyType(answers),
        certificates=_read_certificates(auth),
        certificate_refused=root.find("client-cert-fail") is not None,
        session_id=child_text(root, "session-id"),
        session_token=child_text(root, "session-token"),
    )


def write_client_message(message: ClientMessage) -> bytes:
    """One XML POST, in the order and with the names of openconnect.

    Raises: MalformedMessage: the gateway named a field so that no element can carry it.
    """
    root = new_root(
        "config-auth",
        client="vpn",
        type=message.kind.value,
        aggregate_auth_version=str(message.protocol_version),
    )
    _write_description(root, message.client)
    if message.kind is ClientMessageKind.LOGOUT or message.session_token or message.certificates:
        add_element(root, "session-id", message.session_id)
        add_element(root, "session-token", message.session_token)
    original = b""
    if message.opaque is not None:
        original = message.opaque.document
        if original:
            write_opaque_placeholder(root)
        else:
            write_opaque(root, message.opaque)
    if message.kind is ClientMessageKind.REPLY:
        auth = add_element(root, "auth")
        _write_answers(auth, message)
        if message.certificates is not None:
            _write_certificates(auth, message.certificates)
    if message.group_access:
        add_element(root, "group-access", message.group_access)
    if message.group_select:
        add_element(root, "group-select", message.group_select)
    if message.certificate_refused:
        add_element(root, "client-cert-fail")
    document = write_document(root)
    return echo_opaque(document, original) if original else document


# --- the client's description ---------------------------------------------------------------


def _read_description(root: Element) -> ClientDescription:
    device = root.find("device-id")
    addresses = root.findall("mac-address-list/mac-address")[:_MAXIMUM_MAC_ADDRESSES]
    capabilities = root.findall("capabilities/auth-method")[:_MAXIMUM_CAPABILITIES]
    return ClientDescription(
        version=_one_line(child_text(root, "version")),
        platform=_one_line(whole_text(device)),
        platform_version=_attribute(device, "platform-version"),
        device_type=_attribute(device, "device-type"),
        computer_name=_attribute(device, "computer-name"),
        unique_id=_attribute(device, "unique-id"),
        unique_id_global=_attribute(device, "unique-id-global"),
        mac_addresses=tuple(_one_line(whole_text(address)) for address in addresses),
        capabilities=frozenset(_one_line(whole_text(each)) for each in capabilities),
    )


def _attribute(element: Element | None, name: str) -> str:
    return "" if element is None else _one_line(element.get(name, ""))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAXIMUM_DESCRIPTION_CHARACTERS]


def _write_description(root: Element, client: ClientDescription) -> None:
    add_element(root, "version", client.version, who="vpn")
    device = add_element(root, "device-id", client.platform)
    for name, value in (
        ("computer-name", client.computer_name),
        ("device-type", client.device_type),
        ("platform-version", client.platform_version),
        ("unique-id", client.unique_id),
        ("unique-id-global", client.unique_id_global),
    ):
        if value:
            device.set(name, without_controls(value))
    if client.mac_addresses:
        addresses = add_element(root, "mac-address-list")
        for number, address in enumerate(client.mac_addresses):
            element = add_element(addresses, "mac-address", address)
            if number == 0:
                element.set("public-interface", "true")
    if client.capabilities:
        capabilities = add_element(root, "capabilities")
        for method in sorted(client.capabilities):
            add_element(capabilities, "auth-method", method)


# --- answers --------------------------------------------------------------------------------


def _read_answers(auth: Element | None) -> dict[str, str]:
    answers: dict[str, str] = {}
    for element in () if auth is None else auth:
        name = str(element.tag)
        if name == "client-cert-chain" or name in answers:
            continue
        if len(answers) == MAXIMUM_ANSWERS:
            raise MessageTooLarge(f"more than {MAXIMUM_ANSWERS} answers")
        # The text as it is: white space may belong to a password.
        text = element.text or ""
        if len(text) > MAXIMUM_ANSWER_CHARACTERS:
            raise MessageTooLarge(f"an answer of {len(text)} characters")
        answers[name] = text
    return answers


def _write_answers(auth: Element, message: ClientMessage) -> None:
    for name, text in message.answers.items():
        if name in _NEVER_SENT or name == GROUP_FIELD:
            continue
        sent_as = name
        if name in _SENT_AS_PASSWORD and "password" not in message.answers:
            sent_as = "password"
        if not is_element_name(sent_as):
            raise MalformedMessage("a form's field has a name that no XML element can have")
        add_element(auth, sent_as, text)


# --- certificates and signature ---------------------------------------------------------------


def _read_certificates(auth: Element | None) -> SignedCertificates | None:
    for chain in () if auth is None else auth.findall("client-cert-chain"):
        certificates = chain.find("client-cert")
        if certificates is None:
            continue
        signature = chain.find("client-cert-auth-signature")
        if signature is None:
            raise MalformedMessage("certificates without a signature")
        return SignedCertificates(
            chain_pkcs7=_read_base64(certificates),
            signature=_read_base64(signature),
            hash_algorithm=_attribute(signature, "hash-algorithm-chosen"),
        )
    return None


def _read_base64(element: Element) -> bytes:
    text = "".join(whole_text(element, MAXIMUM_ANSWER_CHARACTERS).split())
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedMessage("certificates or a signature that are not base64") from None


def _write_certificates(auth: Element, certificates: SignedCertificates) -> None:
    machine = add_element(auth, "client-cert-chain", cert_store=_MACHINE_STORE)
    add_element(machine, "client-cert-sent-via-protocol")
    user = add_element(auth, "client-cert-chain", cert_store=_USER_STORE)
    chain = base64.encodebytes(certificates.chain_pkcs7).decode("ascii").strip()
    add_element(user, "client-cert", chain, cert_format="pkcs7")
    add_element(
        user,
        "client-cert-auth-signature",
        base64.b64encode(certificates.signature).decode("ascii"),
        hash_algorithm_chosen=certificates.hash_algorithm,
    )
