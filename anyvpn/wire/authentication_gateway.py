"""What gateways answer, as XML: auth-request, complete, and errors; version 2 and version 1.

Source: protocol reference, sections 3.2, 3.10, 4 and 5.
"""

from __future__ import annotations

from dataclasses import replace

from anyvpn.errors import MalformedMessage
from anyvpn.model.authentication import (
    BrowserLogin,
    CertificateRequest,
    CorePackage,
    Form,
    GatewayMessage,
    LoginComplete,
    LoginRefused,
    LoginStep,
    LogoutComplete,
    Manifest,
    SignatureRequest,
)
from anyvpn.wire.authentication_opaque import read_opaque, write_opaque
from anyvpn.wire.authentication_steps import (
    MAIN,
    add_message,
    asks_something,
    message_text,
    read_step,
    write_step,
)
from anyvpn.wire.xml_document import (
    Element,
    add_element,
    child_text,
    new_root,
    read_document,
    whole_text,
    write_document,
)

# From the protocol (protocol reference, sections 2.2, 3.2, 4 and 5)
_SUCCESS = "success"
_GATEWAY_VERSION = "0.1(1)"  # what ocserv says, which every client accepts
_CRYPTO_SUPPORTED = "ssl-dhe"
_VERSION_1_ACTION = "/+webvpn+/index.html"
_VERSION_1_TITLE = "SSL VPN Service"
_HOST_SCAN_PARTS = (
    "host-scan-ticket",
    "host-scan-token",
    "host-scan-base-uri",
    "host-scan-wait-uri",
)

# Ours
_MAXIMUM_FILES = 256
_MAXIMUM_HASH_ALGORITHMS = 16


# --- reading ----------------------------------------------------------------------------------


def read_gateway_message(body: bytes) -> GatewayMessage:
    """One XML answer of a gateway, in either version of the protocol.

    What it is follows from its content, as peers do not agree about the type. An answer of
    version 1, and of ocserv, carries no token: that is in the cookie `webvpn`.

    Raises: MalformedMessage, MessageTooLarge.
    """
    root = read_document(body)
    if root.tag == "auth":
        return _read_auth(root, None)
    if root.tag != "config-auth":
        raise MalformedMessage("a gateway's document has neither config-auth nor auth as its root")
    complete = root.get("type") == "complete"
    auth, error = root.find("auth"), root.find("error")
    if auth is not None and auth.get("id") == _SUCCESS:
        return _read_complete(root, auth)
    if whole_text(error) and not asks_something(auth):
        return _read_refusal(error)
    if complete and auth is None and not child_text(root, "session-token"):
        return LogoutComplete()
    if complete and not asks_something(auth):
        return _read_complete(root, auth)
    return _read_request(root, auth, error, body)


def _read_request(
    root: Element, auth: Element | None, error: Element | None, body: bytes
) -> GatewayMessage:
    signatures = root.find("multiple-client-cert-request")
    if signatures is not None:
        algorithms = signatures.findall("hash-algorithm")[:_MAXIMUM_HASH_ALGORITHMS]
        answer: GatewayMessage = LoginStep(
            SignatureRequest(
                tuple(whole_text(algorithm) for algorithm in algorithms),
                child_text(root, "random"),
            ),
            action="",
        )
    elif root.find("client-cert-request") is not None:
        answer = LoginStep(CertificateRequest(), action="")
    elif auth is not None:
        answer = _read_auth(auth, error)
    else:
        raise MalformedMessage("a gateway's document asks for nothing and grants nothing")
    if not isinstance(answer, LoginStep):
        return answer
    host_scan = root.find("host-scan")
    return replace(
        answer,
        opaque=read_opaque(root, body),
        certificate_accepted=root.find("cert-authenticated") is not None,
        host_scan_wanted=all(child_text(host_scan, part) for part in _HOST_SCAN_PARTS),
    )


def _read_auth(auth: Element, outer_error: Element | None) -> GatewayMessage:
    if auth.get("id") == _SUCCESS:
        return _read_complete(auth, auth)
    error = auth.find("error")
    if whole_text(error) and not asks_something(auth):
        return _read_refusal(error)
    return read_step(auth, outer_error)


def _read_refusal(error: Element | None) -> LoginRefused:
    return LoginRefused(message_text(error), "" if error is None else error.get("id", ""))


def _read_complete(root: Element, auth: Element | None) -> LoginComplete:
    config = root.find("config")
    return LoginComplete(
        session_id=child_text(root, "session-id"),
        session_token=child_text(root, "session-token"),
        banner="" if auth is None else message_text(auth.find("banner")),
        message="" if auth is None else message_text(auth.find("message")),
        server_cert_hash=child_text(config, "vpn-base-config/server-cert-hash"),
        base_package_uri=child_text(config, "vpn-base-config/base-package-uri"),
        core_packages=tuple(
            _read_core_package(file)
            for file in _files(config, "opaque/vpn-core-manifest")
            or _files(config, "vpn-core-manifest")
        ),
        profiles=tuple(
            Manifest(
                uri=child_text(file, "uri"),
                sha1=_read_sha1(file),
                kind=file.get("type", ""),
                service=file.get("service-type", ""),
            )
            for file in _files(config, "vpn-profile-manifest")
        ),
    )


def _files(config: Element | None, manifest: str) -> list[Element]:
    return [] if config is None else config.findall(f"{manifest}/vpn/file")[:_MAXIMUM_FILES]


