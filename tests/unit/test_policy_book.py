"""What a workspace without a policy is told: advice that can be followed, whatever the name is."""

import pytest

from consumers.policy_book import PolicyBook
from routing.errors import InputRefusedError


def advice(workspace: str) -> str:
    with pytest.raises(InputRefusedError) as refused:
        PolicyBook({}).current(workspace)
    assert refused.value.reason == "unknown-workspace"
    assert repr(workspace) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("workspace", ["sales", "Köln 2", "eu.west-1", "a" * 250])
def test_a_policy_file_is_advised_where_a_file_can_be_named_so(workspace):
    assert advice(workspace).endswith(f": add {workspace}.toml to the policy folder")


@pytest.mark.parametrize(
    "workspace", ["../../etc", "a/b", ".hidden", "..", "", "a\\b", "a\x00b", "a\nb", "a" * 251, "é" * 126]
)
def test_no_file_is_advised_that_would_stand_elsewhere_or_could_not_stand(workspace):
    """The name comes with an event, from whoever sends it."""
    assert advice(workspace).endswith("that is no name for a policy file; correct the workspace of the event")
