"""The image of ``deploy/Dockerfile``, built for real: what is in it, and that it runs with nothing but its rights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient  # type: ignore[import-untyped]

from tests import images
from tests.boxes import USER, Box, Ended, boxed, hardened, run
from tests.brokers import container
from tests.processes import TOKEN, policy_text, wait_until

HOME = "/var/lib/vip-router"
QUICK = {"interval": 1_000_000_000, "timeout": 5_000_000_000, "retries": 2, "start_period": 1_000_000}  # nanoseconds

pytestmark = pytest.mark.on_containers


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerClient]:
    with container.engine() as client:
        container.sweep(client)
        yield client


@pytest.fixture(scope="module")
def image(engine: DockerClient) -> str:
    return images.build(engine)


@pytest.fixture
def mounts(tmp_path: Path) -> dict[str, dict[str, str]]:
    """A policy and its secret, where the image looks for them."""
    tmp_path.chmod(0o755)
    (tmp_path / "policy.toml").write_text(policy_text("http://127.0.0.1:9"))
    (tmp_path / "CRM_TOKEN").write_text(TOKEN)
    return {
        str(tmp_path / "policy.toml"): {"bind": "/etc/vip-router/policy.toml", "mode": "ro"},
        str(tmp_path / "CRM_TOKEN"): {"bind": "/run/secrets/CRM_TOKEN", "mode": "ro"},
    }


def serving(**options: Any) -> dict[str, Any]:
    """``serve`` on SQLite in memory, without a network."""
    return hardened(tmpfs={HOME: f"size=64m,uid={USER},gid={USER},mode=0700"}, healthcheck=QUICK, **options)


def python(engine: DockerClient, image: str, code: str) -> Ended:
    return run(engine, image, ["-I", "-c", code], **hardened(entrypoint="python"))


def test_image_says_how_it_runs(engine: DockerClient, image: str):
    """A user by number, SIGTERM to stop, the program as the entry point, and a health check."""
    config = engine.images.get(image).attrs["Config"]
    assert (config["User"], config["StopSignal"]) == (f"{USER}:{USER}", "SIGTERM")
    assert (config["Entrypoint"], config["Cmd"]) == (["vip-router"], ["serve"])
    assert "/livez" in config["Healthcheck"]["Test"][-1]
    assert config["Volumes"] is None


def test_how_the_package_index_was_reached_stands_in_no_layer(engine: DockerClient, image: str):
    """Build arguments may hold a mirror's password."""
    found = engine.images.get(image)
    own_layers = found.history()[: -len(engine.images.get(images.BASE).history())]
    told = "\n".join([*found.attrs["Config"]["Env"], *(layer["CreatedBy"] for layer in own_layers)])
    assert "ENTRYPOINT" in told
    assert [name for name in ("PIP_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE") if name in told] == []


