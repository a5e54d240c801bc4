"""Builds the image of ``deploy/Dockerfile`` for the tests, with the engine that their brokers use.

Its base is the Python image that the Dockerfile names, where that can be had, else a stand-in made of Debian packages
(it needs a Debian with apt whose lists are current). Either way the certificates that this machine trusts are added to
it, and the build reaches the package index as this process does: over the host's network, by the same variables.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import ssl
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

from docker import DockerClient  # type: ignore[import-untyped]
from docker.errors import APIError, BuildError, ImageNotFound  # type: ignore[import-untyped]
from docker.utils import exclude_paths  # type: ignore[import-untyped]
from requests.exceptions import RequestException

from tests.brokers import dist
from tests.brokers.backends import SETTING

TOP: Final = Path(__file__).parent.parent
DOCKERFILE: Final = "deploy/Dockerfile"
IMAGE: Final = "vip-router-tests/vip-router"
BUILD_STAGE: Final = "vip-router-tests/build-stage"
BASE: Final = "vip-router-tests/python-with-certificates"
STAND_IN: Final = "vip-router-tests/python-stand-in"  # never the official image's name
STAND_IN_LABEL: Final = "vip-router.tests.stand-in"
CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
PACKAGES: Final = ("python3", "python3-venv", "busybox-static")
BUILD_TIMEOUT_S: Final = 900  # a mirror may be slow
COMMAND_TIMEOUT_S: Final = 300
#: How a build finds the package index; pip's and uv's own variables, and those of proxies, which Docker knows itself.
PASSED_ON: Final = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


class ImageUnavailableError(RuntimeError):
    """The image cannot be built here; the message says what would help."""


def build(client: DockerClient) -> str:
    """Build the image (half a minute; seconds where nothing changed) and give its name.

    Raises `ImageUnavailableError` where that fails.
    """
    client.api.timeout = BUILD_TIMEOUT_S
    try:
        with dist.alone("python-image"):
            _make(client, BASE, _with_certificates(_python(client)))
            packed = context(TOP)  # once: somebody may be editing, and both builds share their layers
            ours = {"dockerfile": DOCKERFILE, "buildargs": build_arguments()}
            for tag, stage in ((BUILD_STAGE, "build"), (IMAGE, None)):
                _make(client, tag, packed, target=stage, **ours)
    except BuildError as error:
        said = "".join(str(line.get("stream", "")) for line in error.build_log)[-2000:]
        raise ImageUnavailableError(f"{DOCKERFILE} cannot be built here ({error}):\n{said}") from error
    except (APIError, RequestException, OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise ImageUnavailableError(
            f"{DOCKERFILE} cannot be built here ({said}); make a registry or Debian's packages, and a package index "
            f"reachable, or set {SETTING}=processes"
        ) from error
    return IMAGE


def build_arguments() -> dict[str, str]:
    """What the Dockerfile has to be told here: its base, and how the package index is reached."""
    names = [spelt for name in PASSED_ON for spelt in (name, name.lower()) if spelt in os.environ]
    passed_on = {name: os.environ[name] for name in names}
    return {"PYTHON_IMAGE": BASE, "PIP_CERT": CERTIFICATES, "SSL_CERT_FILE": CERTIFICATES, **passed_on}


def context(top: Path) -> bytes:
    """What goes to the engine, as the dockerignore file says: a tar."""
    patterns = [
        line
        for line in (top / f"{DOCKERFILE}.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in sorted(exclude_paths(str(top), patterns, dockerfile=DOCKERFILE)):
            tar.add(top / name, name, recursive=False, filter=_reproducible)
    return packed.getvalue()


def names_in(tar: bytes) -> set[str]:
    """The files of a context."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {entry.name for entry in opened if entry.isfile()}


def official() -> str:
    """The base that the Dockerfile names."""
    found = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", (TOP / DOCKERFILE).read_text(), re.MULTILINE)
    assert found, f"{DOCKERFILE} names no base image"
    return found[1]


def _python(client: DockerClient) -> str:
    """A Python image: the official one where it is there or can be pulled, else the stand-in."""
    for get in (client.images.get, client.images.pull):
        try:
            get(official())
        except (APIError, RequestException):
            continue
        return official()
    try:
        client.images.get(STAND_IN)
    except ImageNotFound:
        _make(client, STAND_IN, _stand_in())
    return STAND_IN


def _make(client: DockerClient, tag: str, tar: bytes, **options: Any) -> None:
    """Build under this name, and remove what had it before: nothing without a name stays in the engine."""
    before = [image.id for image in client.images.list(tag)]
    made, _ = client.images.build(
        fileobj=io.BytesIO(tar), custom_context=True, tag=tag, rm=True, forcerm=True, network_mode="host", **options
    )
    for old in before:
        if old != made.id:
            with contextlib.suppress(APIError):  # a container has it still, or another image is made of it
                client.images.remove(old)


def _with_certificates(base: str) -> bytes:
    trusted = ssl.get_default_verify_paths().cafile
    if trusted is None:
        raise ImageUnavailableError("this machine has no file of certificates: install ca-certificates")
    return _tar({"Dockerfile": f"FROM {base}\nCOPY trusted {CERTIFICATES}\n".encode(), "trusted": _read(trusted)})


def _stand_in() -> bytes:
    """The context of the stand-in: Debian's Python, as ``python3`` and its venv module need it, and busybox."""
    with tempfile.TemporaryDirectory(prefix="vip-router-python-") as folder:
        root, work = Path(folder) / "root", Path(folder)
        _lay_out(root, work)
        with tarfile.open(work / "root.tar", "w") as tar:
            tar.add(root, ".", filter=_owned_by_root)
        words = "local stand-in for the official Python image, not it"
        lines = ["FROM scratch", "ADD root.tar /", "ENV PATH=/usr/local/bin:/usr/bin:/bin", "CMD [python3]"]
        lines.append(f'LABEL {STAND_IN_LABEL}=true description="{words}"')
        return _tar({"Dockerfile": "\n".join(lines).encode(), "root.tar": (work / "root.tar").read_bytes()})


def _lay_out(root: Path, work: Path) -> None:
    for name in ("bin", "lib", "lib64", "sbin"):  # as Debian has it: the packages put files into both
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("etc", "tmp", "usr/local/bin", "root"):
        (root / name).mkdir(parents=True)
    for package in _packages(work / "packages"):
        _run("dpkg-deb", "-x", str(package), str(root))
    for applet in _run(str(root / "bin/busybox"), "--list").split():
        if not (link := root / "bin" / applet).is_symlink() and not link.exists():
            link.symlink_to("busybox")
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")


def _packages(folder: Path) -> list[Path]:
    """The packages and all that they depend on, as apt would bring them to an empty machine."""
    (folder / "partial").mkdir(parents=True)
    (nothing := folder / "status").touch()
    _run(
        "apt-get", "install", "-qq", "-y", "--no-install-recommends", "--download-only",
        "-o", f"Dir::State::status={nothing}", "-o", f"Dir::Cache::archives={folder}",
        "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", *PACKAGES,
    )  # fmt: skip
    return sorted(folder.glob("*.deb"))


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if entry.name.startswith(("./usr/share/doc", "./usr/share/man", "./usr/share/locale")):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    if entry.name == "./tmp":
        entry.mode = 0o1777
    return entry


def _reproducible(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same files give the same layers, whoever checked them out."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() else 0o644
    entry.mtime = 1_577_836_800  # 2020: a wheel is a zip, and those begin in 1980
    return entry


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    return done.stdout
