"""Formats, columns, rejects and refusals of a bulk run, with an engine that gives each question back."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from fastspan.bulk import run, work_folder
from fastspan.bulk.chunks import CHUNK_ROWS, Place
from fastspan.bulk.columns import Columns
from fastspan.bulk.progress import Progress, duration
from fastspan.bulk.run import FileJob, answer_file, kind_of
from fastspan.bulk.work_folder import WorkFolder, rejects_beside
from fastspan.cli.main import main
from fastspan.errors import InferenceError, InputError

GOOD = {"question": "who?", "context": "rollo"}


class Echo:
    """Answers a question with itself; fails from the chunk on that it is told."""

    ahead = 2

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at, self.done, self.closed = fails_at, 0, False

    def start(self, pairs):
        return pairs

    def finish(self, begun):
        if self.done == self.fails_at:
            raise InferenceError("it broke")
        self.done += 1
        return [(question, 0, 1, 0.5, None, 1.0, -1.0) for question, _ in begun]

    def close(self):
        self.closed = True


class Quiet:
    def at(self, place, rejected):
        pass


def answer(source: Path, out: Path, *, engine=None, restart=False, rejects=None, options=None, **columns):
    job = FileJob(
        source=source,
        out=out,
        rejects=rejects or rejects_beside(out),
        columns=Columns(**columns),
        options=options or {},
    )
    return answer_file(job, lambda: engine or Echo(), lambda size, start: Quiet(), restart=restart)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def source_of(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


class TestJsonLines:
    def test_other_columns_are_carried_and_the_context_is_not(self, tmp_path):
        source = source_of(tmp_path / "in.jsonl", {**GOOD, "doc": {"pages": [1, 2]}, "late": None})
        assert answer(source, tmp_path / "out.jsonl").answered == 1
        assert lines(tmp_path / "out.jsonl") == [
            {
                "question": "who?",
                "doc": {"pages": [1, 2]},
                "late": None,
                "row": 0,
                "answer": "who?",
                "start": 0,
                "end": 1,
                "score": 0.5,
                "confidence": None,
                "null_score": 1.0,
                "best_span_score": -1.0,
            }
        ]
        assert not rejects_beside(tmp_path / "out.jsonl").exists()

    def test_one_question_for_all_and_rows_named_by_a_column(self, tmp_path):
        source = source_of(tmp_path / "in.jsonl", {"text": "a", "doc": "x"}, {"text": "b", "doc": ""})
        columns = {"context": "text", "ask": "why?", "id": "doc", "prefix": "qa_", "keep_context": True}
        found = answer(source, tmp_path / "out.jsonl", **columns)
        assert (found.answered, found.rejected) == (1, 1)
        (row,) = lines(tmp_path / "out.jsonl")
        assert list(row)[:3] == ["text", "doc", "qa_answer"]
        (reject,) = lines(rejects_beside(tmp_path / "out.jsonl"))
        assert reject["reason"] == "'doc', which names the row, is empty"
        assert reject["record"] == {"text": "b", "doc": ""}

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("{", "not JSON"),
            ("[1]", "no JSON object"),
            ('{"question": "a", "question": "b", "context": "c"}', "a key stands twice"),
            ('{"question": "a", "context": "c", "n": NaN}', "NaN is not JSON"),
            ('{"question": "a", "context": "c", "n": 1e999}', "no 64-bit float"),
            ('{"question": null, "context": "c"}', "'question' is null, not text"),
            ('{"question": "a", "context": 3}', "'context' is int, not text"),
            ('{"context": "c"}', "there is no 'question'"),
            ('{"question": "a", "context": "c", "answer": 1}', "there is a 'answer' already"),
            ("[" * 100_000, "nested too deeply"),
        ],
    )
    def test_a_row_that_cannot_be_used_is_kept_with_the_reason(self, tmp_path, line, reason):
        source = source_of(tmp_path / "in.jsonl", GOOD, line, "  ", GOOD)
        found = answer(source, tmp_path / "out.jsonl")
        assert (found.answered, found.rejected) == (2, 1)
        (reject,) = lines(rejects_beside(tmp_path / "out.jsonl"))
        assert reason in reject["reason"]
        assert reject["row"] == 1
        assert reject["record"]
        assert [row["row"] for row in lines(tmp_path / "out.jsonl")] == [0, 2]

    def test_bytes_that_are_no_utf8_and_halves_of_surrogates(self, tmp_path):
        source = tmp_path / "in.jsonl"
        half = json.dumps({**GOOD, "note": "\ud800"}).encode()
        mark = b"\xef\xbb\xbf"
        source.write_bytes(mark + json.dumps(GOOD).encode() + b"\r\n" + b'{"question": "\xff"}\n' + half)
        found = answer(source, tmp_path / "out.jsonl")
        assert (found.answered, found.rejected) == (2, 1)
        assert lines(tmp_path / "out.jsonl")[1]["note"] == "\ud800"
        assert "not UTF-8" in lines(rejects_beside(tmp_path / "out.jsonl"))[0]["reason"]

    def test_an_empty_file_has_no_answers(self, tmp_path):
        assert answer(source_of(tmp_path / "in.jsonl"), tmp_path / "out.jsonl").answered == 0
        assert (tmp_path / "out.jsonl").read_bytes() == b""


class TestCsv:
    def read(self, path: Path, **how) -> list[dict]:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, **how))

    def test_fields_over_several_lines_and_longer_than_the_modules_limit(self, tmp_path):
        source = tmp_path / "in.csv"
        long = "x" * 200_000
        with source.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["question", "context", "note"])
            table.writerows([["who?", long, 'a "b",\nc\r\nd'], ["why?", "é", ""]])
        limit = csv.field_size_limit()
        assert answer(source, tmp_path / "out.csv").answered == 2
        assert csv.field_size_limit() == limit
        rows = self.read(tmp_path / "out.csv")
        assert [row["note"] for row in rows] == ['a "b",\nc\r\nd', ""]
        assert [row["answer"] for row in rows] == ["who?", "why?"]
        assert rows[0]["confidence"] == ""

    def test_rows_that_are_none_are_rejected(self, tmp_path):
        source = tmp_path / "in.tsv"
        source.write_bytes(b'question\tcontext\nwho?\ta\nwho?\nwho?\ta\tb\nwho?\t\xff\n\nwho?\tz\n"open\tq')
        found = answer(source, tmp_path / "out.tsv")
        assert (found.answered, found.rejected) == (2, 4)
        assert [row["row"] for row in self.read(tmp_path / "out.tsv", delimiter="\t")] == ["0", "4"]
        reasons = [reject["reason"] for reject in lines(rejects_beside(tmp_path / "out.tsv"))]
        assert reasons[:3] == [
            *("1 fields, where the first row of the file has 2",),
            *("3 fields, where the first row of the file has 2", "not UTF-8"),
        ]
        assert reasons[3].startswith("not CSV")

    @pytest.mark.parametrize(
        ("head", "message"),
        [
            ("", "no first row of column names"),
            ("question,question,context\n", "two columns 'question'"),
            ("q,context\n", "no column 'question'"),
            ("question,context,score\n", "--prefix"),
        ],
    )
    def test_a_first_row_that_cannot_be_used_is_refused(self, tmp_path, head, message):
        (tmp_path / "in.csv").write_text(head)
        with pytest.raises(InputError, match=message):
            answer(tmp_path / "in.csv", tmp_path / "out.csv")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


class TestParquet:
    def test_types_are_kept_row_groups_are_read_one_by_one_and_dictionaries_are_written_out(self, tmp_path):
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = 2 * CHUNK_ROWS + 10
        when = arrow.array([10**18 + n for n in range(rows)], arrow.timestamp("ns"))
        table = arrow.table(
            {
                "question": [None if n == 3 else f"q{n}" for n in range(rows)],
                "context": ["c"] * rows,
                "when": when,
                "kind": arrow.array(["a", "b"] * (rows // 2)).dictionary_encode(),
                "vector": [[float(n), 0.0] for n in range(rows)],
            }
        )
        parquet.write_table(table, tmp_path / "in.parquet", row_group_size=100)
        found = answer(tmp_path / "in.parquet", tmp_path / "out.parquet")
        assert (found.answered, found.rejected) == (rows - 1, 1)
        made = parquet.read_table(tmp_path / "out.parquet")
        kept = [n for n in range(rows) if n != 3]
        assert made.column("when").combine_chunks() == when.take(arrow.array(kept))
        assert made.column("vector").to_pylist() == [[float(n), 0.0] for n in kept]
        assert made.column("kind").to_pylist() == ["ab"[n % 2] for n in kept]
        assert made.column("row").to_pylist() == kept
        assert lines(rejects_beside(tmp_path / "out.parquet"))[0]["row"] == 3
        answer(tmp_path / "in.parquet", tmp_path / "out.jsonl")
        assert lines(tmp_path / "out.jsonl")[5]["kind"] == "a"

    def test_what_is_no_parquet_is_refused(self, tmp_path):
        pytest.importorskip("pyarrow")
        (tmp_path / "in.parquet").write_bytes(b"PAR1 or not")
        with pytest.raises(InputError, match="cannot be read as Parquet"):
            answer(tmp_path / "in.parquet", tmp_path / "out.parquet")


class TestResuming:
    @pytest.fixture
    def cut_off(self, tmp_path):
        """A run of five chunks that failed at the third."""
        source = source_of(tmp_path / "in.jsonl", *({**GOOD, "n": n} for n in range(5 * CHUNK_ROWS)))
        engine = Echo(fails_at=2)
        with pytest.raises(InferenceError, match="it broke"):
            answer(source, tmp_path / "out.jsonl", engine=engine)
        assert engine.closed
        return source, tmp_path / "out.jsonl"

    def test_it_goes_on_behind_what_is_done(self, cut_off):
        engine = Echo()
        assert answer(*cut_off, engine=engine).answered == 5 * CHUNK_ROWS
        assert engine.done == 3
        assert [row["n"] for row in lines(cut_off[1])] == list(range(5 * CHUNK_ROWS))

    def test_begun_again_it_answers_all(self, cut_off):
        engine = Echo()
        answer(*cut_off, engine=engine, restart=True, ask="why?")
        assert engine.done == 5

    def test_other_options_are_refused(self, cut_off):
        with pytest.raises(InputError, match=r"another option 'ask' .*None.*why"):
            answer(*cut_off, ask="why?")
        with pytest.raises(InputError, match=r"another model .*none.*fp32.*--restart"):
            answer(*cut_off, options={"model": "fp32"})
        assert answer(*cut_off).answered == 5 * CHUNK_ROWS

    def test_a_changed_input_is_refused(self, cut_off):
        source, _ = cut_off
        source.write_bytes(source.read_bytes().replace(b'"n": 700', b'"n": 701'))
        with pytest.raises(InputError, match="another input"):
            answer(*cut_off)

    def test_an_input_that_changes_meanwhile_is_refused(self, tmp_path):
        source = source_of(tmp_path / "in.jsonl", GOOD)

        class Appends(Echo):
            def close(self):
                with source.open("a") as file:
                    file.write("\n")

        with pytest.raises(InputError, match="was changed meanwhile"):
            answer(source, tmp_path / "out.jsonl", engine=Appends())
        assert not (tmp_path / "out.jsonl").exists()

    def test_answers_that_were_lost_are_refused(self, cut_off):
        cut_off[1].with_name("out.jsonl.partial").joinpath("answers").write_bytes(b"")
        with pytest.raises(InputError, match="has lost what was written"):
            answer(*cut_off)

    def test_a_state_that_says_nothing_is_refused(self, cut_off):
        cut_off[1].with_name("out.jsonl.partial").joinpath("state.json").write_bytes(b"{}")
        with pytest.raises(InputError, match="says nothing of use"):
            answer(*cut_off)

    def test_two_runs_at_once_are_refused(self, tmp_path):
        out = tmp_path / "out.jsonl"
        with (
            WorkFolder.open(out, rejects_beside(out), {}, restart=False),
            pytest.raises(InputError, match="another run writes"),
        ):
            WorkFolder.open(out, rejects_beside(out), {}, restart=False)

    @pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.rejects.jsonl"])
    def test_a_file_that_is_there_is_never_replaced(self, tmp_path, name):
        source = source_of(tmp_path / "in.jsonl", GOOD)
        (tmp_path / name).write_text("mine")
        with pytest.raises(InputError, match="is there already"):
            answer(source, tmp_path / "out.jsonl")
        assert (tmp_path / name).read_text() == "mine"
        assert not (tmp_path / "out.jsonl.partial").exists()

    def test_a_disk_that_is_full_is_told_and_what_is_done_stays(self, tmp_path, monkeypatch):
        source = source_of(tmp_path / "in.jsonl", *([GOOD] * 3 * CHUNK_ROWS))
        monkeypatch.setattr(work_folder, "COMMIT_SECONDS", 0.0)
        calls = []

        def full(descriptor):
            calls.append(descriptor)
            if len(calls) > 5:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(InputError, match=r"No space left on device\): make room"):
                answer(source, tmp_path / "out.jsonl")
        assert answer(source, tmp_path / "out.jsonl").answered == 3 * CHUNK_ROWS


class TestFormats:
    def test_a_name_that_promises_no_format_is_refused(self):
        assert kind_of(Path("a.NDJSON")) == "JSON lines"
        with pytest.raises(InputError, match="no format known by its name"):
            kind_of(Path("a.xlsx"))

    def test_json_lines_become_no_table(self, tmp_path):
        with pytest.raises(InputError, match="JSON lines can be answered to JSON lines"):
            answer(source_of(tmp_path / "in.jsonl", GOOD), tmp_path / "out.csv")

    def test_a_long_text_ends_a_chunk(self, tmp_path):
        source = source_of(tmp_path / "in.jsonl", *([{**GOOD, "context": "x" * 600_000}] * 4))
        engine = Echo()
        answer(source, tmp_path / "out.jsonl", engine=engine)
        assert engine.done == 2


class TestProgress:
    class Screen(io.StringIO):
        def isatty(self):
            return True

    def test_a_terminal_shows_share_rate_and_time_left(self):
        now = [0.0]
        screen = self.Screen()
        progress = Progress(screen, 1000, Place(), clock=lambda: now[0])
        now[0] = 10.0
        progress.at(Place(50, 250), 2)
        assert screen.getvalue() == "\r\x1b[K25.0%, 50 rows, 5.0 a second, 30 s left, 2 rejected"
        progress.at(Place(60, 300), 2)
        assert "60 rows" not in screen.getvalue()
        progress.clear()
        assert screen.getvalue().endswith("\r\x1b[K")

    def test_a_log_gets_a_line_a_minute_at_the_rate_of_the_last_one(self):
        now = [0.0]
        log = io.StringIO()
        progress = Progress(log, None, Place(), clock=lambda: now[0])
        for second in range(0, 181, 10):
            now[0] = float(second)
            progress.at(Place(second if second <= 120 else 2 * second - 120, second), 0)
        assert log.getvalue().splitlines()[-1] == "240 rows, 2.0 a second"
        assert len(log.getvalue().splitlines()) == 3

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [(45, "45 s"), (720, "12 min"), (12_000, "3 h 20 min"), (532_800, "6 d 4 h")],
    )
    def test_durations(self, seconds, said):
        assert duration(seconds) == said


class TestCommand:
    def call(self, tmp_path, *words):
        return main(["bulk", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), *words])

    def test_it_answers_as_answer_does(self, tiny_bundle, tmp_path, capsys):
        from fastspan import QuestionAnswerer

        contexts = [f"the stone bridge was built by rollo in year {n}" for n in range(3)]
        rows = [{"context": context} for context in contexts]
        source_of(tmp_path / "in.jsonl", *rows, {"context": "x", "n": "\0"}, {"nothing": 1})
        options = ["--bundle", str(tiny_bundle), "--variant", "fp32", "--no-answer-threshold", "1e9"]
        assert self.call(tmp_path, *options, "--ask", "who built it?", "--workers", "1", "--json") == 0
        counts = json.loads(capsys.readouterr().out)
        assert (counts["answered"], counts["rejected"]) == (4, 1)
        with QuestionAnswerer.load(tiny_bundle, variant="fp32") as qa:
            for context, row in zip(contexts, lines(tmp_path / "out.jsonl"), strict=False):
                expected = qa.answer("who built it?", context, no_answer_threshold=1e9).answer
                assert (row["answer"], row["start"], row["end"]) == (
                    expected.text,
                    expected.start,
                    expected.end,
                )

    @pytest.mark.parametrize(
        "words",
        [
            ["in.jsonl", "-"],
            ["-", "-"],
            ["-", "-", "--rejects", "r.jsonl", "--json"],
            ["a.jsonl", "a.jsonl"],
            ["a.jsonl", "b.jsonl", "--rejects", "b.jsonl"],
            ["a.jsonl", "b.jsonl", "--engine", "ray"],
            ["a.jsonl", "b.jsonl", "--gpus", "1"],
            ["a.csv", "b.csv", "--delimiter", ";;"],
        ],
    )
    def test_words_that_do_not_go_together_are_wrong_usage(self, words, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["bulk", *words])
        assert ended.value.code == 2

    def test_standard_streams(self, tiny_bundle, tmp_path):
        import subprocess
        import sys

        given = "".join(f"{json.dumps(row)}\n" for row in (GOOD, {"question": "", "context": "x"}, GOOD))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "fastspan", "bulk", "-", "-", "--workers", "1"),
                *("--rejects", tmp_path / "r.jsonl", "--bundle", tiny_bundle, "--variant", "fp32"),
            ],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert [json.loads(line)["row"] for line in done.stdout.splitlines()] == [0, 2]
        assert lines(tmp_path / "r.jsonl")[0]["reason"].startswith("question is empty")
        assert done.stderr.startswith("2 rows answered, 1 rejected: see ")

    def test_a_bundle_that_does_not_load_is_told_before_anything_is_written(self, tmp_path, capsys):
        source_of(tmp_path / "in.jsonl", GOOD)
        assert self.call(tmp_path, "--bundle", str(tmp_path / "none")) == 1
        assert "fastspan: error:" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_nothing_is_left_open(tmp_path):
    """Warnings are errors: a file that is not closed would be one."""
    source = source_of(tmp_path / "in.jsonl", GOOD)
    with pytest.raises(InputError):
        answer(source, tmp_path / "out.jsonl", context="text")
    assert run.kind_of(source) == "JSON lines"
    assert not (tmp_path / "out.jsonl.partial" / "lock").exists()
