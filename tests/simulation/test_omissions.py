"""Every oracle, and every rule of the design that a lane is built on, has an omission that turns the simulation red."""

import re
from pathlib import Path

import pytest

from tests.simulation.omissions import SEEDS_MAX
from tests.simulation.omitted_rules import OMISSIONS
from tests.simulation.running import SeedError, run_plan

green: set[str] = set()


def check_green(plan):
    """The healthy code passes this plan; each is run once for all omissions."""
    if repr(plan) not in green:
        run_plan(plan)
        green.add(repr(plan))


def test_every_oracle_has_an_omission_that_it_sees():
    """The names are those in the oracles' own code."""
    sources = [path.read_text() for path in Path(__file__).parent.glob("o[rb]*.py")]
    oracles = {name for source in sources for name in re.findall(r'(?:ViolationError|violated)\(\s*"(\w+)"', source)}
    assert len(oracles) > 15
    assert oracles <= set().union(*(left_out.oracles for left_out in OMISSIONS))


@pytest.mark.parametrize("left_out", OMISSIONS, ids=lambda omission: omission.plant.__name__)
def test_leaving_a_rule_out_turns_the_simulation_red(left_out):
    """Within the omission's seeds one of its oracles sees it; the healthy code is green on the same seeds."""
    for plan in left_out.plans():
        check_green(plan)
        try:
            with left_out.plant():
                run_plan(plan)
        except SeedError as red:
            assert red.oracles & left_out.oracles, red  # noqa: PT017 - which oracle it was is the point
            return
    pytest.fail(f"nobody saw in {SEEDS_MAX} seeds that this was left out: {left_out.rule}")
