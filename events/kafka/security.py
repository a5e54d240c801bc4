"""What proves who we are to Kafka's brokers, and who they are to us: secrets, tokens, TLS.

Secrets are read where they are used, so that a file that was changed counts for the next client or connection; their
values stand in no repr, error or program log. Which of it is needed is ``events/kafka/settings.py``'s business.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import Final, NamedTuple

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError

SECRET_BYTES_MAX: Final = 64 * 1024

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Secret:
    """A value that nothing shows: from the environment, or from a file that is read anew with each ``read``."""

    __slots__ = ("_path", "_value", "variable")

    def __init__(self, variable: str, *, value: str | None = None, path: Path | None = None) -> None:
        self.variable = variable  #: the environment variable that holds it, or its file's name
        self._value = value
        self._path = path

    def __repr__(self) -> str:
        return f"Secret({self.variable!r})"

    def read(self) -> str:
        """The value; raises ``ValueError`` that names the variable and the fix, never the value."""
        value = self._value if self._path is None else self._from_file(self._path)
        if not value:
            raise ValueError(f"{self.variable}: the secret is empty; set it, or unset the variable")
        if _CONTROL.search(value):
            raise ValueError(f"{self.variable}: the secret holds a line break or another control character; remove it")
        return value

    def _from_file(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                raw = file.read(SECRET_BYTES_MAX + 1)
        except OSError as error:
            raise ValueError(_unreadable(self.variable, path, error)) from None
        if len(raw) > SECRET_BYTES_MAX:
            raise ValueError(f"{self.variable}: the file {path} is over {SECRET_BYTES_MAX:,} bytes; name the secret's")
        try:
            return raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise ValueError(f"{self.variable}: the file {path} is not UTF-8 text; write it as UTF-8") from None


class FileToken(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """The bearer token of OAUTHBEARER, out of a file that somebody else keeps fresh; read for each connection."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    async def token(self) -> str:
        """The token; raises ``AuthenticationFailedError``, which aiokafka takes for a broker that refused."""
        try:
            return await asyncio.to_thread(self._secret.read)
        except ValueError as error:
            raise AuthenticationFailedError(str(error)) from None


class TlsFiles(NamedTuple):
    """Files in PEM format; None: the system's certificate authorities, and no certificate of our own."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None  #: None: it stands in the certificate's file
    key_password: Secret | None = None


def tls_context(files: TlsFiles, prefix: str) -> ssl.SSLContext:
    """A client's context that checks the broker's certificate and name.

    Raises ``ValueError`` that names the variable (``prefix`` and ``CA_FILE``, ``CERT_FILE``, ``KEY_FILE``) and the fix.
    """
    for variable, path in (("CA_FILE", files.ca), ("CERT_FILE", files.certificate), ("KEY_FILE", files.key)):
        if path is not None:
            _check_readable(prefix + variable, path)
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=files.ca)
    except ssl.SSLError:
        raise ValueError(f"{prefix}CA_FILE: {files.ca} holds no certificate; write it in PEM format") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.certificate is not None:
        _load_own(context, files, prefix)
    return context


def _load_own(context: ssl.SSLContext, files: TlsFiles, prefix: str) -> None:
    # without a password OpenSSL would ask for one on the terminal
    password = "" if files.key_password is None else files.key_password.read()
    assert files.certificate is not None
    try:
        context.load_cert_chain(files.certificate, files.key, lambda: password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            fix = "the key does not belong to the certificate; name the pair that was issued together"
        else:
            fix = "certificate and key cannot be loaded; write both in PEM format and check the key's password"
        raise ValueError(f"{prefix}CERT_FILE and {prefix}KEY_FILE: {fix}") from None


def _check_readable(variable: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ValueError(_unreadable(variable, path, error)) from None


def _unreadable(variable: str, path: Path, error: OSError) -> str:
    return f"{variable}: the file {path} cannot be read ({error.strerror}); name one that this user can read"