def test_what_lies_about_in_the_folder_does_not_get_into_the_image(tmp_path: Path):
    """Secrets, logs and the virtualenv are left out, wherever they lie; what the packages need is there."""
    for name in ("deploy", "routing", "events", "consumers"):
        shutil.copytree(images.TOP / name, tmp_path / name)
    for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE"):
        shutil.copy(images.TOP / name, tmp_path / name)
    for name in (".env", "vip-router.db", "my-token", "deploy/tls.key", "consumers/.env", ".venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("planted")
    names = images.names_in(images.context(tmp_path))
    assert {name.split("/")[0] for name in names if "/" in name} == {"deploy", "routing", "events", "consumers"}
    assert {name for name in names if name.startswith("deploy")} == {images.DOCKERFILE}
    assert {name for name in names if "/" not in name} == {"pyproject.toml", "uv.lock", "README.md", "LICENSE"}
    assert not [name for name in names if name.endswith((".pyc", ".env"))]
    assert {"routing/policy_template.toml", "consumers/py.typed"} <= names


def test_user_can_change_nothing_that_is_run(engine: DockerClient, image: str):
    ended = python(engine, image, "import os, sys; print(os.getuid(), sys.prefix, [d for d, *_ in os.walk(sys.prefix) if os.access(d, os.W_OK)])")  # fmt: skip  # noqa: E501
    assert ended == Ended(0, f"{USER} /opt/vip-router []\n")


def test_modules_are_compiled_and_neither_tools_nor_tests_are_there(engine: DockerClient, image: str):
    """Nothing is compiled at the start; what builds and tests the program is not in its image."""
    code = """
import importlib.util, pathlib, sys, sysconfig
found = [name for name in ("pytest", "mypy", "pip", "uv", "tests", "hatchling") if importlib.util.find_spec(name)]
sources = list(pathlib.Path(sysconfig.get_path("purelib")).rglob("*.py"))
bare = [str(one) for one in sources if not pathlib.Path(importlib.util.cache_from_source(str(one))).exists()]
editable = [one.name for one in pathlib.Path(sysconfig.get_path("purelib")).glob("*editable*")]
print(len(sources) > 500, found, bare, editable)
"""
    assert python(engine, image, code) == Ended(0, "True [] [] []\n")


@pytest.mark.parametrize(("arguments", "expected"), [(["--version"], "vip-router "), (["policy", "new"], "[workflow]")])
def test_commands_run_with_no_rights(engine: DockerClient, image: str, arguments: list[str], expected: str):
    """Without root, capabilities, a file system to write to, or a network."""
    ended = run(engine, image, arguments, **hardened())
    assert ended.code == 0, ended.said
    assert expected in ended.said


def test_policy_that_is_mounted_is_checked(engine: DockerClient, image: str, mounts: dict[str, dict[str, str]]):
    command = ["policy", "check", "/etc/vip-router/policy.toml"]
    good = run(engine, image, command, **hardened(volumes=mounts))
    assert (good.code, "can be used" in good.said) == (0, True), good.said
    place = Path(next(iter(mounts)))
    place.write_text(place.read_text().replace("[workflow]", "[workflows]"))
    assert run(engine, image, command, **hardened(volumes=mounts)).code == 2


@pytest.fixture
def router(engine: DockerClient, image: str, mounts: dict[str, dict[str, str]]) -> Iterator[Box]:
    with boxed(engine, image, None, **serving(volumes=mounts)) as box:
        box.wait_for("ready")
        yield box


def test_serve_is_ready_healthy_and_ends_with_0(router: Box):
    """As the image stands: no argument, its own health check, its own stop signal."""
    wait_until(lambda: router.health() == "healthy", "the health check is green")
    probe = "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9464); c.request('GET', '/readyz'); print(c.getresponse().status)"  # noqa: E501
    assert router.execute("python", "-I", "-c", probe) == Ended(0, "200\n")
    ended = router.stop()
    assert (ended.code, "stopped: " in ended.said) == (0, True), ended.said


def test_serve_has_no_rights(router: Box):
    """What the kernel says of it: no root, no capability, none to be had, nothing to write to but its log."""
    status = dict(line.split(":\t", 1) for line in router.execute("cat", "/proc/1/status").said.splitlines())
    assert status["Uid"].split() == [str(USER)] * 4
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1")
    assert router.execute("touch", f"{HOME}/new").code == 0
    refused = router.execute("touch", "/opt/new", "/tmp/new", "/home/new")
    assert refused.code != 0
    assert refused.said.count("Read-only file system") + refused.said.count("No such file") == 3, refused.said


def test_serve_that_does_not_answer_is_unhealthy(engine: DockerClient, image: str, mounts: dict[str, dict[str, str]]):
    """The health check's negative control: the same process with its probes elsewhere."""
    command = ["serve", "--metrics", "127.0.0.1:1234"]
    with boxed(engine, image, command, **serving(volumes=mounts)) as box:
        box.wait_for("ready")
        wait_until(lambda: box.health() == "unhealthy", "the health check is red")


def test_secret_that_is_missing_is_named(engine: DockerClient, image: str, mounts: dict[str, dict[str, str]]):
    policy = {place: to for place, to in mounts.items() if to["bind"].endswith(".toml")}
    ended = run(engine, image, None, **serving(volumes=policy))
    assert (ended.code, "CRM_TOKEN" in ended.said) == (2, True), ended.said
