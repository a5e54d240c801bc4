"""The systemd unit and the set-up say what the program and the image say."""

import re
import shlex
import subprocess
import typing
from pathlib import Path

import pytest

from consumers.cli.serve_command import serve_command

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = (DEPLOY / "vip-router.service").read_text(encoding="utf-8")
NO_OPTIONS = {"VIP_ROUTER_SECRETS_DIR"}  #: read where secrets are


def values(name):
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def test_every_variable_of_the_unit_is_an_option_of_serve():
    options = typing.get_type_hints(serve_command, include_extras=True).values()
    known = {option.__metadata__[0].envvar for option in options if hasattr(option, "__metadata__")} | NO_OPTIONS
    assert {line.partition("=")[0] for line in values("Environment")} <= known


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "exec"),
        ("User", "vip-router"),
        ("UMask", "0077"),
        ("StateDirectory", "vip-router"),
        ("ExecStart", "/opt/vip-router/bin/vip-router serve"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("Restart", "always"),
        ("RestartSec", "5s"),
        ("StartLimitIntervalSec", "0"),
        ("LimitCORE", "0"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
    ],
)
def test_the_unit_keeps_what_the_page_on_sqlite_promises(name, value):
    """Started again whatever happens, without root, core dumps or a folder of others to write to."""
    assert values(name) == [value]


def test_the_version_of_uv_stands_in_one_place():
    """The image's file has it; the set-up and the page read it there."""
    assert re.search(
        r"^ARG UV_VERSION=\d+\.\d+\.\d+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    reading = "sed -n 's/^ARG UV_VERSION=//p' deploy/Dockerfile"
    for name in ("setup.sh", "sqlite.md"):
        text = (DEPLOY / name).read_text(encoding="utf-8")
        assert reading in text
        assert re.search(r"install [^\n]*\buv( |$)", text, re.MULTILINE) is None
        assert re.search(r'"uv==\$\(', text) is not None


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([], 0),
        (["vip-router.db", "vip-router.db.router.lock"], 0),
        (["vip-router.db"], 0),
        (["vip-router.db.router.lock"], 1),
    ],
)
def test_the_unit_begins_no_new_log_where_one_was_moved_away(tmp_path, files, code):
    """Else the restart after the end of ``serve`` would make an empty log under the old name."""
    for name in files:
        (tmp_path / name).touch()
    [command] = values("ExecStartPre")
    done = subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("vip-router.db is gone: put it back" in done.stderr) is (code == 1)
