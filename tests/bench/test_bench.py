"""The benchmarks run, and what they count exactly keeps its bound. No second is asserted: machines are noisy."""

from tests.bench import bench_decide, bench_sqlite, bench_state

CONVERSATION_BYTES_MAX = 2_048


def test_a_live_conversation_costs_at_most_two_kib():
    memory = bench_state.main(conversations=500, rounds=1)
    assert set(memory) == {"asking", "looking up", "routed"}
    assert max(memory.values()) <= CONVERSATION_BYTES_MAX


def test_the_benchmark_of_a_transition_measures_every_stage(capsys):
    medians = bench_decide.main(conversations=50, rounds=3)
    assert all(medians[stage] > 0 for stage in bench_decide.STAGES)
    assert "x bare" in capsys.readouterr().out


def test_the_benchmark_on_sqlite_prints_rate_ratio_and_latency(capsys):
    bench_sqlite.main(conversations=100, rounds=1, answers=20)
    printed = capsys.readouterr().out
    assert "x bare inserts" in printed
    assert "p99" in printed
