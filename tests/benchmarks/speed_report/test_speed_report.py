from __future__ import annotations

import json
import re

import pytest

from support.recorded_speed import FAILURE, MISSING, write_recorded

pytest.importorskip("matplotlib")

from fastspan.benchmarks.speed.record import Measured
from fastspan.benchmarks.speed_report.report import write_report
from fastspan.benchmarks.suite import main
from fastspan.errors import DataError


def report_on(folder, **options):
    markdown, page = write_report(folder, price_per_hour=options.pop("price", 0.1))
    return markdown.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return report_on(write_recorded(tmp_path_factory.mktemp("speed")))


def row(text, *cells):
    """The cells of the one table row that begins with these."""
    (line,) = re.findall(rf"^\| {re.escape(' | '.join(cells))} \|.*$", text, re.MULTILINE)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_ratios_compare_like_with_like(reports):
    text, _ = reports
    assert row(text, "transformers fp32", "FastSpan fp32")[3].startswith(("1.9", "2.0"))
    assert row(text, "transformers fp32", "FastSpan int8")[3].startswith(("4.9", "5.0", "5.1"))
    # Compared with int8 in the first table as in the second.
    assert len(re.findall(r"^\| OpenVINO int8 \(NNCF\) \| FastSpan int8", text, re.MULTILINE)) == 2


def test_a_missing_peer_and_a_failure_are_shown(reports):
    for text in reports:
        assert "Haystack fp32" in text
        assert MISSING.replace("'", "&#x27;") in text or MISSING in text
        assert FAILURE in text


def test_the_summary_has_percentiles_only_where_they_can_be_had(reports):
    text, _ = reports
    cells = row(text, "single-128", "optimum", "fp32", "latency")
    assert cells[7] != "–"
    assert cells[8] == "–"
    assert row(text, "throughput", "optimum", "fp32", "latency")[7] == "–"


def test_accuracy_is_a_difference_from_pytorch(reports):
    text, _ = reports
    assert row(text, "single-128", "transformers", "fp32", "latency")[-2:] == ["+0.00", "+0.00"]
    assert row(text, "single-128", "optimum", "fp32", "latency")[-1] == "-0.40"
    assert row(text, "throughput", "FastSpan", "fp32", "throughput")[-1] == "-0.50"
    assert "64 questions, asked off the clock" in text
    assert "1.56 points" in text


def test_memory_is_held_against_the_graph_where_that_is_known(reports):
    text, _ = reports
    assert row(text, "minilm-l6-squad2", "FastSpan", "int8", "latency", "1.25")[-3:] == ["180", "90", "2.00"]
    assert row(text, "minilm-l6-squad2", "optimum", "fp32", "latency", "1.25")[-3:] == ["180", "–", "–"]


def write_parity(folder, name: str, questions: int, estimate: float, *, digest: str = "a" * 64) -> None:
    difference = {"estimate": estimate, "low": -2, "high": 0, "level": 0.95}
    agreement = {"exact_difference": difference, "f1_difference": difference}
    variant = {
        "variant": "int8",
        "graph": "onnx/model_int8.onnx",
        "sha256": {"onnx/model_int8.onnx": digest, "onnx/model_int8.onnx_data": "b" * 64},
        "agreements": [agreement],
    }
    report = {"name": "minilm-l6-squad2", "questions": questions, "variants": [variant]}
    (folder / f"parity-minilm-l6-squad2-{name}.json").write_text(json.dumps(report))


def parity_row(text):
    return row(text, "minilm-l6-squad2", "int8")[2:]


@pytest.fixture
def measured_bundle(tmp_path):
    """A measurement of a bundle whose int8 graph's digests begin with a's and b's."""
    folder = write_recorded(tmp_path)
    record = json.loads((folder / "speed-cpu.json").read_text())
    named = {"minilm-l6-squad2, onnx/model_int8.onnx": f"sha256 {'a' * 16} + {'b' * 16}"}
    record["environment"].update(named)
    (folder / "speed-cpu.json").write_text(json.dumps(record))
    return folder


def test_a_parity_report_stands_beside_the_answers_of_the_run(measured_bundle):
    write_parity(measured_bundle, "squad", 2828, -1.25)
    text, _ = report_on(measured_bundle)
    assert row(text, "single-128", "FastSpan", "int8", "latency")[-1] == "-0.80"
    assert parity_row(text) == ["2,828", "-1.25", "-1.25", "`parity-minilm-l6-squad2-squad.json`"]
    (measured_bundle / "parity-squad.json").write_text("{}")
    with pytest.raises(DataError, match="make parity"):
        report_on(measured_bundle)


