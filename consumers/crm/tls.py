"""Whom a look-up believes to be the CRM: the public certificate authorities, and one's own where there is one."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Final

import certifi

from consumers.settings import SettingsError

CA_VARIABLE: Final = "VIP_ROUTER_CRM_CA_FILE"


def tls_context(environment: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """A context that always verifies certificate and host name.

    ``VIP_ROUTER_CRM_CA_FILE`` names a PEM file of authorities that are believed besides the public ones. Raises
    ``SettingsError`` if it cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=certifi.where())
    own = environment.get(CA_VARIABLE)
    if own:
        try:
            context.load_verify_locations(cafile=own)
        except (OSError, ssl.SSLError) as error:
            why = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
            raise SettingsError(f"{CA_VARIABLE}: {own}: {why}; name a readable PEM file") from None
    return context
