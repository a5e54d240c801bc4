"""Brokers behind TLS and SASL: who is let in, and the sentence that tells an operator why somebody is not."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from events.kafka.reach import NotLetInError, admin_client, ensure_reachable
from events.kafka.settings import KafkaSettings, kafka_settings
from events.log import LogUnavailableError
from tests.brokers import backends
from tests.brokers.cluster import Cluster
from tests.brokers.node import Extra
from tests.processes import run

pytestmark = pytest.mark.on_processes

PASSWORD = "correct-horse-battery"
LONG_AGO = ("20200101000000Z", "20200201000000Z")  # from, until
SERVER = "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n"
STRANGER = "basicConstraints=CA:FALSE\nsubjectAltName=DNS:kafka.example.com\n"


class Papers(NamedTuple):
    """Certificates of a test's own making."""

    folder: Path

    def __call__(self, name: str) -> str:
        return str(self.folder / name)

    def pem(self, *names: str) -> str:
        return "".join((self.folder / name).read_text() for name in names)


def openssl(folder: Path, words: str) -> None:
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)


def authority(folder: Path, name: str) -> None:
    usage = "-addext keyUsage=critical,keyCertSign,cRLSign"  # without it Python 3.13 and newer trust it in nothing
    openssl(
        folder, f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} {usage} -keyout {name}.key -out {name}.pem"
    )


