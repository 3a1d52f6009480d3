from __future__ import annotations

import json
import re

import pytest

from support.recorded_speed import FAILURE, MISSING, MODEL, write_recorded

pytest.importorskip("matplotlib")
pytest.importorskip("markdown_it")

from fastspan.benchmarks.reporting.plot_style import write_figure
from fastspan.benchmarks.speed.samples import Measured
from fastspan.benchmarks.speed_report.report import write_hardware_report, write_speed_reports
from fastspan.benchmarks.speed_report.resources import whole_stages
from fastspan.benchmarks.suite import main
from fastspan.errors import DataError


def blank(figure, path):
    """Spare the drawing, which takes longer than all the rest, where a test looks at text alone."""
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"></svg>', encoding="utf-8")


def report_on(folder, *, price=0.1, write_plot=blank):
    markdown, page = write_hardware_report(folder, price_per_hour=price, write_plot=write_plot)
    return markdown.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return report_on(write_recorded(tmp_path_factory.mktemp("speed") / "some-avx2"), write_plot=write_figure)


def row(text, *cells):
    """The cells of the one table row that begins with these."""
    (line,) = re.findall(rf"^\| {re.escape(' | '.join(cells))} \|.*$", text, re.MULTILINE)
    return [cell.strip() for cell in line.strip("|").split("|")]


