"""How Kafka is reached: the brokers of a ``kafka://`` URL, and the environment's ``VIP_ROUTER_KAFKA_*``.

Read once, checked as a whole. Who sends what to the brokers is the adapter's business (``events/kafka/log.py``), why
they cannot be reached ``events/kafka/reach.py``'s.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from msgspec import Struct

from events.kafka.security import FileToken, Secret, TlsFiles, tls_context

Security: TypeAlias = Literal["plaintext", "tls", "sasl-tls", "sasl-plaintext"]
Mechanism: TypeAlias = Literal["scram-sha-512", "oauthbearer", "plain"]

PREFIX: Final = "VIP_ROUTER_KAFKA_"
VARIABLES: Final = (
    "SECURITY",
    "SASL_MECHANISM",
    "USERNAME",
    "PASSWORD",
    "PASSWORD_FILE",
    "TOKEN_FILE",
    "CA_FILE",
    "CERT_FILE",
    "KEY_FILE",
    "KEY_PASSWORD",
    "KEY_PASSWORD_FILE",
    "ALLOW_PLAINTEXT",
    "CLIENT_ID",
    "INSTANCE_ID",
    "SESSION_TIMEOUT",
    "REQUEST_TIMEOUT",
)  #: all that may follow ``PREFIX``
TOPIC_PREFIX_VARIABLE: Final = "VIP_ROUTER_TOPIC_PREFIX"
CLIENT_ID: Final = "vip-router"
GROUP_PREFIX: Final = "vip-router."  #: of our consumer groups: the names of others cannot meet them
PORT: Final = 9092  #: of a host that names none
HOSTS_MAX: Final = 100
HOST_CHARACTERS_MAX: Final = 253  #: the DNS' limit
PREFIX_CHARACTERS_MAX: Final = 200  #: Kafka's 249 for a name, less the longest of ours

_PROTOCOLS: Final[dict[Security, str]] = {
    "plaintext": "PLAINTEXT",
    "tls": "SSL",
    "sasl-tls": "SASL_SSL",
    "sasl-plaintext": "SASL_PLAINTEXT",
}
_TLS: Final = ("tls", "sasl-tls")
_SASL: Final = ("sasl-tls", "sasl-plaintext")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_DURATION: Final = re.compile(r"([0-9]{1,7})(ms|s|m)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000}
_OTHER_NAMES: Final = {  # what other programs call ours, as far as it does not look alike
    "USER": PREFIX + "USERNAME",
    "SECURITY_PROTOCOL": PREFIX + "SECURITY",
    "PROTOCOL": PREFIX + "SECURITY",
    "CAFILE": PREFIX + "CA_FILE",
    "CAPATH": PREFIX + "CA_FILE",
    "CA_LOCATION": PREFIX + "CA_FILE",
    "CERTIFICATE_LOCATION": PREFIX + "CERT_FILE",
    "KEY_LOCATION": PREFIX + "KEY_FILE",
    "BOOTSTRAP_SERVERS": "VIP_ROUTER_LOG",
    "BROKERS": "VIP_ROUTER_LOG",
    "URL": "VIP_ROUTER_LOG",
    "TOPIC_PREFIX": TOPIC_PREFIX_VARIABLE,
}
_KUBERNETES: Final = re.compile(r"SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?")


class Broker(NamedTuple):
    """Where a broker listens. ``host`` is a name or an address, an IPv6 one without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class KafkaSettings(Struct, frozen=True, kw_only=True):
    """How Kafka is reached. Made by ``kafka_settings``, which has checked it."""

    brokers: tuple[Broker, ...]
    topic_prefix: str = ""
    client_id: str = CLIENT_ID
    instance_id: str | None = None  #: of this process, for static membership in consumer groups
    session_timeout_ms: int = 10_000  #: a group's member that was silent for so long is taken for dead
    request_timeout_ms: int = 10_000  #: a broker that hangs is left after about twice as long
    security: Security = "plaintext"
    mechanism: Mechanism = "scram-sha-512"
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    tls: TlsFiles = TlsFiles()
    plaintext_allowed: bool = False  #: said by whoever knows that the network is safe

    @property
    def heartbeat_interval_ms(self) -> int:
        """How often a group's member says that it lives; a session outlasts several that are lost."""
        return max(100, min(3_000, self.session_timeout_ms // 10))

    @property
    def encrypted(self) -> bool:
        """Whether nobody on the way can read along."""
        return self.security in _TLS

    def topic(self, name: str) -> str:
        """What the brokers call one of our topics."""
        return self.topic_prefix + name

    def group(self, name: str) -> str:
        """What the brokers call one of our consumer groups; ``events/kafka/acls.py`` allows these names."""
        return f"{self.topic_prefix}{GROUP_PREFIX}{name}"

    def name_of(self, topic: str) -> str:
        """Which topic of ours the brokers' ``topic`` is; raises ``ValueError`` if it does not begin with the prefix."""
        if not topic.startswith(self.topic_prefix):
            raise ValueError(f"topic {topic}: it does not begin with the prefix {self.topic_prefix}")
        return topic[len(self.topic_prefix) :]

    def client_options(self) -> dict[str, Any]:
        """Every option that aiokafka's producer, consumer and admin client have in common, by name.

        Reads the files of secrets and certificates anew: call it for each client. Holds secrets: never show it. Raises
        ``ValueError`` that names the variable whose file cannot be used.
        """
        sasl = self.security in _SASL
        return {
            "bootstrap_servers": [str(broker) for broker in self.brokers],
            "client_id": self.client_id,
            "request_timeout_ms": self.request_timeout_ms,
            "retry_backoff_ms": 50,
            "metadata_max_age_ms": 10_000,  # how late a new leader or a topic made anew is seen at the latest
            "connections_max_idle_ms": 540_000,  # below the brokers' own ten minutes: we hang up, not they
            "security_protocol": _PROTOCOLS[self.security],
            "ssl_context": tls_context(self.tls, PREFIX) if self.encrypted else None,
            "sasl_mechanism": self.mechanism.upper(),  # counts only where the protocol has SASL
            "sasl_plain_username": self.username if sasl else None,
            "sasl_plain_password": self.password.read() if sasl and self.password is not None else None,
            "sasl_oauth_token_provider": FileToken(self.token) if sasl and self.token is not None else None,
            "sasl_kerberos_service_name": "kafka",
            "sasl_kerberos_domain_name": None,
        }


def kafka_settings(
    url: str, environment: Mapping[str, str] = os.environ, *, topic_prefix: str | None = None
) -> KafkaSettings:
    """Settings out of a URL and the environment; ``topic_prefix`` None: the environment's.

    Raises ``ValueError`` that names the URL's part or the variable, and the fix.
    """
    _check_names(environment)
    given = _Given(environment)
    settings = KafkaSettings(
        brokers=_brokers(url),
        topic_prefix=_topic_prefix(
            environment.get(TOPIC_PREFIX_VARIABLE, "") if topic_prefix is None else topic_prefix
        ),
        client_id=given.name("CLIENT_ID") or CLIENT_ID,
        instance_id=given.name("INSTANCE_ID"),
        session_timeout_ms=given.duration_ms("SESSION_TIMEOUT", 10_000, low_ms=1_000, high_ms=1_800_000),
        request_timeout_ms=given.duration_ms("REQUEST_TIMEOUT", 10_000, low_ms=1_000, high_ms=300_000),
        security=given.one_of("SECURITY", get_args(Security), "plaintext"),
        mechanism=given.one_of("SASL_MECHANISM", get_args(Mechanism), "scram-sha-512"),
        username=given.text("USERNAME"),
        password=given.secret("PASSWORD"),
        token=given.file_secret("TOKEN_FILE"),
        tls=TlsFiles(
            ca=given.path("CA_FILE"),
            certificate=given.path("CERT_FILE"),
            key=given.path("KEY_FILE"),
            key_password=given.secret("KEY_PASSWORD"),
        ),
        plaintext_allowed=given.one_of("ALLOW_PLAINTEXT", ("0", "1"), "0") == "1",
    )
    _check_tls(settings)
    _check_sasl(settings)
    _check_plaintext(settings)
    settings.client_options()  # what its files lack is said now, and not when the first broker is asked
    return settings


def _check_names(environment: Mapping[str, str]) -> None:
    """Refuse a variable that nobody reads: it was meant to change something, maybe how safe we are."""
    for variable in sorted(environment):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in VARIABLES or not environment[variable]:
            continue
        if _KUBERNETES.fullmatch(name):  # it sets these for each service, one named vip-router-kafka included
            continue
        meant = _meant(name)
        fix = f"did you mean {meant}?" if meant else f"give one of {', '.join(VARIABLES)} after {PREFIX}"
        raise ValueError(f"{variable}: there is no such setting; {fix}")


def _meant(name: str) -> str | None:
    bare = re.sub(r"^(SASL|SSL|TLS)_(PLAIN_)?", "", name)
    for written in (name, bare):
        if written in _OTHER_NAMES:
            return _OTHER_NAMES[written]
        near = get_close_matches(written, VARIABLES, n=1, cutoff=0.75)
        if near:
            return PREFIX + near[0]
    return None


class _Given:
    """The environment's variables, an empty one counted as unset."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str) -> str | None:
        return self._environment.get(PREFIX + name) or None

    def name(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and _NAME.fullmatch(value) is None:
            raise ValueError(f"{PREFIX}{name}: use up to 249 letters, digits, '.', '_' and '-'")
        return value

    def one_of(self, name: str, values: tuple[Any, ...], default: str) -> Any:
        value = (self.text(name) or default).lower()
        if value not in values:
            raise ValueError(f"{PREFIX}{name}: give one of {', '.join(values)}")
        return value

    def path(self, name: str) -> Path | None:
        value = self.text(name)
        return None if value is None else Path(value)

    def secret(self, name: str) -> Secret | None:
        value, file = self.text(name), self.file_secret(f"{name}_FILE")
        if value is not None and file is not None:
            raise ValueError(f"{PREFIX}{name} and {PREFIX}{name}_FILE: give one of them")
        return file if value is None else Secret(PREFIX + name, value=value)

    def file_secret(self, name: str) -> Secret | None:
        path = self.path(name)
        return None if path is None else Secret(PREFIX + name, path=path)

    def duration_ms(self, name: str, default_ms: int, *, low_ms: int, high_ms: int) -> int:
        value = self.text(name)
        if value is None:
            return default_ms
        found = _DURATION.fullmatch(value)
        duration_ms = 0 if found is None else int(found[1]) * _UNIT_MS[found[2]]
        if not low_ms <= duration_ms <= high_ms:
            raise ValueError(
                f"{PREFIX}{name}: write a duration such as 10s or 1m, from {low_ms // 1000}s to {high_ms // 1000}s"
            )
        return duration_ms


def _brokers(url: str) -> tuple[Broker, ...]:
    scheme, separator, rest = url.partition("://")
    if (scheme, separator) != ("kafka", "://"):
        raise ValueError("Kafka's URL: write kafka://HOST:9092[,HOST:9092]")
    if "@" in rest:  # not shown: what stands before it may be a password
        raise ValueError(f"Kafka's URL: leave user and password out; set {PREFIX}USERNAME and {PREFIX}PASSWORD_FILE")
    words = rest.split(",")
    if len(words) > HOSTS_MAX:
        raise ValueError(f"Kafka's URL: {len(words)} hosts; name at most {HOSTS_MAX}, the brokers tell of the others")
    return tuple(_broker(word) for word in words)


def _broker(word: str) -> Broker:
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?", word)
    found = bracketed or re.fullmatch(r"([^\[\]:/?#\s]+)(?::([0-9]{1,5}))?", word)
    problem = ValueError(
        f"Kafka's URL: {word!r} names no host; write HOST:9092, an IPv6 address in brackets, commas without spaces"
    )
    if found is None:
        raise problem
    host, port = found[1], int(found[2] or PORT)
    address = _address(host)
    known = isinstance(address, IPv6Address) if bracketed else address is not None or _is_host_name(host)
    if not known:
        raise problem
    if not 1 <= port <= 65_535:  # noqa: PLR2004  # TCP's ports
        raise ValueError(f"Kafka's URL: {word!r} has the port {port}; give one between 1 and 65535")
    return Broker(host, port)


def _is_host_name(host: str) -> bool:
    """Whether it is a name of the DNS; one that ends in a number is an address that was mistyped."""
    labels = host.removesuffix(".").split(".")
    return len(host) <= HOST_CHARACTERS_MAX and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def _address(host: str) -> Any:
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether what is sent to ``host`` stays on this machine; a name other than ``localhost`` is not looked up."""
    address = _address(host)
    return host.lower().rstrip(".") == "localhost" if address is None else bool(address.is_loopback)


def _topic_prefix(prefix: str) -> str:
    if prefix and (_NAME.fullmatch(prefix) is None or len(prefix) > PREFIX_CHARACTERS_MAX):
        raise ValueError(
            f"--topic-prefix or {TOPIC_PREFIX_VARIABLE}: use up to {PREFIX_CHARACTERS_MAX} letters, digits, '.', '_' "
            "and '-'"
        )
    return prefix


def _check_tls(settings: KafkaSettings) -> None:
    files = settings.tls
    useless = [
        name for name, value in zip(("CA_FILE", "CERT_FILE", "KEY_FILE", "KEY_PASSWORD"), files, strict=True) if value
    ]
    if useless and not settings.encrypted:
        raise ValueError(f"{PREFIX}{useless[0]}: it counts only with TLS; set {PREFIX}SECURITY to tls or sasl-tls")
    if (files.key or files.key_password) and not files.certificate:
        raise ValueError(f"{PREFIX}CERT_FILE: it is missing beside the key; name the certificate's file")


def _check_sasl(settings: KafkaSettings) -> None:
    named = {"USERNAME": settings.username, "PASSWORD": settings.password, "TOKEN_FILE": settings.token}
    if settings.security not in _SASL:
        needed: tuple[str, ...] = ()
        fix = f"it counts only with SASL; set {PREFIX}SECURITY to sasl-tls"
    else:
        needed = ("TOKEN_FILE",) if settings.mechanism == "oauthbearer" else ("USERNAME", "PASSWORD")
        fix = f"it does not go with {PREFIX}SASL_MECHANISM {settings.mechanism}; unset it"
    for name, value in named.items():
        if value is None and name in needed:
            also = f", or {PREFIX}PASSWORD_FILE" if name == "PASSWORD" else ""
            raise ValueError(f"{PREFIX}{name}: it is missing; {settings.mechanism} needs it{also}")
        if value is not None and name not in needed:
            raise ValueError(f"{PREFIX}{name}: {fix}")


def _check_plaintext(settings: KafkaSettings) -> None:
    if settings.encrypted or settings.plaintext_allowed:
        return
    sent_open = settings.security in _SASL and settings.mechanism != "scram-sha-512"
    if sent_open:
        raise ValueError(
            f"{PREFIX}SECURITY: {settings.mechanism} without TLS shows the password or token to everybody on the way; "
            f"set it to sasl-tls, or {PREFIX}ALLOW_PLAINTEXT to 1 if nobody can listen"
        )
    foreign = [broker for broker in settings.brokers if not is_loopback(broker.host)]
    if foreign:
        raise ValueError(
            f"{PREFIX}SECURITY: {settings.security} to {foreign[0]} can be read and changed on the way; set it to tls "
            f"or sasl-tls, or {PREFIX}ALLOW_PLAINTEXT to 1 if the network is safe"
        )
