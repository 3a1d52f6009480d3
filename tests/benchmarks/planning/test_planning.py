"""Plans: the queue's bound against a simulated queue, and figures that can be reckoned by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fastspan.benchmarks.planning.capacity import plan_bulk, plan_service, read_machine
from fastspan.benchmarks.planning.queueing import largest_rate
from fastspan.cli.main import main
from fastspan.errors import DataError, InputError
from support.paths import ROOT

RECORD = ROOT / "benchmarks" / "results" / "intel-avx512-vnni-amx" / "speed-cpu.json"


def simulated_p99(services, rate: float, questions: int = 200_000) -> float:
    """The 99th percentile of the response in a line that is served one by one (Lindley's recursion)."""
    draw = np.random.default_rng(5)
    times = draw.choice(np.asarray(services), questions)
    steps = times[:-1] - draw.exponential(1 / rate, questions - 1)
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    waits = walk - np.minimum.accumulate(walk)
    return float(np.percentile(waits + times, 99))


@pytest.mark.parametrize(
    "services",
    [[0.01], [0.003, 0.004, 0.005], list(np.random.default_rng(1).gamma(2.0, 0.004, 500))],
    ids=["constant", "even", "gamma"],
)
def test_the_bound_holds_in_a_simulated_queue_and_wastes_little(services):
    rate = largest_rate(services, 0.1)
    assert 0 < rate < 1 / np.mean(services)
    found = simulated_p99(services, rate)
    assert found <= 0.1
    assert found >= 0.07


def test_of_a_constant_time_the_rate_solves_the_equation():
    rate = largest_rate([0.01], 0.1)
    theta = math.log(100) / (0.1 - 0.01)
    assert rate == pytest.approx(theta / math.expm1(0.01 * theta), rel=1e-6)


def test_a_limit_that_one_answer_exceeds_is_refused():
    with pytest.raises(InputError, match="no rate keeps 99% of answers within 5 ms"):
        largest_rate([0.01, 0.02], 0.005)
    with pytest.raises(InputError, match="positive"):
        largest_rate([], 1.0)


@pytest.fixture
def record(tmp_path):
    """A record whose figures are round: 100 passages a second, and an answer in 10 ms."""
    told = json.loads(RECORD.read_text(encoding="utf-8"))
    model = next(iter(told["models"]))
    system = f"FastSpan {told['defaults'][model]['variant']}"
    bulk = next(each for each in told["workloads"] if each["model"] == model and each["name"] == "throughput")
    samples = [(f"{system}, throughput", "throughput", bulk["questions"] / 100), (system, "single-128", 0.01)]
    (tmp_path / "speed-cpu.json").write_text(json.dumps(told), encoding="utf-8")
    (tmp_path / "speed-cpu-samples.jsonl").write_text(
        "".join(
            json.dumps({"model": model, "peer": peer, "workload": workload, "seconds": [seconds] * 3}) + "\n"
            for peer, workload, seconds in samples
        ),
        encoding="utf-8",
    )
    return tmp_path / "speed-cpu.json"


def test_a_bulk_plan_by_hand(record):
    machine = read_machine(record)
    plan = plan_bulk(machine, 36e6, 10, 0.5)
    assert (plan.rate, plan.machine_hours, plan.machines, plan.cost) == pytest.approx((100, 100, 10, 50))
    twice = plan_bulk(machine, 36e6, 10, 0.5, tokens=2 * machine.tokens)
    assert (twice.machine_hours, twice.machines) == pytest.approx((200, 20))


def test_a_service_plan_by_hand(record):
    plan = plan_service(read_machine(record), 1000, 0.1, 0.5)
    assert plan.machines == math.ceil(1000 / largest_rate([0.01], 0.1))
    assert plan.hourly_cost == plan.machines * 0.5
    assert plan.busy == pytest.approx(1000 / plan.machines * 0.01)


def test_the_command_shows_both_and_what_they_rest_on(record, capsys):
    assert main(["plan", str(record), "--price", "0.5", "--passages", "36e6", "--within", "10"]) == 0
    out = capsys.readouterr().out
    assert "36,000,000 passages" in out
    assert "100 machine hours: 10 machines for 10 hours, cost 50.00" in out
    assert main(["plan", str(record), "--price", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bulk"]["rate"] == pytest.approx(100)


@pytest.mark.parametrize("word", ["0", "-1", "inf", "nan", "x"])
def test_a_price_that_is_none_is_wrong_usage(record, word):
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(record), "--price", word])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "other"}, "holds no model 'other'"),
        ({"workload": "single-9"}, "holds no workload 'single-9'"),
        ({"system": "FastSpan int4"}, "no samples of 'FastSpan int4'"),
    ],
)
def test_what_was_not_measured_is_told(record, asked, said):
    with pytest.raises(DataError, match=said):
        read_machine(record, **asked)
    record.with_name("speed-cpu-samples.jsonl").unlink()
    with pytest.raises(DataError, match="holds no samples"):
        read_machine(record)


def test_the_projects_own_records_can_be_planned_with():
    for path in sorted((ROOT / "benchmarks" / "results").glob("*/speed-cpu.json")):
        machine = read_machine(path)
        assert plan_service(machine, 10_000, 0.1, 1.0).machines > 0
        assert plan_bulk(machine, 1e9, 24, 1.0).machines > 0
