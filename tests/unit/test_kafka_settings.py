"""How Kafka is reached: what a URL and the environment mean, what is refused, and that secrets stay secret."""

from __future__ import annotations

import inspect
import ssl
import subprocess
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import AuthenticationFailedError

from events.kafka.settings import GROUP_PREFIX, VARIABLES, Broker, KafkaSettings, is_loopback, kafka_settings
from events.topics import TOPICS

PASSWORD = "correct-horse-battery"
SASL = {"SECURITY": "sasl-tls", "USERNAME": "router", "PASSWORD": PASSWORD}


def made(url: str = "kafka://localhost", **variables: str) -> KafkaSettings:
    return kafka_settings(url, {f"VIP_ROUTER_KAFKA_{name}": value for name, value in variables.items()})


def refused(url: str = "kafka://localhost", **variables: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its text is what the callers look at
        made(url, **variables)
    return str(caught.value)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key, the key under a password."""
    folder = tmp_path_factory.mktemp("pair")
    certificate, key = folder / "own.pem", folder / "own.key"
    words = (
        f"req -x509 -newkey rsa:2048 -days 1 -subj /CN=own -passout pass:{PASSWORD} -keyout {key} -out {certificate}"
    )
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    return certificate, key


# --- the URL ---


def test_a_url_names_brokers():
    """Names, addresses and bracketed IPv6 addresses; 9092 where no port stands."""
    brokers = made("kafka://localhost:9093,[::1]:9094,127.0.0.1,[::1]").brokers
    assert brokers == (
        Broker("localhost", 9093),
        Broker("::1", 9094),
        Broker("127.0.0.1", 9092),
        Broker("::1", 9092),
    )
    assert [str(broker) for broker in brokers][1::2] == ["[::1]:9094", "[::1]:9092"]


@pytest.mark.parametrize(
    "url",
    [
        "kafka://",
        "kafka://,",
        "kafka://a,",
        "kafka://a b",
        "kafka://a:9092, b:9092",
        "kafka://a/topic",
        "kafka://a?x=1",
        "kafka://a:port",
        "kafka://::1",
        "kafka://[::1",
        "kafka://[a]:9092",
        "kafka://1.2.3",
        "kafka://a..b",
        "kafka://-a",
        "kafka://" + "a" * 64,
    ],
)
def test_a_host_that_is_none_is_named(url: str):
    """The error quotes the part of the URL and says how to write it."""
    assert "names no host; write HOST:9092" in refused(url)


def test_other_urls_are_refused_in_words():
    assert "write kafka://HOST:9092" in refused("http://a")
    assert "the port 65536; give one between 1 and 65535" in refused("kafka://a:65536")
    assert "101 hosts; name at most 100" in refused("kafka://" + ",".join("a" * 101))


def test_a_password_in_the_url_is_not_repeated():
    """Whoever writes credentials into the URL is told where they go, without showing them."""
    assert PASSWORD not in (said := refused(f"kafka://router:{PASSWORD}@localhost"))
    assert "VIP_ROUTER_KAFKA_PASSWORD_FILE" in said


# --- the names of variables ---


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SECURTY", "VIP_ROUTER_KAFKA_SECURITY"),
        ("SASL_USERNAME", "VIP_ROUTER_KAFKA_USERNAME"),
        ("SASL_PASSWORD", "VIP_ROUTER_KAFKA_PASSWORD"),
        ("SASL_PASSWORD_FILE", "VIP_ROUTER_KAFKA_PASSWORD_FILE"),
        ("SASL_PLAIN_USERNAME", "VIP_ROUTER_KAFKA_USERNAME"),
        ("MECHANISM", "VIP_ROUTER_KAFKA_SASL_MECHANISM"),
        ("SECURITY_PROTOCOL", "VIP_ROUTER_KAFKA_SECURITY"),
        ("SSL_CAFILE", "VIP_ROUTER_KAFKA_CA_FILE"),
        ("BOOTSTRAP_SERVERS", "VIP_ROUTER_LOG"),
        ("TOPIC_PREFIX", "VIP_ROUTER_TOPIC_PREFIX"),
    ],
)
def test_a_variable_that_nobody_reads_is_refused_and_the_nearest_is_named(name: str, meant: str):
    """Before anything else is said: what it was meant to set would be called missing. Its value is never shown."""
    said = refused(SECURITY="sasl-tls", **{name: PASSWORD})
    assert said == f"VIP_ROUTER_KAFKA_{name}: there is no such setting; did you mean {meant}?"


def test_where_no_variable_is_near_all_are_named():
    said = refused(JAAS="x")
    assert all(f" {name}" in said for name in VARIABLES)


def test_every_variable_that_is_read_is_known_and_no_other():
    """A name that is read and not listed would be refused."""
    read: set[str] = set()

    class Seen(dict[str, str]):
        def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
            read.add(name)
            return super().get(name, default)

    kafka_settings("kafka://localhost", Seen(), topic_prefix="")
    assert read == {f"VIP_ROUTER_KAFKA_{name}" for name in VARIABLES}


def test_what_kubernetes_sets_for_a_service_of_that_name_is_left_alone():
    """A service called vip-router-kafka would else keep every pod beside it from starting."""
    theirs = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_CLIENTS", "PORT", "PORT_9092_TCP", "PORT_9092_TCP_ADDR")
    assert made(**dict.fromkeys(theirs, "tcp://10.0.0.1:9092")) == made()
    assert made(SECURTY="") == made(), "an empty variable counts as unset"


# --- what every client of aiokafka is told ---


def test_every_common_option_is_given():
    """No option that producer, consumer and admin client share is left to aiokafka's default."""
    clients = (AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient)
    shared = set.intersection(*(set(inspect.signature(client.__init__).parameters) for client in clients))
    no_longer_in_use = {"self", "loop", "api_version"}
    assert set(made().client_options()) == shared - no_longer_in_use


def test_plaintext_options():
    options = made("kafka://localhost:1,[::1]:2", CLIENT_ID="desk-7", REQUEST_TIMEOUT="4s").client_options()
    assert options["bootstrap_servers"] == ["localhost:1", "[::1]:2"]
    assert (options["client_id"], options["request_timeout_ms"]) == ("desk-7", 4_000)
    assert (options["security_protocol"], options["ssl_context"]) == ("PLAINTEXT", None)
    assert options["sasl_plain_password"] is None


@pytest.mark.parametrize("mechanism", ["scram-sha-512", "PLAIN"])
def test_a_user_and_a_password(mechanism: str):
    options = made("kafka://far", **SASL, SASL_MECHANISM=mechanism).client_options()
    assert (options["security_protocol"], options["sasl_mechanism"]) == ("SASL_SSL", mechanism.upper())
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("router", PASSWORD)
    assert isinstance(options["ssl_context"], ssl.SSLContext)


def test_tls_checks_name_and_certificate():
    """With a CA file only its authorities are trusted; the host's name is always checked."""
    authorities = ssl.get_default_verify_paths().cafile
    assert authorities is not None
    context = made("kafka://far", SECURITY="tls", CA_FILE=authorities).client_options()["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_password_file_is_read_for_each_client(tmp_path: Path):
    """A password that was changed in its file counts for the next client, without a restart."""
    file = tmp_path / "password"
    file.write_text("old\n")
    settings = made("kafka://far", SECURITY="sasl-tls", USERNAME="router", PASSWORD_FILE=str(file))
    assert settings.client_options()["sasl_plain_password"] == "old"
    file.write_text("new\r\n")
    assert settings.client_options()["sasl_plain_password"] == "new"


async def test_a_token_is_read_for_each_connection(tmp_path: Path):
    """One client gets a new token for a new connection; a file that has gone is a failed login that names it."""
    file = tmp_path / "token"
    file.write_text("one")
    settings = made("kafka://far", SECURITY="sasl-tls", SASL_MECHANISM="oauthbearer", TOKEN_FILE=str(file))
    provider = settings.client_options()["sasl_oauth_token_provider"]
    assert await provider.token() == "one"
    file.write_text("two")
    assert await provider.token() == "two"
    file.unlink()
    with pytest.raises(AuthenticationFailedError, match=r"VIP_ROUTER_KAFKA_TOKEN_FILE: .*cannot be read"):
        await provider.token()


def test_a_certificate_of_our_own(pair: tuple[Path, Path]):
    certificate, key = map(str, pair)
    files = {"SECURITY": "tls", "CERT_FILE": certificate, "KEY_FILE": key}
    assert made("kafka://far", **files, KEY_PASSWORD=PASSWORD).client_options()["ssl_context"] is not None
    said = refused("kafka://far", **files)
    assert "check the key's password" in said  # and nobody was asked for it on the terminal
    assert PASSWORD not in refused("kafka://far", **files, KEY_PASSWORD=PASSWORD + "x")
    assert "KEY_FILE" in refused("kafka://far", SECURITY="tls", CERT_FILE=certificate)


# --- what is refused ---


@pytest.mark.parametrize("host", ["broker", "10.0.0.7", "[2001:db8::1]", "localhost.example.com", "127.0.0.1,broker"])
def test_plaintext_stays_on_this_machine(host: str):
    """Plaintext leaves the machine only if somebody says that the network is safe."""
    assert "can be read and changed on the way; set it to tls" in refused(f"kafka://{host}")
    assert made(f"kafka://{host}", ALLOW_PLAINTEXT="1").plaintext_allowed


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_plaintext_on_this_machine_is_taken(host: str):
    assert all(is_loopback(broker.host) for broker in made(f"kafka://{host}").brokers)


def test_sasl_without_tls():
    """SCRAM may be tried on this machine; what shows a password or a token may not, unless somebody says so."""
    open_ = {**SASL, "SECURITY": "sasl-plaintext"}
    assert made(**open_).client_options()["security_protocol"] == "SASL_PLAINTEXT"
    assert "can be read and changed" in refused("kafka://far", **open_)
    assert "shows the password or token" in refused(**open_, SASL_MECHANISM="plain")
    assert made(**open_, SASL_MECHANISM="plain", ALLOW_PLAINTEXT="1").plaintext_allowed


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"SECURITY": "ssl"}, "SECURITY: give one of plaintext, tls, sasl-tls"),
        ({"SECURITY": "sasl-tls"}, "USERNAME: it is missing; scram-sha-512 needs it"),
        ({"SECURITY": "sasl-tls", "USERNAME": "u"}, "PASSWORD: it is missing; .*or VIP_ROUTER_KAFKA_PASSWORD_FILE"),
        ({"SECURITY": "sasl-tls", "SASL_MECHANISM": "oauthbearer"}, "TOKEN_FILE: it is missing"),
        ({**SASL, "SASL_MECHANISM": "gssapi"}, "SASL_MECHANISM: give one of scram-sha-512, oauthbearer, plain"),
        ({**SASL, "TOKEN_FILE": "t"}, "TOKEN_FILE: it does not go with .*SASL_MECHANISM scram-sha-512; unset it"),
        ({**SASL, "PASSWORD_FILE": "p"}, "PASSWORD and VIP_ROUTER_KAFKA_PASSWORD_FILE: give one of them"),
        ({**SASL, "PASSWORD": "a\nb"}, "PASSWORD: the secret holds a line break"),
        ({"USERNAME": "u"}, "USERNAME: it counts only with SASL; set VIP_ROUTER_KAFKA_SECURITY to sasl-tls"),
        ({"CA_FILE": "ca.pem"}, "CA_FILE: it counts only with TLS"),
        ({"SECURITY": "tls", "CA_FILE": "absent.pem"}, r"CA_FILE: the file absent.pem cannot be read \(No such file"),
        ({"SECURITY": "tls", "CA_FILE": __file__}, "CA_FILE: .* holds no certificate; write it in PEM format"),
        ({"SECURITY": "tls", "KEY_FILE": "k"}, "CERT_FILE: it is missing beside the key"),
        ({"SESSION_TIMEOUT": "10"}, "SESSION_TIMEOUT: write a duration such as 10s or 1m, from 1s to 1800s"),
        ({"SESSION_TIMEOUT": "500ms"}, "SESSION_TIMEOUT: write a duration"),
        ({"REQUEST_TIMEOUT": "6m"}, "REQUEST_TIMEOUT: write a duration such as 10s or 1m, from 1s to 300s"),
        ({"INSTANCE_ID": "desk 7"}, "INSTANCE_ID: use up to 249 letters"),
        ({"CLIENT_ID": "x" * 250}, "CLIENT_ID: use up to 249 letters"),
        ({"ALLOW_PLAINTEXT": "yes"}, "ALLOW_PLAINTEXT: give one of 0, 1"),
    ],
)
def test_a_bad_variable_is_named_with_its_fix(variables: dict[str, str], names: str):
    with pytest.raises(ValueError, match=f"^VIP_ROUTER_KAFKA_{names}"):
        made("kafka://localhost", **variables)


