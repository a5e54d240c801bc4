"""Reaches Kafka's brokers, or says in a sentence why not and what to do.

aiokafka tells its own log why a broker could not be used, and its caller only that none could. So one connection is
made first, whose error is at hand. What is then asked of the brokers is others' business.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from events.kafka.settings import PREFIX, Broker, KafkaSettings
from events.log import LogUnavailableError

_REFUSALS: Final = (
    errors.AuthenticationFailedError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_NO_TLS: Final = f"it does not speak TLS there: name the port of its TLS listener, or correct {PREFIX}SECURITY"
_CLOSE_S: Final = 2.0  #: TLS says good-bye, and need not be answered
_VERIFY: Final[dict[int, str]] = {  # OpenSSL's X509_V_ERR_*
    9: "its certificate is not valid yet: set this machine's clock right, or give the broker a valid one",
    10: "its certificate has expired: give the broker a new one",
    18: f"its certificate is self-signed: name it, or its authority's, in {PREFIX}CA_FILE",
    19: f"its certificate was issued by an authority that is not trusted: name the right one in {PREFIX}CA_FILE",
    20: f"its certificate was issued by an authority that is not trusted: name the right one in {PREFIX}CA_FILE",
    62: "its certificate is for another host: use a name that stands in the certificate, or give the broker a new one",
    64: "its certificate is for another address: use a name that stands in it, or give the broker a new one",
}


class NotLetInError(LogUnavailableError):
    """Every broker was reached and refused us, or showed what we must not trust: waiting does not mend that."""

    retriable = False


class _Refusal(NamedTuple):
    sentence: str
    lasting: bool  #: whether the broker answered, and would answer the same again


async def ensure_reachable(settings: KafkaSettings) -> None:
    """Return once a broker has let us in; else raise an error that names each broker's reason and the fix.

    ``NotLetInError`` if waiting does not help, ``LogUnavailableError`` if it may. To be called before aiokafka's
    clients are started, and after one of them could not be.
    """
    refusals = {}
    for broker in settings.brokers:
        refusal = await _refusal(settings, broker)
        if refusal is None:
            return
        refusals[broker] = refusal
    words = ". ".join(f"{broker}: {refusal.sentence}" for broker, refusal in refusals.items())
    kind = NotLetInError if all(refusal.lasting for refusal in refusals.values()) else LogUnavailableError
    raise kind(f"Kafka cannot be reached. {words}")


@asynccontextmanager
async def admin_client(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that is started. Raises ``LogUnavailableError`` when no broker can be used, or none any more."""
    await ensure_reachable(settings)
    client = AIOKafkaAdminClient(**settings.client_options())
    try:
        await client.start()
        yield client
    except (OSError, errors.KafkaError) as error:
        if isinstance(error, errors.KafkaError) and not error.retriable:
            raise
        raise LogUnavailableError(
            f"Kafka did not answer ({type(error).__name__}): see whether all brokers run, and that the addresses which "
            "they advertise can be reached from here"
        ) from error
    finally:
        await client.close()


async def _refusal(settings: KafkaSettings, broker: Broker) -> _Refusal | None:
    """Why ``broker`` does not let us in; None: it does."""
    options = settings.client_options()
    for name in ("bootstrap_servers", "retry_backoff_ms", "metadata_max_age_ms"):
        del options[name]
    options["max_idle_ms"] = options.pop("connections_max_idle_ms")
    connection = AIOKafkaConnection(broker.host, broker.port, **options)
    try:
        await connection.connect()
        answer = await connection.send(MetadataRequest([]))
    except OSError as error:  # a timeout is one, too; asyncio has closed what it had opened
        connection.close()
        return _Refusal(_sentence(error, settings), _is_lasting(error))
    except (ValueError, errors.KafkaError) as error:  # SCRAM raises ValueError
        await _closed(connection)
        return _Refusal(_sentence(error, settings), _is_lasting(error))
    await _closed(connection)
    if settings.token is not None and not answer.brokers:
        # aiokafka takes the broker's objection to a token for its consent; what is asked then is answered by nothing
        return _Refusal(_refused_sentence(None, settings), lasting=True)
    return None


async def _closed(connection: AIOKafkaConnection) -> None:
    """Close, and wait until that is done, also if it was refused: aiokafka itself only begins to."""
    with suppress(TimeoutError):
        await asyncio.wait_for(connection.close(), _CLOSE_S)


def _is_lasting(error: BaseException) -> bool:
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLError):
        return isinstance(cause, ssl.SSLCertVerificationError) or "ALERT" in (cause.reason or "")
    return isinstance(error, _REFUSALS)


def _sentence(error: BaseException, settings: KafkaSettings) -> str:
    """What happened and what to do. Never the text of an error that may repeat what we sent."""
    if isinstance(error, ssl.SSLError):
        return _tls_sentence(error)
    if isinstance(error, socket.gaierror):
        return "there is no host of that name: correct the URL, or the name service"
    if isinstance(error, TimeoutError):
        return "no answer in time: see whether the broker runs and whether a firewall lets us through"
    if isinstance(error, errors.AuthenticationFailedError | errors.SaslAuthenticationFailed):
        return _refused_sentence(error, settings)
    if isinstance(error, errors.UnsupportedSaslMechanismError | errors.IllegalSaslStateError):
        return (
            f"it does not know {settings.mechanism.upper()}: set {PREFIX}SASL_MECHANISM to one that this listener has, "
            "or name the port of another listener"
        )
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: start the broker, or correct the host and port in the URL"
    if isinstance(error, ConnectionError | EOFError | errors.KafkaConnectionError):
        return _hung_up_sentence(error, settings)
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}: correct the host in the URL, or the network"
    return f"the connection failed with {type(error).__name__}: see the broker's own log"


def _tls_sentence(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _VERIFY.get(error.verify_code)
        return known or f"its certificate does not hold ({error.verify_message}): give the broker a valid one"
    reason = error.reason or ""
    if "CERTIFICATE" in reason and "ALERT" in reason:
        return _own_certificate(reason)
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"}:
        return _NO_TLS
    return f"TLS failed ({reason or 'no reason given'}): see the broker's own log"


def _own_certificate(reason: str) -> str:
    what = "has expired" if "EXPIRED" in reason else "is missing or not trusted there"
    return f"our certificate {what}: name a valid one in {PREFIX}CERT_FILE and {PREFIX}KEY_FILE"


def _refused_sentence(error: BaseException | None, settings: KafkaSettings) -> str:
    if settings.token is not None:
        text = str(error.args[0]) if error is not None and error.args else ""
        if text.startswith(PREFIX):
            return text  # our own sentence on the token's file
        return f"it refused the token: put a valid one into the file that {PREFIX}TOKEN_FILE names"
    return (
        f"it refused the user or the password: correct {PREFIX}USERNAME and {PREFIX}PASSWORD or {PREFIX}PASSWORD_FILE"
    )


def _hung_up_sentence(error: BaseException, settings: KafkaSettings) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLError):
        return _tls_sentence(cause)
    if settings.encrypted and isinstance(error, ConnectionError):
        return _NO_TLS  # before TLS was agreed
    if settings.encrypted:
        return (
            f"it hung up: if its clients have to show who they are by TLS, set {PREFIX}CERT_FILE; its own log says more"
        )
    return f"it hung up: if that listener has TLS or SASL, set {PREFIX}SECURITY; its own log says more"