def issue(folder: Path, ca: str, name: str, extensions: str, valid: tuple[str, str] | None = None) -> None:
    """A certificate from ``ca``, for now or for a time that has passed."""
    (folder / f"{name}.ext").write_text(extensions)
    (folder / f"{name}.index").write_text("")
    (folder / f"{name}.cnf").write_text(
        f"[ca]\ndefault_ca=it\n[it]\ndatabase={name}.index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\n"
        "policy=any\n[any]\ncommonName=supplied\n"
    )
    openssl(folder, f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr")
    when = f"-startdate {valid[0]} -enddate {valid[1]}" if valid else "-days 1"
    openssl(
        folder,
        f"ca -batch -notext -config {name}.cnf -cert {ca}.pem -keyfile {ca}.key -in {name}.csr -out {name}.pem "
        f"-extfile {name}.ext {when}",
    )


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    authority(folder, "right")
    authority(folder, "wrong")
    issue(folder, "right", "server", SERVER)
    issue(folder, "right", "expired", SERVER, LONG_AGO)
    issue(folder, "right", "elsewhere", STRANGER)
    issue(folder, "right", "client", "basicConstraints=CA:FALSE\n")
    issue(folder, "right", "old-client", "basicConstraints=CA:FALSE\n", LONG_AGO)
    issue(folder, "wrong", "stranger", "basicConstraints=CA:FALSE\n")
    return Papers(folder)


def keys(papers: Papers, listener: str, server: str) -> dict[str, str]:
    """A listener's key store and trust store, written into the broker's settings."""
    at = f"listener.name.{listener.lower()}.ssl"
    return {
        f"{at}.keystore.type": "PEM",
        f"{at}.keystore.certificate.chain": papers.pem(f"{server}.pem"),
        f"{at}.keystore.key": papers.pem(f"{server}.key"),
        f"{at}.truststore.type": "PEM",
        f"{at}.truststore.certificates": papers.pem("right.pem"),
    }


@pytest.fixture(scope="module")
def secured(papers: Papers) -> Iterator[Cluster]:
    """One broker with a listener for each way in, and each way of having it wrong."""
    security = "org.apache.kafka.common.security"
    plain = f'{security}.plain.PlainLoginModule required user_router="{PASSWORD}";'
    config = {
        **keys(papers, "TLS", "server"),
        **keys(papers, "EXPIRED", "expired"),
        **keys(papers, "ELSEWHERE", "elsewhere"),
        **keys(papers, "MUTUAL", "server"),
        **keys(papers, "LOGIN", "server"),
        "listener.name.mutual.ssl.client.auth": "required",
        **keys(papers, "BEARER", "server"),
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.login.plain.sasl.jaas.config": plain,
        "listener.name.login.scram-sha-512.sasl.jaas.config": f"{security}.scram.ScramLoginModule required;",
        "listener.name.bearer.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.bearer.oauthbearer.sasl.jaas.config": f"{security}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker";',
    }
    listeners = {"TLS": "SSL", "EXPIRED": "SSL", "ELSEWHERE": "SSL", "MUTUAL": "SSL"}
    listeners |= {"LOGIN": "SASL_SSL", "BEARER": "SASL_SSL"}
    with Cluster(1, Extra(config=config, listeners=listeners), backend=backends.choose().backend) as cluster:
        yield cluster


def through(cluster: Cluster, listener: str, **variables: str) -> KafkaSettings:
    url = f"kafka://{cluster.bootstrap_of(listener)}"
    return kafka_settings(url, {f"VIP_ROUTER_KAFKA_{name}": value for name, value in variables.items()})


async def sentence(settings: KafkaSettings, kind: type[LogUnavailableError] = NotLetInError) -> str:
    """What an operator reads, without the address."""
    with pytest.raises(LogUnavailableError) as caught:
        await ensure_reachable(settings)
    assert type(caught.value) is kind
    said = str(caught.value)
    assert said.startswith(f"Kafka cannot be reached. {settings.brokers[0]}: ")
    assert PASSWORD not in said
    return said.partition(f"{settings.brokers[0]}: ")[2]


async def lets_in(settings: KafkaSettings) -> bool:
    async with admin_client(settings) as admin:
        return len((await admin.describe_cluster())["brokers"]) == 1


# --- TLS ---


async def test_the_right_authority_is_let_in(secured: Cluster, papers: Papers):
    assert await lets_in(through(secured, "TLS", SECURITY="tls", CA_FILE=papers("right.pem")))


async def test_the_wrong_authority_is_not_trusted(secured: Cluster, papers: Papers):
    """Neither another authority's broker nor, without a CA file, one that the system does not know."""
    trust = "issued by an authority that is not trusted: name the right one in VIP_ROUTER_KAFKA_CA_FILE"
    assert trust in await sentence(through(secured, "TLS", SECURITY="tls", CA_FILE=papers("wrong.pem")))
    assert trust in await sentence(through(secured, "TLS", SECURITY="tls"))


async def test_an_expired_certificate(secured: Cluster, papers: Papers):
    settings = through(secured, "EXPIRED", SECURITY="tls", CA_FILE=papers("right.pem"))
    assert await sentence(settings) == "its certificate has expired: give the broker a new one"


async def test_a_certificate_for_another_host(secured: Cluster, papers: Papers):
    settings = through(secured, "ELSEWHERE", SECURITY="tls", CA_FILE=papers("right.pem"))
    assert "certificate is for another address: use a name that stands in it" in await sentence(settings)


async def test_tls_where_there_is_none_and_none_where_there_is(secured: Cluster, papers: Papers):
    """Both name the variable; a wrong port is told like a broker that is away, for it may be one."""
    settings = through(secured, "CLIENT", SECURITY="tls", CA_FILE=papers("right.pem"))
    assert "it does not speak TLS there" in await sentence(settings, LogUnavailableError)
    said = await sentence(through(secured, "TLS"), LogUnavailableError)
    assert "it hung up: if that listener has TLS or SASL, set VIP_ROUTER_KAFKA_SECURITY" in said


def test_a_command_says_it_too(secured: Cluster, papers: Papers, tmp_path: Path):
    """Exit 3, one line, nothing from a library beside it."""
    url = f"kafka://{secured.bootstrap_of('EXPIRED')}"
    env = {"VIP_ROUTER_KAFKA_SECURITY": "tls", "VIP_ROUTER_KAFKA_CA_FILE": papers("right.pem")}
    ended = run("topics", "check", "--log", url, cwd=tmp_path, env=env)
    assert ended.code == 3
    assert ended.err == (
        f"vip-router: Kafka cannot be reached. {secured.bootstrap_of('EXPIRED')}: its certificate has expired: give "
        "the broker a new one\n"
    )


# --- certificates of clients ---


async def test_a_certificate_of_our_own_is_let_in(secured: Cluster, papers: Papers):
    own = {"CERT_FILE": papers("client.pem"), "KEY_FILE": papers("client.key")}
    assert await lets_in(through(secured, "MUTUAL", SECURITY="tls", CA_FILE=papers("right.pem"), **own))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "our certificate is missing or not trusted there: name a valid one in VIP_ROUTER_KAFKA_CERT_FILE"),
        ("stranger", "our certificate is missing or not trusted there"),
        ("old-client", "our certificate"),
    ],
)
async def test_a_broker_that_does_not_know_us(secured: Cluster, papers: Papers, name: str, says: str):
    own = {"CERT_FILE": papers(f"{name}.pem"), "KEY_FILE": papers(f"{name}.key")} if name else {}
    settings = through(secured, "MUTUAL", SECURITY="tls", CA_FILE=papers("right.pem"), **own)
    assert says in await sentence(settings)