def section(text, title):
    """What stands under the heading of this title."""
    return re.split(r"^#+ ", text.split(f"# {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_ratios_compare_like_with_like(reports):
    text, _ = reports
    assert row(text, "transformers fp32", "FastSpan fp32")[4].startswith(("1.9", "2.0"))
    assert row(text, "transformers fp32", "FastSpan int8")[4].startswith(("4.9", "5.0", "5.1"))
    # Compared with int8 in the first table as in the second.
    assert len(re.findall(r"^\| OpenVINO int8 \(NNCF\) \| FastSpan int8", text, re.MULTILINE)) == 2


def test_the_first_table_has_times_and_equal_answers_and_marks_where_they_are_few(reports):
    text, page = reports
    table = section(text, f"{MODEL}: the bundled checkpoint").split("And all of them")[0]
    assert row(table, "FastSpan int8", "–")[2:4] == ["98.4%", "2.02 ms"]
    assert row(table, "optimum int8 avx2", "FastSpan int8")[2] == "97.3%"
    assert row(table, "OpenVINO int8 (NNCF)", "FastSpan int8")[2] == "94.0% ✗"
    assert "✗ marks a system that gives fewer than 97%" in " ".join(text.split())
    (below,) = set(re.findall(r'<tr class="below">\s*<td[^>]*>([^<]*)<', page))
    assert below == "OpenVINO int8 (NNCF)"


def test_the_second_table_compares_with_what_runs_here_by_default(reports, tmp_path):
    assert "against FastSpan int8, which it runs here by default" in reports[0]
    assert "**FastSpan runs int8 here by default**" in reports[0]
    folder = write_recorded(tmp_path)
    record = json.loads((folder / "speed-cpu.json").read_text())
    record["defaults"][MODEL] = {"variant": "fp32", "reason": "fp32, because it is slow."}
    (folder / "speed-cpu.json").write_text(json.dumps(record))
    text, _ = report_on(folder)
    assert "against FastSpan fp32, which it runs here by default" in text
    assert row(text, "OpenVINO int8 (NNCF)", "FastSpan fp32")[4].startswith("0.4")


def test_equal_answers_are_those_of_the_systems_own_fp32_or_of_one_that_decodes_alike(reports):
    table = section(reports[0], f"Accuracy of {MODEL}")
    assert row(table, "optimum int8 avx2")[2:4] == ["97.3% [95.1, 98.5]", "optimum fp32"]
    assert row(table, "OpenVINO int8 (NNCF)")[2:4] == ["94.0% ✗ [91.1, 96.0]", "FastSpan fp32"]
    assert row(table, "FastSpan fp32")[2:4] == ["100.0%", "FastSpan fp32"]


def test_without_answers_the_report_says_that_they_were_not_compared(tmp_path):
    folder = write_recorded(tmp_path)
    (folder / "speed-cpu-answers.jsonl").unlink()
    text, page = report_on(folder)
    assert "Equal answers were not measured in this run" in " ".join(text.split())
    assert "✗" not in text
    assert page.count("<svg") == 4


def test_a_missing_peer_and_a_failure_are_shown(reports):
    for text in reports:
        assert "Haystack fp32" in text
        assert MISSING.replace("'", "&#x27;") in text or MISSING in text
        assert FAILURE in text


def test_the_summary_has_percentiles_only_where_they_can_be_had(reports):
    text, _ = reports
    single = section(text, f"single-128, {MODEL}")
    assert row(single, "System")[1:3] == ["p50 ms", "p95 ms"]
    assert row(single, "optimum fp32")[2] != "–"
    assert "p95" not in section(text, f"throughput, {MODEL}")
    assert "p99 ms" not in text


def test_accuracy_is_a_difference_from_pytorch(reports):
    table = section(reports[0], f"Accuracy of {MODEL}")
    assert row(table, "transformers fp32")[-2:] == ["+0.00", "+0.00"]
    assert row(table, "optimum fp32")[-1] == "-0.40"
    assert row(table, "optimum fp32")[-3] == "75.60 [71.6, 79.6]"


def test_accuracy_without_an_interval_is_no_figure(tmp_path):
    folder = write_recorded(tmp_path)
    record = json.loads((folder / "speed-cpu.json").read_text())
    for peer in record["peers"]:
        peer["accuracy"] = {"questions": 32, "exact": 46.9, "f1": 50.6} if peer["accuracy"] else None
    (folder / "speed-cpu.json").write_text(json.dumps(record))
    text, _ = report_on(folder)
    assert "50.6" not in text
    assert "accuracy-latency" not in text


def test_memory_is_held_against_the_graph_where_that_is_known(reports):
    text, _ = reports
    assert row(text, "FastSpan int8", MODEL, "1.25")[-3:] == ["180", "90", "2.00"]
    assert row(text, "optimum fp32", MODEL, "1.25")[-3:] == ["180", "–", "–"]


def write_parity(folder, name: str, questions: int, estimate: float, *, digest: str = "a" * 64) -> None:
    difference = {"estimate": estimate, "low": -2, "high": 0, "level": 0.95}
    agreement = {"exact_difference": difference, "f1_difference": difference, "equal_answers": 0.9782}
    variant = {
        "variant": "int8",
        "graph": "onnx/model_int8.onnx",
        "sha256": {"onnx/model_int8.onnx": digest, "onnx/model_int8.onnx_data": "b" * 64},
        "agreements": [agreement],
    }
    report = {"name": "minilm-l6-squad2", "questions": questions, "variants": [variant]}
    (folder / f"parity-minilm-l6-squad2-{name}.json").write_text(json.dumps(report))


def parity_row(text):
    return row(section(text, "FastSpan against PyTorch"), MODEL, "int8")[2:]


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
    assert row(section(text, f"Accuracy of {MODEL}"), "FastSpan int8")[-1] == "-0.80"
    assert parity_row(text) == ["2,828", "97.82%", "-1.25", "-1.25", "`parity-minilm-l6-squad2-squad.json`"]
    (measured_bundle / "parity-squad.json").write_text("{}")
    with pytest.raises(DataError, match="make parity"):
        report_on(measured_bundle)


def test_of_two_parity_reports_the_one_with_more_questions_counts(measured_bundle):
    write_parity(measured_bundle, "a-part", 2828, -1.25)
    write_parity(measured_bundle, "own-set", 367, -1.75)
    text, _ = report_on(measured_bundle)
    assert parity_row(text)[:3] == ["2,828", "97.82%", "-1.25"]


@pytest.mark.parametrize("digest", ["c" * 64, ""])
def test_a_parity_report_on_another_graph_does_not_count(measured_bundle, digest):
    write_parity(measured_bundle, "own-set", 367, -1.75)
    write_parity(measured_bundle, "part", 2828, -1.25, digest=digest)
    text, _ = report_on(measured_bundle)
    assert parity_row(text)[:3] == ["367", "97.82%", "-1.75"]


def test_parity_reports_lie_above_the_folders_of_hardware(measured_bundle, tmp_path):
    kind = tmp_path / "some-avx2"
    kind.mkdir()
    for path in list(tmp_path.iterdir()):
        if path.is_file():
            path.rename(kind / path.name)
    write_parity(tmp_path, "own-set", 367, -1.75)
    assert parity_row(report_on(kind)[0])[0] == "367"


def test_cost_follows_from_price_and_speed(tmp_path):
    folder = write_recorded(tmp_path)
    cheap, _ = report_on(folder, price=0.1)
    dear, _ = report_on(folder, price=1.0)
    costs = [float(row(text, "optimum fp32", MODEL, "29.5")[-1]) for text in (cheap, dear)]
    assert costs[0] == pytest.approx(0.1 * 1e6 / 29.5 / 3600, rel=0.02)
    assert costs[1] == pytest.approx(10 * costs[0], rel=0.02)


def test_a_price_that_nobody_names_is_assumed_by_the_kind_of_machine(tmp_path):
    for device, price in (("cpu", "At 0.1 an hour"), ("gpu", "At 3 an hour")):
        folder = write_recorded(tmp_path / device, device=device)
        assert price in report_on(folder, price=None)[0]


def test_a_cpu_and_a_gpu_in_one_folder_have_a_section_each(tmp_path):
    folder = write_recorded(tmp_path)
    write_recorded(folder, device="gpu")
    filled, page = report_on(folder)
    assert "## Summary\n" in filled
    assert "### Summary (GPU)\n" in filled
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_kinds_of_hardware_lie_side_by_side_and_are_compared(tmp_path):
    write_recorded(tmp_path / "amd-zen3-avx2")
    write_speed_reports(tmp_path, price_per_hour=0.1)
    alone = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "make bench-gpu" in alone
    assert "hardware.svg" not in alone
    write_recorded(tmp_path / "nvidia-h200", device="gpu")
    written = write_speed_reports(tmp_path, price_per_hour=0.1)
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        f"{folder}report.{suffix}"
        for folder in ("", "amd-zen3-avx2/", "nvidia-h200/")
        for suffix in ("md", "html")
    ]
    text, page = (path.read_text(encoding="utf-8") for path in written[:2])
    assert "make bench-gpu" not in text
    assert row(text, "[nvidia-h200](nvidia-h200/report.md)")[1:4] == ["a CPU", "avx2 fma", "2"]
    found = [row(text, f"[{kind}]({kind}/report.md)")[-1] for kind in ("amd-zen3-avx2", "nvidia-h200")]
    assert found == ["1.32.0", "1.31.1"]
    assert 'href="nvidia-h200/report.html"' in page
    assert row(text, "amd-zen3-avx2", "**int8**")[2:4] == ["2.02 ms", "8.17 ms"]
    peers = section(text, f"Peers on {MODEL}")
    assert row(peers, "Peer")[1:] == ["amd-zen3-avx2", "nvidia-h200"]
    assert row(peers, "OpenVINO int8 (NNCF)")[1].endswith("94.0% ✗")
    # One cell's mark says nothing about the other hardware in its row.
    assert 'class="below"' not in page
    assert page.count("<svg") == 1


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
    assert row(section(reports[0], f"single-128, {MODEL}"), "optimum fp32")[4] == "24 (8)"


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
    assert page.count("<svg") == 5
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert "@import" not in page
    assert 'name="viewport"' in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page):
        assert "".join(reference) in ids


