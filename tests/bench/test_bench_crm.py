"""The benchmark of look-ups runs, and what it counts exactly keeps its bound. No second is asserted."""

from tests.bench import bench_crm

BYTES_MAX = 8 * 1024


def test_a_look_up_in_line_costs_at_most_eight_kib_and_a_recovered_crm_sees_its_rate(capsys):
    found = bench_crm.main(count=100, rounds=1, waiting=2_000, probes=20, many=(1, 20))
    assert found["bytes"]["in line"] <= BYTES_MAX
    assert found["most"] <= bench_crm.OUTAGE_RATE * 1.1  # the server's clock, and the network between
    assert found["p99_ratio"] > 0
    assert set(found["cpu_us"]) == {1, 20}
    printed = capsys.readouterr().out
    assert "CPU of a look-up" in printed
    assert "beside 2,000 that wait" in printed
