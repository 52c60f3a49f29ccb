"""The meter of costs: what it counts, and what it does where the machine tells little."""

import time

from lifecycle import costs
from lifecycle.costs import CostMeter


def test_work_costs_time_and_memory():
    meter = CostMeter()
    block = bytearray(64 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    while not (cost := meter.read(tokens=7))["cpu_seconds"] > 0:
        sum(range(10_000))
    assert cost["tokens"] == 7 and cost["wall_seconds"] > 0
    assert cost["peak_memory_bytes"] > len(block)


def test_waiting_costs_no_processor_time():
    meter = CostMeter()
    time.sleep(0.05)
    cost = meter.read()
    assert cost["cpu_seconds"] < cost["wall_seconds"] and "tokens" not in cost


def test_an_interrupted_run_counts_on_from_what_it_kept(tmp_path):
    file = tmp_path / "costs.json"
    first = CostMeter(file)
    time.sleep(0.05)
    first.keep()
    assert [one.name for one in tmp_path.iterdir()] == ["costs.json"]
    later = CostMeter(file)
    assert later.seconds >= 0.05 and later.cpu_seconds >= 0


def test_figures_of_earlier_stretches_replace_this_ones():
    cost = CostMeter().read(earlier={"wall_seconds": 100.0, "flops": 5.0})
    assert cost["wall_seconds"] == 100.0 and cost["flops"] == 5.0


def test_energy_is_summed_over_packages_and_survives_a_counter_that_goes_round(tmp_path, monkeypatch):
    def tell(zone: str, used: int) -> None:
        (tmp_path / zone).mkdir(exist_ok=True)
        (tmp_path / zone / "energy_uj").write_text(str(used))
        (tmp_path / zone / "max_energy_range_uj").write_text("10000000")

    monkeypatch.setattr(costs, "POWERCAP", tmp_path)
    tell("intel-rapl:0", 1_000_000), tell("intel-rapl:1", 9_000_000), tell("intel-rapl:0:0", 0)
    meter = CostMeter()
    tell("intel-rapl:0", 3_500_000), tell("intel-rapl:1", 1_000_000), tell("intel-rapl:0:0", 900_000)
    assert meter.read()["joules"] == 2.5 + 2.0  # the part of a package is not counted twice


def test_without_counters_nothing_is_said_about_energy(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "POWERCAP", tmp_path)
    assert "joules" not in CostMeter().read()