# --- users and passwords ---


async def test_a_user_with_a_password(secured: Cluster, papers: Papers):
    login = {"SECURITY": "sasl-tls", "SASL_MECHANISM": "plain", "CA_FILE": papers("right.pem"), "USERNAME": "router"}
    assert await lets_in(through(secured, "LOGIN", **login, PASSWORD=PASSWORD))
    said = await sentence(through(secured, "LOGIN", **login, PASSWORD=PASSWORD + "x"))
    assert said.startswith("it refused the user or the password: correct VIP_ROUTER_KAFKA_USERNAME and")


async def test_scram(secured: Cluster, papers: Papers):
    """SCRAM-SHA-512 is what is used when nothing else is said."""
    made = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    admin = AdminClient({"bootstrap.servers": secured.bootstrap})
    told = admin.alter_user_scram_credentials([UserScramCredentialUpsertion("anna", made, PASSWORD.encode())])
    told["anna"].result(timeout=20)
    login = {"SECURITY": "sasl-tls", "CA_FILE": papers("right.pem"), "USERNAME": "anna"}
    assert await lets_in(through(secured, "LOGIN", **login, PASSWORD=PASSWORD))
    said = await sentence(through(secured, "LOGIN", **login, PASSWORD=PASSWORD + "x"))
    assert said.startswith("it refused the user or the password")


async def test_a_mechanism_that_the_broker_lacks(secured: Cluster, papers: Papers):
    login = {"SECURITY": "sasl-tls", "CA_FILE": papers("right.pem"), "USERNAME": "router", "PASSWORD": PASSWORD}
    said = await sentence(through(secured, "BEARER", **login))
    assert said.startswith("it does not know SCRAM-SHA-512: set VIP_ROUTER_KAFKA_SASL_MECHANISM")


# --- tokens ---


def token(*, valid_s: int) -> str:
    """A token without a signature: a broker takes it if it is told to validate no more than its times."""
    now_s = int(time.time())
    claims = {"sub": "router", "iat": now_s - 3_600, "exp": now_s + valid_s}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims)]
    return b".".join([*parts, b""]).decode()


async def test_a_token_is_read_anew(secured: Cluster, papers: Papers, tmp_path: Path):
    """The same settings are refused with a token that has run out and let in with the next one in the file."""
    file = tmp_path / "token"
    file.write_text(token(valid_s=-600))
    login = {"SECURITY": "sasl-tls", "SASL_MECHANISM": "oauthbearer", "CA_FILE": papers("right.pem")}
    settings = through(secured, "BEARER", **login, TOKEN_FILE=str(file))
    said = await sentence(settings)
    assert said == "it refused the token: put a valid one into the file that VIP_ROUTER_KAFKA_TOKEN_FILE names"
    file.write_text(token(valid_s=600))
    assert await lets_in(settings)
    file.unlink()
    with pytest.raises(NotLetInError, match=r"VIP_ROUTER_KAFKA_TOKEN_FILE: the file .*token cannot be read"):
        await ensure_reachable(settings)
