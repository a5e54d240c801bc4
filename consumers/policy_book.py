"""Which policy applies: the current one of each workspace, and those that a log has recorded.

Loading files is ``consumers/policies.py``'s business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from routing.errors import InputRefusedError
from routing.policy import Policy
from routing.policy_file import parse_policy

_FILE_STEM: Final = re.compile(r"[\w ][\w .@+-]*")
_FILE_STEM_BYTES_MAX: Final = 250  #: with .toml the 255 that a file's name may have


class PolicyBook:
    """The policies that new conversations start with, shared by the lanes of a process; may be exchanged."""

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self._current = dict(policies)
        self.edition = 0  #: rises with every exchange
        self.refused = 0  #: how often policies were read again that could not be used

    def exchange(self, policies: Mapping[str, Policy]) -> None:
        """From now on new conversations start with these."""
        self._current = dict(policies)
        self.edition += 1

    def current(self, workspace: str) -> Policy:
        """The workspace's policy; ``InputRefusedError`` (``unknown-workspace``) if it has none."""
        policy = self._current.get(workspace)
        if policy is None:
            raise InputRefusedError("unknown-workspace", f"no policy for workspace {workspace!r}: {_advice(workspace)}")
        return policy

    def workspaces(self) -> list[str]:
        """The workspaces that have a policy."""
        return sorted(self._current)


def _advice(workspace: str) -> str:
    """What a person may do; whoever sends events chooses the name, so it must not lead out of the folder."""
    if _FILE_STEM.fullmatch(workspace) is None or len(workspace.encode()) > _FILE_STEM_BYTES_MAX:
        return "that is no name for a policy file; correct the workspace of the event"
    return f"add {workspace}.toml to the policy folder"


class Recorded(NamedTuple):
    """A policy and where this log partition keeps its text."""

    policy: Policy
    offset: int
    workspace: str


class LanePolicies:
    """``routing.decider.Policies`` of one lane: the book, and what its log partition has recorded."""

    def __init__(self, book: PolicyBook) -> None:
        self._book = book
        self.recorded: dict[str, Recorded] = {}

    def current(self, workspace: str) -> Policy:
        """See ``PolicyBook.current``."""
        return self._book.current(workspace)

    def pinned(self, version: str) -> Policy:
        """A policy that this log partition has recorded."""
        return self.recorded[version].policy

    def record(self, version: str, text: str, workspace: str, offset: int) -> None:
        """Take over what a ``policy.recorded`` record says."""
        if version not in self.recorded:
            policy = parse_policy(text, source=f"policy {version} in the log")
            self.recorded[version] = Recorded(policy, offset, workspace)

    def add(self, policy: Policy, workspace: str, offset: int) -> None:
        """A policy that is about to be recorded at ``offset``."""
        self.recorded[policy.version] = Recorded(policy, offset, workspace)

    def discard(self, end: int) -> None:
        """Forget what was to be recorded at ``end`` or above: it was not."""
        self.recorded = {version: found for version, found in self.recorded.items() if found.offset < end}
