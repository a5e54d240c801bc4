"""The example CRM under a policy: it listens where the policy looks people up, or the policy is told where it listens.

``serve`` reads a copy of the policy, so that it can be exchanged while it runs. If the CRM could take the address that
stands in the policy the copy is the same to the byte, and has the same version.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from consumers.demo.children import crm
from consumers.policies import load_policies
from routing.errors import PolicyError
from routing.policy import Policy
from routing.policy_file import parse_policy

LOOPBACK: Final = "127.0.0.1"
WORKSPACE: Final = "default"


class StandIn:
    """The example CRM in place of the one that policies name, and the file with the policy in use."""

    def __init__(self, url: str, file: Path) -> None:
        self._url = url
        self.file = file

    def use(self, policy_file: Path) -> None:
        """Put this policy into the file; whoever works with it has to read it again. Raises ``PolicyError``."""
        policy = _load(policy_file)
        place = urlsplit(policy.crm.url)
        asked = f"{place.scheme}://{place.netloc}"
        text = policy.text.replace(asked, self._url)
        if not parse_policy(text, source=str(policy_file)).crm.url.startswith(self._url):
            problem = f"the example CRM cannot stand in for it: write {asked} without escapes"
            raise PolicyError(problem, key="crm.url", source=str(policy_file))
        self.file.write_text(text, encoding="utf-8")


@asynccontextmanager
async def with_crm(policy_file: Path, data: Path) -> AsyncIterator[StandIn]:
    """Run the example CRM, and put the policy into a temporary file.

    Raises ``PolicyError`` for a policy that cannot be used, ``ChildError`` if the CRM does not start.
    """
    place = urlsplit(_load(policy_file).crm.url)
    port = place.port if place.hostname == LOOPBACK and place.scheme == "http" else None
    async with crm(data, port=port or 0) as url:
        with tempfile.TemporaryDirectory(prefix="vip-router-") as folder:
            stand_in = StandIn(url, Path(folder) / policy_file.name)
            stand_in.use(policy_file)
            yield stand_in


def _load(policy_file: Path) -> Policy:
    return load_policies(policy_file, workspace=WORKSPACE)[WORKSPACE]