def test_of_two_parity_reports_the_one_with_more_questions_counts(measured_bundle):
    write_parity(measured_bundle, "a-part", 2828, -1.25)
    write_parity(measured_bundle, "own-set", 367, -1.75)
    text, _ = report_on(measured_bundle)
    assert parity_row(text)[:2] == ["2,828", "-1.25"]


@pytest.mark.parametrize("digest", ["c" * 64, ""])
def test_a_parity_report_on_another_graph_does_not_count(measured_bundle, digest):
    write_parity(measured_bundle, "own-set", 367, -1.75)
    write_parity(measured_bundle, "part", 2828, -1.25, digest=digest)
    text, _ = report_on(measured_bundle)
    assert parity_row(text)[:2] == ["367", "-1.75"]


def test_cost_follows_from_price_and_speed(tmp_path):
    folder = write_recorded(tmp_path)
    cheap, _ = report_on(folder, price=0.1)
    dear, _ = report_on(folder, price=1.0)
    costs = [
        float(row(text, "minilm-l6-squad2", "optimum", "fp32", "latency", "29.5")[-1])
        for text in (cheap, dear)
    ]
    assert costs[0] == pytest.approx(0.1 * 1e6 / 29.5 / 3600, rel=0.02)
    assert costs[1] == pytest.approx(10 * costs[0], rel=0.02)


def test_without_a_gpu_the_report_says_so_and_how_to_fill_the_section(reports, tmp_path):
    text, _ = reports
    assert "No GPU was at hand" in text
    assert "make bench-gpu" in text
    folder = write_recorded(tmp_path)
    write_recorded(folder, device="gpu")
    filled, page = report_on(folder)
    assert "No GPU was at hand" not in filled
    assert "Summary (GPU)" in filled
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_one_round_shows_no_interval(tmp_path):
    text, _ = report_on(write_recorded(tmp_path, rounds=1))
    assert "×" in text
    assert not re.search(r"× [\[(]", text)


def test_few_rounds_show_their_range(reports, tmp_path):
    assert re.search(r"\d× \[\d", reports[0])
    assert not re.search(r"\d× \(\d", reports[0])
    few, _ = report_on(write_recorded(tmp_path, rounds=3))
    assert re.search(r"\d× \(\d", few)
    assert not re.search(r"\d× \[\d", few)


def test_how_many_runs_figures_rest_on_is_said(reports):
    assert row(reports[0], "single-128", "optimum", "fp32", "latency")[9] == "24 (8)"


def test_a_run_that_was_interrupted_is_called_one(reports, tmp_path):
    assert "did not come to its end" not in reports[0]
    assert "did not come to its end" in report_on(write_recorded(tmp_path, finished=False))[0]


def test_a_peer_without_samples_is_no_measured_one(tmp_path):
    folder = write_recorded(tmp_path)
    samples = folder / "speed-cpu-samples.jsonl"
    kept = [line for line in samples.read_text().splitlines(keepends=True) if "optimum int8" not in line]
    samples.write_text("".join(kept))
    text, _ = report_on(folder)
    assert row(text, "optimum int8 avx2", "failed")[2] == "it loaded, and no workload was measured with it"


def test_a_busy_machine_is_called_one(reports, tmp_path):
    assert "busy with other work" not in reports[0]
    assert "busy with other work" in report_on(write_recorded(tmp_path, background=0.8))[0]


def test_the_page_needs_nothing_from_elsewhere(reports):
    _, page = reports
    assert page.count("<svg") == 3
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert "@import" not in page
    assert 'name="viewport"' in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page):
        assert "".join(reference) in ids


def test_the_same_measurement_gives_the_same_report(reports, tmp_path):
    assert report_on(write_recorded(tmp_path)) == reports


def test_a_record_survives_its_files(tmp_path):
    measured = Measured.read(write_recorded(tmp_path), "cpu")
    measured.record.write(tmp_path / "again")
    assert (tmp_path / "again" / "speed-cpu.json").read_text() == (tmp_path / "speed-cpu.json").read_text()
    assert len(measured.rounds("minilm-l6-squad2", "single-32", "FastSpan int8")) == 8
    assert not measured.rounds("minilm-l6-squad2", "single-32", "FastSpan int8, throughput")


def test_a_damaged_record_is_refused(tmp_path):
    folder = write_recorded(tmp_path)
    (folder / "speed-cpu-samples.jsonl").write_text('{"model": "x"}\n')
    with pytest.raises(DataError, match="measure again"):
        report_on(folder)


def test_the_command_writes_the_report_again(tmp_path, capsys):
    assert main(["--report-only", "--out", str(tmp_path)]) == 1
    assert "make bench" in capsys.readouterr().err
    write_recorded(tmp_path)
    assert main(["--report-only", "--out", str(tmp_path), "--price-per-hour", "0.5"]) == 0
    assert "At 0.5 an hour" in (tmp_path / "report.md").read_text(encoding="utf-8")