def test_empty_variables_are_unset():
    """As compose files and service units leave them."""
    assert made(USERNAME="", SECURITY="", CA_FILE="", INSTANCE_ID="") == made()


# --- secrets ---


def test_secrets_are_never_shown(tmp_path: Path):
    """Neither a repr nor an error holds a password, a key's password or what stands in a file."""
    settings = made("kafka://far", **SASL, SASL_MECHANISM="plain")
    assert PASSWORD not in repr(settings)
    assert PASSWORD not in repr(settings.password)
    bad = PASSWORD + "\x00"
    assert PASSWORD not in refused("kafka://far", **{**SASL, "PASSWORD": bad})
    file = tmp_path / "password"
    file.write_bytes(PASSWORD.encode() + b"\xff")
    said = refused("kafka://far", SECURITY="sasl-tls", USERNAME="u", PASSWORD_FILE=str(file))
    assert "is not UTF-8 text" in said
    assert PASSWORD not in said
    file.write_bytes(PASSWORD.encode() * 10_000)
    said = refused("kafka://far", SECURITY="sasl-tls", USERNAME="u", PASSWORD_FILE=str(file))
    assert "is over 65,536 bytes" in said


# --- names ---


def test_the_prefix_stands_before_every_name():
    settings = kafka_settings("kafka://localhost", {"VIP_ROUTER_TOPIC_PREFIX": "blue."})
    assert settings.topic("routing.log") == "blue.routing.log"
    assert [settings.name_of(settings.topic(name)) for name in TOPICS] == list(TOPICS)
    assert settings.group("router") == f"blue.{GROUP_PREFIX}router"
    with pytest.raises(ValueError, match="does not begin with the prefix"):
        settings.name_of("green.routing.log")


def test_an_explicit_prefix_wins():
    environment = {"VIP_ROUTER_TOPIC_PREFIX": "blue."}
    assert kafka_settings("kafka://localhost", environment, topic_prefix="red.").topic_prefix == "red."
    assert kafka_settings("kafka://localhost", environment, topic_prefix="").topic_prefix == ""


@pytest.mark.parametrize("prefix", ["a b", "ü", "x" * 201, "a/b", "a\n"])
def test_a_prefix_that_no_topic_can_have(prefix: str):
    """The longest prefix leaves room for the longest of our names."""
    with pytest.raises(ValueError, match=r"^--topic-prefix or VIP_ROUTER_TOPIC_PREFIX: use up to 200 letters"):
        kafka_settings("kafka://localhost", {}, topic_prefix=prefix)
    assert 200 + max(map(len, TOPICS)) <= 249


def test_a_session_outlasts_several_heartbeats():
    for seconds in (1, 6, 10, 45, 1800):
        settings = made(SESSION_TIMEOUT=f"{seconds}s")
        assert settings.session_timeout_ms == seconds * 1_000
        assert 0 < settings.heartbeat_interval_ms * 3 <= settings.session_timeout_ms