def _read_core_package(file: Element) -> CorePackage:
    return CorePackage(
        identifier=file.get("id", ""),
        version=file.get("version", ""),
        uri=child_text(file, "uri"),
        display_name=child_text(file, "display-name"),
        operating_system=file.get("os", ""),
        kind=file.get("type", ""),
        action=file.get("action", ""),
        module=file.get("module", ""),
        is_core=file.get("is_core") == "yes",
    )


def _read_sha1(file: Element) -> str:
    """Upper-case hex, or "" when the file has another kind of hash: then nothing can match."""
    digest = file.find("hash")
    if digest is None or digest.get("type", "sha1").lower() != "sha1":
        return ""
    return whole_text(digest).upper()


# --- writing ----------------------------------------------------------------------------------


def write_gateway_message(message: GatewayMessage, protocol_version: int = 2) -> bytes:
    """One XML answer.

    Version 1 has words for forms, browser logins, refusals and success only, where the token
    travels in a cookie alone; the rest is said in version 2, which openconnect reads as well.
    """
    root = _version_1_root(message) if protocol_version == 1 else None
    return write_document(_version_2_root(message) if root is None else root)


def _version_1_root(message: GatewayMessage) -> Element | None:
    match message:
        case LoginStep(step=Form() | BrowserLogin() as step):
            root = new_root("auth", id=_step_id(step))
            action = _VERSION_1_ACTION if message.action == "/" else message.action
            write_step(root, replace(message, action=action), step)
        case LoginComplete():
            root = new_root("auth", id=_SUCCESS)
            add_element(root, "title", _VERSION_1_TITLE)
            if message.banner:
                add_element(root, "banner", message.banner)
            add_element(root, "message", message.message or "Success")
        case LoginRefused():
            root = new_root("auth", id=MAIN)
            add_message(root, "error", message.error, message.error_id)
        case _:
            return None
    return root


def _version_2_root(message: GatewayMessage) -> Element:
    root = new_root(
        "config-auth",
        client="vpn",
        type="auth-request" if isinstance(message, LoginStep) else "complete",
        aggregate_auth_version="2",
    )
    add_element(root, "version", _GATEWAY_VERSION, who="sg")
    match message:
        case LoginStep():
            _write_request(root, message)
        case LoginComplete():
            _write_complete(root, message)
        case LoginRefused():
            add_message(root, "error", message.error, message.error_id)
        case LogoutComplete():
            pass
    return root


def _step_id(step: Form | BrowserLogin) -> str:
    return step.kind if isinstance(step, Form) else MAIN


def _write_request(root: Element, message: LoginStep) -> None:
    if message.opaque is not None:
        write_opaque(root, message.opaque)
    match message.step:
        case CertificateRequest():
            add_element(root, "client-cert-request")
        case SignatureRequest() as step:
            request = add_element(root, "multiple-client-cert-request")
            for algorithm in step.hash_algorithms:
                add_element(request, "hash-algorithm", algorithm)
            if step.nonce:
                add_element(root, "random", step.nonce)
        case Form() | BrowserLogin() as step:
            write_step(add_element(root, "auth", id=_step_id(step)), message, step)
    if message.certificate_accepted:
        add_element(root, "cert-authenticated")


def _write_complete(root: Element, message: LoginComplete) -> None:
    add_element(root, "session-id", message.session_id)
    add_element(root, "session-token", message.session_token)
    auth = add_element(root, "auth", id=_SUCCESS)
    if message.banner:
        add_element(auth, "banner", message.banner)
    # Id 0 is the empty message; a text of our own goes without an id that would replace it.
    add_message(auth, "message", message.message, "" if message.message else "0")
    add_element(add_element(root, "capabilities"), "crypto-supported", _CRYPTO_SUPPORTED)
    config = add_element(root, "config", client="vpn", type="private")
    base = add_element(config, "vpn-base-config")
    add_element(base, "base-package-uri", message.base_package_uri)
    add_element(base, "server-cert-hash", message.server_cert_hash)
    _write_core_manifest(config, message.core_packages)
    if message.profiles:
        manifest = add_element(config, "vpn-profile-manifest")
        vpn = add_element(manifest, "vpn", rev="1.0")
        for profile in message.profiles:
            file = add_element(vpn, "file", type=profile.kind, service_type=profile.service)
            add_element(file, "uri", profile.uri)
            add_element(file, "hash", profile.sha1, type="sha1")


def _write_core_manifest(config: Element, packages: tuple[CorePackage, ...]) -> None:
    opaque = add_element(config, "opaque", is_for="vpn-client")
    if packages:
        core = next((package for package in packages if package.is_core), packages[0])
        version = add_element(opaque, "vpn-client-pkg-version")
        add_element(version, "pkgversion", core.version.replace(".", ","))
    vpn = add_element(add_element(opaque, "vpn-core-manifest"), "vpn", rev="1.0")
    for package in packages:
        file = add_element(
            vpn,
            "file",
            version=package.version,
            id=package.identifier,
            type=package.kind,
            action=package.action,
        )
        file.set("is_core", "yes" if package.is_core else "no")
        if package.operating_system:
            file.set("os", package.operating_system)
        if package.module:
            file.set("module", package.module)
        add_element(file, "uri", package.uri)
        if package.display_name:
            add_element(file, "display-name", package.display_name)
