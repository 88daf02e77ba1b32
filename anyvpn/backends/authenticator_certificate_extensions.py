"""Extensions of certificates, whatever is wrong with those around them."""

from __future__ import annotations

from typing import TypeVar

from cryptography import x509

Value = TypeVar("Value", bound=x509.ExtensionType)


def extension_in(certificate: x509.Certificate, kind: type[Value]) -> Value | None:
    """What an extension says, if it is there. Raises: ValueError: they cannot be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from None