def test_the_same_measurement_gives_the_same_report(reports, tmp_path):
    assert report_on(write_recorded(tmp_path / "some-avx2"), write_plot=write_figure) == reports


def test_a_record_survives_its_files(tmp_path):
    measured = Measured.read(write_recorded(tmp_path), "cpu")
    measured.record.write(tmp_path / "again")
    assert len(measured.answered[MODEL, "FastSpan int8"].digests) == 367
    assert (tmp_path / "again" / "speed-cpu.json").read_text() == (tmp_path / "speed-cpu.json").read_text()
    assert len(measured.rounds("minilm-l6-squad2", "single-32", "FastSpan int8")) == 8
    assert not measured.rounds("minilm-l6-squad2", "single-32", "FastSpan int8, throughput")


def test_a_damaged_record_is_refused(tmp_path):
    folder = write_recorded(tmp_path)
    (folder / "speed-cpu-samples.jsonl").write_text('{"model": "x"}\n')
    with pytest.raises(DataError, match="measure again"):
        report_on(folder)


def test_the_command_writes_the_reports_again(tmp_path, capsys):
    assert main(["--report-only", "--out", str(tmp_path)]) == 1
    assert "make bench" in capsys.readouterr().err
    folder = write_recorded(tmp_path / "some-avx2")
    assert main(["--report-only", "--out", str(tmp_path), "--price-per-hour", "0.5"]) == 0
    assert "At 0.5 an hour" in (folder / "report.md").read_text(encoding="utf-8")
    assert "some-avx2" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_records_that_tell_answers_apart_from_decoding_are_read_as_one_stage():
    older = {"encode": 1.0, "plan": 2.0, "run": 3.0, "decode": 4.0, "objects": 5.0, "other": 6.0}
    newer = {"encode": 1.0, "plan": 2.0, "run": 3.0, "decode": 9.0, "other": 6.0}
    assert whole_stages(older) == whole_stages(newer) == newer
