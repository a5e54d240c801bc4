"""Reads policies from disk: one file, or a folder with one ``<workspace>.toml`` for each workspace.

What stands in them is ``routing``'s business; when they are read again is ``serve``'s.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from routing.errors import PolicyError
from routing.policy import Policy
from routing.policy_file import parse_policy
from routing.policy_reader import TEXT_BYTES_MAX

WORKSPACES_MAX: Final = 1000  #: policies in one folder


def load_policies(path: Path, *, workspace: str = "default") -> dict[str, Policy]:
    """The policies at ``path`` by workspace: a file's for ``workspace``, a folder's for what its files are named after.

    Hidden files and files of another kind in a folder are left alone. Raises ``PolicyError`` if one of them cannot be
    read or used: then none is to be taken.
    """
    if not os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises where a folder above may not be entered
        return {workspace: _load(path)}
    files = _policy_files(path)
    if not files:
        raise PolicyError(
            "the folder holds no policy: add <workspace>.toml, for example default.toml", source=str(path)
        )
    if len(files) > WORKSPACES_MAX:
        raise PolicyError(
            f"the folder holds {len(files)} policies, at most {WORKSPACES_MAX} are read", source=str(path)
        )
    return {file.stem: _load(file) for file in files}


def _policy_files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.suffix == ".toml" and not file.name.startswith("."))
    except OSError as error:
        raise PolicyError(
            f"the folder cannot be read: {error.strerror}; make it readable", source=str(folder)
        ) from None


def _load(file: Path) -> Policy:
    """One file's policy; of a larger file than a policy may be, no more is read than shows it."""
    source = str(file)
    try:
        with file.open("rb") as stream:
            data = stream.read(TEXT_BYTES_MAX + 1)
    except FileNotFoundError:
        problem = 'there is no such file: "vip-router policy new" prints a policy to begin with'
        raise PolicyError(problem, source=source) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError(f"it cannot be read: {reason}; give a readable file", source=source) from None
    if len(data) > TEXT_BYTES_MAX:
        raise PolicyError(f"it has more than {TEXT_BYTES_MAX} bytes, the most of a policy", source=source)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError("it is not UTF-8: save it as UTF-8", line=line, source=source) from None
    return parse_policy(text, source=source, is_new=True)
