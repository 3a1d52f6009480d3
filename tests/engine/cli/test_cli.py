"""The command line as a user calls it: what it prints, and with which exit code it ends."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastspan import __version__
from fastspan.bundle.folder import Bundle
from fastspan.cli.arguments import FILES, FOLDERS
from fastspan.cli.commands import modules
from fastspan.cli.main import build_parser, main
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, harmless, labelled, one_line, table, write, write_json
from support.bundles.forged_bundles import forge
from support.packages import hide
from support.paths import ROOT

DOCUMENT = ROOT / "docs" / "cli.md"
CONTEXT = "The stone bridge over the river was built by Rollo. Rain and wind came from the north.\n"
# So high, and so low, that an untrained model's margin is never beyond.
ALWAYS, NEVER = "1e9", "-1e9"


@pytest.fixture
def context(tmp_path: Path) -> str:
    path = tmp_path / "context.txt"
    path.write_bytes(CONTEXT.encode())
    return str(path)


@pytest.fixture
def ask(tiny_bundle, context, capsys):
    """Answer with the tiny bundle; returns standard output."""

    def call(*options: str) -> str:
        assert main(["answer", "who built it?", context, "--bundle", str(tiny_bundle), *options]) == 0
        return capsys.readouterr().out

    return call


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def commands() -> dict[str, CommandParser]:
    return dict(build_parser().commands)


def pipe_text(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


class TestAnswer:
    def test_json_is_one_object_whose_offsets_are_those_of_the_file(self, ask):
        out = ask("--json", "--top-k", "3", "--no-answer-threshold", ALWAYS, "--variant", "fp32")
        found = json.loads(out)
        assert out.count("\n") == 1
        assert found["question"] == "who built it?"
        assert found["variant"] == "fp32"
        assert 1 <= len(found["answers"]) <= 3
        for answer in [found["answer"], *found["answers"]]:
            assert CONTEXT[answer["start"] : answer["end"]] == answer["text"]

    def test_an_answer_is_marked_in_its_sentence_and_nothing_is_escaped_in_a_pipe(self, ask):
        out = ask("--no-answer-threshold", ALWAYS)
        marked = re.search(r"\*\*(.+)\*\*", out)
        assert marked is not None
        assert marked[1] in CONTEXT
        assert "\x1b" not in out
        assert "confidence" in out

    def test_without_an_answer_the_closest_span_is_shown(self, ask):
        out = ask(f"--no-answer-threshold={NEVER}")
        assert out.startswith("no answer in the text")
        assert "closest: " in out

    def test_a_text_without_a_span_has_no_score_which_is_null_in_json(self, tiny_bundle, capsys, monkeypatch):
        pipe_text(monkeypatch, "\u200d".encode())
        assert main(["answer", "who?", "--bundle", str(tiny_bundle), "--json"]) == 0
        found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        assert found["answer"] is None
        assert found["best_span_score"] is None

    @pytest.mark.parametrize("data", [b"", b" \n\t", b"\xef\xbb\xbf"])
    def test_no_text_is_an_error(self, data, tiny_bundle, tmp_path, capsys, monkeypatch):
        pipe_text(monkeypatch, data)
        assert main(["answer", "who?", "--bundle", str(tiny_bundle), "--json"]) == 1
        assert "standard input holds no text" in capsys.readouterr().err
        empty = tmp_path / "empty.txt"
        empty.write_bytes(data)
        assert main(["answer", "who?", str(empty), "--bundle", str(tiny_bundle)]) == 1
        assert "empty.txt holds no text" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "words",
        [
            ["QUESTION", "FILE", "--json", *("--bundle", "BUNDLE")],
            ["QUESTION", "--json", "FILE", *("--bundle", "BUNDLE")],
            ["QUESTION", *("--bundle", "BUNDLE"), "FILE", "--json"],
            ["--json", *("--bundle", "BUNDLE"), "QUESTION", "FILE"],
            ["--json", "--bundle=BUNDLE", "--", "QUESTION", "FILE"],
        ],
    )
    def test_the_file_may_stand_anywhere(self, words, tiny_bundle, context, capsys):
        places = {"QUESTION": "who?", "FILE": context, "BUNDLE": str(tiny_bundle)}
        given = [re.sub("[A-Z]+", lambda found: places[found[0]], word) for word in words]
        assert main(["answer", *given]) == 0
        assert json.loads(capsys.readouterr().out)["question"] == "who?"

    def test_a_question_may_begin_with_a_hyphen(self, tiny_bundle, context, capsys):
        options = ["--bundle", str(tiny_bundle), "--json"]
        for question in ("-5 or 5?", "--json", "-h", "-"):
            assert main(["answer", *options, "--", question, context]) == 0
            assert json.loads(capsys.readouterr().out)["question"] == question

    @pytest.mark.parametrize("threshold", ["-1e9", "-inf", "-1E+9", "-.5e3", "-1000"])
    def test_a_negative_threshold_of_any_form_needs_no_equals_sign(self, ask, threshold):
        assert json.loads(ask("--json", "--no-answer-threshold", threshold))["answer"] is None

    def test_the_longest_answer_can_be_chosen(self, ask):
        options = ("--json", "--top-k", "20", "--no-answer-threshold", ALWAYS)
        longest = max(answer["text"].count(" ") for answer in json.loads(ask(*options))["answers"])
        assert longest > 0
        short = json.loads(ask(*options, "--max-answer-length", "1"))["answers"]
        assert all(" " not in answer["text"] for answer in short)

    def test_a_page_shows_the_answers_in_the_text(self, ask, context, tmp_path, tiny_bundle, capsys):
        page = tmp_path / "page.html"
        out = ask("--html", str(page), "--no-answer-threshold", ALWAYS, "--json")
        shown = page.read_text(encoding="utf-8")
        assert f"<mark>{json.loads(out)['answer']['text']}</mark>" in shown
        assert '<h1 dir="auto">who built it?</h1>' in shown
        ask("--html", str(page), f"--no-answer-threshold={NEVER}", "--top-k", "2")
        assert "No answer in the text" in page.read_text(encoding="utf-8")
        command = ["answer", "who?", context, "--bundle", str(tiny_bundle)]
        assert main([*command, "--html", str(tmp_path / "none" / "page.html")]) == 1
        assert "cannot be written" in capsys.readouterr().err

    def test_a_domain_that_the_bundle_lacks(self, context, tiny_bundle, capsys):
        assert main(["answer", "who?", context, "--bundle", str(tiny_bundle), "--domain", "law"]) == 1
        assert "'law' is no domain of this bundle, which has none" in capsys.readouterr().err

    def test_json_holds_no_half_of_a_surrogate_pair(self, tiny_bundle, context, capsys):
        assert main(["answer", "who \udcff?", context, "--bundle", str(tiny_bundle), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["question"] == "who \\udcff?"

    def test_line_ends_and_a_byte_order_mark_do_not_shift_offsets(self, tiny_bundle, capsys, monkeypatch):
        pipe_text(monkeypatch, b"\xef\xbb\xbf" + CONTEXT.replace(". ", ".\r\n").encode())
        options = ["--bundle", str(tiny_bundle), "--json", "--no-answer-threshold", ALWAYS, "--top-k", "20"]
        assert main(["answer", "who?", "-", *options]) == 0
        for answer in json.loads(capsys.readouterr().out)["answers"]:
            assert CONTEXT.replace(". ", ".\r\n")[answer["start"] : answer["end"]] == answer["text"]

    def test_pipeline_decoding(self, ask):
        assert 0 <= json.loads(ask("--json", "--decoding", "pipeline"))["answer"]["score"] <= 1

    def test_the_environment_names_the_bundle(self, tiny_bundle, context, capsys, monkeypatch):
        monkeypatch.setenv("FASTSPAN_BUNDLE", str(tiny_bundle))
        assert main(["answer", "who?", context, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["question"] == "who?"

    def test_without_any_bundle_it_says_what_to_do(self, context, capsys, monkeypatch, tmp_path):
        monkeypatch.delenv("FASTSPAN_BUNDLE", raising=False)
        monkeypatch.chdir(tmp_path)
        assert main(["answer", "who?", context]) == 1
        assert "--bundle FOLDER" in capsys.readouterr().err

    def test_a_terminal_without_a_file_is_a_usage_error(self, tiny_bundle, capsys, monkeypatch):
        monkeypatch.setattr(sys, "stdin", Terminal())
        with pytest.raises(SystemExit) as ended:
            main(["answer", "who?", "--bundle", str(tiny_bundle)])
        assert ended.value.code == 2
        assert "name a FILE" in capsys.readouterr().err

    def test_a_threshold_that_would_be_ignored_is_a_usage_error(self, context, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["answer", "who?", context, "--decoding", "pipeline", "--no-answer-threshold", "1"])
        assert ended.value.code == 2
        assert "--decoding squad" in capsys.readouterr().err

    @pytest.mark.parametrize("data", [b"\xff\xfe", b"caf\xe9"])
    def test_text_in_another_encoding_is_told(self, data, tiny_bundle, capsys, monkeypatch):
        pipe_text(monkeypatch, data)
        assert main(["answer", "who?", "--bundle", str(tiny_bundle)]) == 1
        assert "standard input is not text in UTF-8" in capsys.readouterr().err


class TestErrors:
    def test_an_error_is_one_line_without_a_traceback(self, tmp_path, capsys):
        assert main(["info", str(tmp_path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("fastspan: error: ")
        assert err.count("\n") == 1

    def test_an_error_is_never_long_and_moves_no_cursor(self, tmp_path, capsys):
        path = tmp_path / "questions.json"
        path.write_text(json.dumps({"data": [{"id": "\x1b[2J" + "x" * 10**6, "question": 3}]}))
        assert main(["eval", str(tmp_path), "--data", str(path)]) == 1
        err = capsys.readouterr().err
        assert "\x1b" not in err
        assert err.count("\n") == 1
        assert len(err) < 2000
        assert main(["info", str(tmp_path / "\x1b[2J")]) == 1
        assert "\ufffd[2J does not exist" in capsys.readouterr().err

    @pytest.mark.parametrize("words", [["--debug", "info"], ["info", "--debug"]])
    def test_debug_shows_the_traceback(self, words, tmp_path, capsys):
        assert main([*words, str(tmp_path)]) == 1
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert err.splitlines()[-1].startswith("fastspan: error: ")

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["fly"],
            ["answer"],
            ["answer", "who?", "--threads", "0"],
            ["answer", "who?", "--top-k", "²"],
            ["answer", "who?", "--no-answer-threshold", "nan"],
            ["export"],
            ["export", "somewhere", "--out", "out", "--variants", "fp32,int4"],
            ["export", "somewhere", "--out", "/"],
            ["export", "somewhere", "--out", ""],
            ["export", "somewhere", "--out", "/tmp/../.."],
            ["answer", "who?", "file", "another"],
            ["answer", "who?", "--top-k", "9" * 5000],
            ["calibrate", "owner/name", "--data", "questions.json"],
            ["tune", "owner/name"],
            ["completion", "fish"],
        ],
    )
    def test_wrong_usage_ends_with_2(self, words, capsys):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert "usage: fastspan" in capsys.readouterr().err

    def test_an_interrupt_ends_with_130(self, monkeypatch):
        def interrupted(_arguments: argparse.Namespace) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr("fastspan.cli.commands.doctor.run", interrupted)
        assert main(["doctor"]) == 130

    def test_a_reader_that_went_away_is_no_error(self, tiny_bundle):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "fastspan", "info", str(tiny_bundle)],
                stdout=writing,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            os.close(writing)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("words", "closed", "code"),
        [
            ("info BUNDLE", ">&-", 0),
            ("info BUNDLE --json", "2>&-", 0),
            ("info nowhere", "2>&-", 1),
            ("answer who? --bundle BUNDLE", "<&-", 2),
            ("info BUNDLE", "> /dev/full", 1),
            ("info BUNDLE --json", "> /dev/full", 1),
        ],
    )
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, as Linux has it")
    def test_streams_that_are_closed_or_full(self, words, closed, code, tiny_bundle):
        line = f"{sys.executable} -m fastspan {words.replace('BUNDLE', str(tiny_bundle))} {closed}"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        if "full" in closed:
            assert done.stderr.startswith("fastspan: error: ")
            assert "No space left" in done.stderr


class TestBundles:
    @pytest.mark.usefixtures("little_verification")
    def test_export_verify_and_info_in_turn(self, tiny_checkpoint, tmp_path, capsys):
        out = str(tmp_path / "bundle")
        texts = tmp_path / "texts.jsonl"
        texts.write_text(json.dumps({"question": "who built it?", "context": CONTEXT}) + "\n")
        words = ["export", str(tiny_checkpoint), "--out", out, "--variants", "int8,fp32", "--threads", "1"]
        assert main([*words, "--allow-parity-loss", "--calibration", str(texts)]) == 0
        captured = capsys.readouterr()
        assert "lowering to int8" in captured.err
        assert "bert is lowered natively" in captured.out
        assert f"--bundle {out}" in captured.out
        assert [line.split()[0] for line in captured.out.splitlines()[1:3]] == ["fp32", "int8"]

        assert main(["verify", out]) == 0
        verified = capsys.readouterr().out
        assert "byte for byte as exported" in verified
        assert main(["verify", out, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["passed"]
        accepted = {graph["variant"]: graph["loss_accepted"] for graph in found["graphs"]}
        assert accepted == {"fp32": False, "int8": True}
        assert found["graphs"][0]["comparison"] is None
        assert found["graphs"][1]["comparison"]["equal_answers"] == 1
        assert re.search(r"onnx/model.onnx +– +– +runs; the reference", verified)
        assert re.search(r"onnx/model_cpu.onnx +\S+ +100.0% +passed", verified)

        assert main(["info", out, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert set(found["variants"]) == {"fp32", "int8"}
        assert found["auto"]["provider"].endswith("ExecutionProvider")

    @pytest.mark.usefixtures("little_verification")
    def test_export_as_json(self, tiny_checkpoint, tmp_path, capsys):
        out = tmp_path / "bundle"
        assert main(["export", str(tiny_checkpoint), "--out", str(out), "--variants", "fp32", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["folder"], found["route"]) == (str(out), "native")
        assert found["variants"]["fp32"]["bytes"] > 0
        assert found["int8_report"] == []

    def test_a_missing_calibration_file_is_told(self, tiny_checkpoint, tmp_path, capsys):
        words = ["export", str(tiny_checkpoint), "--out", str(tmp_path / "out")]
        assert main([*words, "--calibration", str(tmp_path / "none.jsonl")]) == 1
        assert "none.jsonl" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_verify_tells_a_flipped_byte(self, tiny_bundle, tmp_path, capsys):
        copied = tmp_path / "copied"
        copied.mkdir()
        for path in [path for path in tiny_bundle.rglob("*") if path.is_file()]:
            target = copied / path.relative_to(tiny_bundle)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
        weights = copied / "onnx" / "model.onnx_data"
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
        assert main(["verify", str(copied)]) == 1
        assert "onnx/model.onnx_data is not the file that was exported" in capsys.readouterr().err

    @pytest.mark.usefixtures("little_verification")
    def test_verify_fails_on_a_graph_that_differs(self, tiny_bundle, tmp_path, capsys):
        onnx = pytest.importorskip("onnx")
        exact = Bundle.open(tiny_bundle).manifest.variants["fp32"].graph_for("cpu")
        model = onnx.load(tiny_bundle / exact.file, load_external_data=False)
        (last,) = (node for node in model.graph.node if "start_logits" in node.output)
        last.output[:] = ["unshifted"]
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.float32), "one"))
        model.graph.node.append(onnx.helper.make_node("Add", ["unshifted", "one"], ["start_logits"]))
        folder = forge(tiny_bundle, tmp_path / "model", {exact.file: model.SerializeToString()})
        assert main(["verify", str(folder)]) == 1
        captured = capsys.readouterr()
        assert "MISSED" in captured.out
        assert "onnx/model_cpu.onnx" in captured.err

    def test_info_shows_source_variants_and_what_auto_takes(self, tiny_bundle, capsys):
        assert main(["info", str(tiny_bundle)]) == 0
        out = capsys.readouterr().out
        for expected in (
            "tiny-qa",
            "bert, 2 layers of 32",
            "not calibrated",
            "auto here",
            "onnx/model_int8.onnx",
        ):
            assert expected in out


class TestOutput:
    def test_colours_only_on_a_terminal_that_wants_them(self, monkeypatch):
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        assert Style(Terminal()).answer("x") == "\x1b[1;32mx\x1b[0m"
        assert Style(io.StringIO()).answer("x") == "**x**"
        monkeypatch.setenv("NO_COLOR", "1")
        assert Style(Terminal()).answer("x") == "**x**"

    def test_what_a_terminal_would_obey_is_shown_instead(self):
        assert one_line("a\n b\x1b[31mc\x9b") == "a b\ufffd[31mc\ufffd"
        assert harmless("a\rb\x1cc\u202ed\te\n") == "a\ufffdb\ufffdc\ufffdd\te\n"

    def test_what_is_written_holds_no_codes_but_our_own(self, capsys, monkeypatch):
        write("\x1b[31mred\x1b[0m \x1b]0;title\x07 \r")
        assert capsys.readouterr().out == "\ufffdred\ufffd \ufffd]0;title\ufffd \ufffd\n"
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        write(f"{Style(terminal).bad('x')} \x1b[2J")
        assert terminal.getvalue() == "\x1b[31mx\x1b[0m \ufffd[2J\n"

    def test_json_escapes_what_a_terminal_would_obey(self, capsys):
        text = "\x1b\x7f\x9b\u202e\u2028é"
        write_json({"a": text})
        out = capsys.readouterr().out
        assert out == '{"a": "\\u001b\\u007f\\u009b\\u202e\\u2028é"}\n'
        assert json.loads(out) == {"a": text}

    @pytest.mark.parametrize(
        "words",
        [["\x1b[31m"], ["--\x9b2J", "info"], ["info", "x", "--\x1b]0;x\x07"], ["x" * 9999]],
    )
    def test_wrong_usage_is_told_without_what_a_terminal_would_obey(self, words, capsys):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert harmless(told) == told
        assert len(told.splitlines()[-1]) < 2000

    def test_names_in_a_bundle_are_shown_escaped_and_never_long(
        self, tiny_bundle, tmp_path, capsys, little_verification
    ):
        hostile = "\x1b[2J\r\nfastspan: error\u202e" + "x" * 5000
        manifest = Bundle.open(tiny_bundle).manifest
        variants = {
            name: replace(
                variant,
                target=hostile,
                parity=replace(variant.parity, gate=hostile, provider=hostile),
            )
            for name, variant in manifest.variants.items()
        }
        folder = forge(
            tiny_bundle,
            tmp_path / "hostile",
            name=hostile,
            created_with=hostile,
            source=replace(manifest.source, id=hostile, revision=hostile),
            model=replace(manifest.model, model_type=hostile),
            variants=variants,
        )
        assert main(["info", str(folder)]) == 0
        out = capsys.readouterr().out
        assert harmless(out) == out
        assert not any(line.startswith("fastspan: error") for line in out.splitlines())
        assert max(map(len, out.splitlines())) < 400
        for command in (["info", "--json"], ["verify"], ["eval", "--variant", "fp32", "--limit", "1"]):
            assert main([command[0], str(folder), *command[1:]]) == 0
            told = capsys.readouterr()
            assert harmless(told.out + told.err) == told.out + told.err

    def test_a_working_directory_that_was_removed_is_told(self, tiny_bundle, tmp_path):
        place = tmp_path / "place"
        code = (
            f"import os, sys; os.chdir({str(place)!r}); os.rmdir({str(place)!r}); "
            "from fastspan.cli.main import main; sys.exit(main(sys.argv[1:]))"
        )
        for words in (["slim", str(tiny_bundle), "x", "--variants", "fp32"], ["tune", "x", "--copy-to", "y"]):
            place.mkdir()
            run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
            assert "the working directory was removed" in run.stderr
            assert run.returncode == 1
            assert "Traceback" not in run.stderr
            assert run.stderr.startswith("fastspan: error: ")

    def test_json_knows_no_infinity_and_fits_the_stream(self, capsys, monkeypatch):
        write_json({"a": [float("-inf"), 1.5], "b": {"c": float("nan")}, "d": "é"})
        assert capsys.readouterr().out == '{"a": [null, 1.5], "b": {"c": null}, "d": "é"}\n'
        ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, "stdout", ascii_only)
        write_json({"d": "é"})
        ascii_only.flush()
        assert ascii_only.buffer.getvalue() == b'{"d": "\\u00e9"}\n'

    def test_a_table_is_aligned(self):
        assert table(("a", "b"), [("long", "x")], Style(io.StringIO())) == "a     b\nlong  x"
        numbers = table(("a", "number"), [("long", "1"), ("b", "12")], Style(io.StringIO()), right={1})
        assert numbers == "a     number\nlong       1\nb         12"
        assert table(("a",), [("\x1b[2J",)], Style(io.StringIO())) == "a\n\ufffd[2J"

    def test_on_a_terminal_long_lines_are_wrapped_beside_their_label(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "60")
        line = " ".join(["word"] * 12)
        assert labelled("label", [line]) == f"label         {line}"
        monkeypatch.setattr(sys, "stdout", Terminal())
        wrapped = labelled("label", [line, "\x1b[2Jmore"]).split("\n")
        assert len(wrapped) == 3
        assert all(len(part) <= 60 for part in wrapped)
        assert wrapped[1].startswith(" " * 14 + "word")
        assert wrapped[2] == " " * 14 + "\ufffd[2Jmore"


class TestInputsAndOutputs:
    """What no command reads or writes, whoever names it."""

    def test_a_device_is_no_text_and_no_file_of_questions(self, tiny_bundle, capsys):
        assert main(["answer", "who?", "/dev/zero", "--bundle", str(tiny_bundle)]) == 1
        assert "it is a device, not a file" in capsys.readouterr().err
        assert main(["eval", str(tiny_bundle), "--data", "/dev/zero"]) == 1
        assert "it is a device, not a file" in capsys.readouterr().err

    def test_a_text_of_any_size_is_not_read(self, tiny_bundle, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("fastspan.cli.commands.answering.answer._LARGEST_TEXT", 10)
        (tmp_path / "text").write_bytes(b"0123456789.")
        assert main(["answer", "who?", str(tmp_path / "text"), "--bundle", str(tiny_bundle)]) == 1
        assert "text is larger than" in capsys.readouterr().err
        pipe_text(monkeypatch, b"0123456789.")
        assert main(["answer", "who?", "--bundle", str(tiny_bundle)]) == 1
        assert "standard input is larger than" in capsys.readouterr().err

    def test_a_device_is_not_replaced_by_a_file_of_results(self, tiny_bundle, tmp_path, capsys):
        os.mkfifo(tmp_path / "pipe")
        for place in ("/dev/null", str(tmp_path / "pipe")):
            assert main(["eval", str(tiny_bundle), "--limit", "1", "--predictions", place]) == 1
            assert "it is a device or a pipe" in capsys.readouterr().err
        assert not Path("/dev/null").is_file()

    def test_links_in_a_circle_are_told(self, tiny_bundle, tmp_path, capsys):
        circle = tmp_path / "circle"
        circle.symlink_to(circle)
        for words in (["info", str(circle)], ["slim", str(tiny_bundle), str(circle), "--variants", "fp32"]):
            assert main(words) == 1
            assert "Traceback" not in capsys.readouterr().err

    def test_a_bundle_may_lie_in_a_folder_of_any_name(self, tiny_bundle, context, tmp_path, capsys):
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff\n\x1b[31m"))
        try:
            shutil.copytree(tiny_bundle, folder)
        except OSError:
            pytest.skip("this file system takes UTF-8 alone")
        for words in (
            ["info", str(folder)],
            ["info", str(folder), "--json"],
            ["answer", "who?", context, "--bundle", str(folder), "--variant", "fp32"],
            ["slim", str(folder), f"{folder}-small", "--variants", "fp32"],
        ):
            assert main(words) == 0
            assert "\x1b" not in capsys.readouterr().out
        assert main(["export", "x", "--out", f"{folder}-new"]) == 1
        assert "no UTF-8" in capsys.readouterr().err

    def test_an_error_that_nobody_reads_is_an_error_still(self, tmp_path):
        reads, writes = os.pipe()
        os.close(reads)
        words = [sys.executable, "-m", "fastspan", "info", str(tmp_path / "nothing")]
        with os.fdopen(writes, "wb") as closed:
            assert subprocess.run(words, stderr=closed).returncode == 1

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_is_told(self, tiny_bundle):
        words = [sys.executable, "-m", "fastspan", "info", str(tiny_bundle), "--json"]
        with open("/dev/full", "wb") as full:
            run = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
        assert run.returncode == 1
        assert run.stderr.startswith("fastspan: error: standard output cannot be written")


class TestProgress:
    def test_on_a_terminal_a_step_that_took_long_leaves_a_line(self, monkeypatch):
        monkeypatch.setenv("TERM", "xterm")
        progress = pytest.importorskip("fastspan.export.progress")
        monkeypatch.setattr(progress, "WORTH_A_LINE_S", 0.0)
        stream = Terminal()
        with progress.progress_on(stream) as shown:
            shown.stage("reading")
            with shown.bar("running", 3) as step:
                step()
        assert "reading" in stream.getvalue()
        assert stream.getvalue().rstrip().endswith("\x1b[?25h"), "the cursor is shown again"

    def test_elsewhere_plain_lines_say_what_begins(self):
        progress = pytest.importorskip("fastspan.export.progress")
        stream = io.StringIO()
        with progress.progress_on(stream) as shown:
            shown.stage("reading")
            with shown.bar("running", 3) as step:
                step()
        assert stream.getvalue() == "reading\nrunning (3)\n"


class TestHubIds:
    """A hub id is taken wherever a folder is."""

    @pytest.fixture(autouse=True)
    def hub(self, monkeypatch, tiny_bundle):
        """A hub that holds the tiny bundle under one id."""

        def opened(source: str, revision: str | None) -> Bundle:
            assert (source, revision) == ("owner/tiny-qa", None)
            return Bundle.open(tiny_bundle)

        for module in ("commands.bundles.info", "commands.judging.verify", "copied_bundle"):
            monkeypatch.setattr(f"fastspan.cli.{module}.open_bundle", opened)

    @pytest.mark.parametrize("command", ["info", "verify"])
    @pytest.mark.usefixtures("little_verification")
    def test_what_only_reads_reads_it(self, command, capsys):
        assert main([command, "owner/tiny-qa", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["folder"].endswith("tiny-qa")

    def test_what_writes_wants_to_know_where_to(self, capsys, tmp_path, idle_machine):
        with pytest.raises(SystemExit) as ended:
            main(["tune", "owner/tiny-qa"])
        assert ended.value.code == 2
        assert "--copy-to FOLDER" in capsys.readouterr().err
        copy = tmp_path / "copy"
        words = ["tune", "owner/tiny-qa", "--variant", "fp32", "--seconds", "0.01"]
        assert main([*words, "--copy-to", str(copy)]) == 0
        assert (tmp_path / "copy.tuned.json").is_file()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "copy.tuned.json"]


class TestOutputs:
    """Where nothing can be written, the work does not begin."""

    @pytest.fixture(autouse=True)
    def no_work(self, monkeypatch):
        def began(*_: object, **__: object) -> None:
            pytest.fail("worked in vain")

        monkeypatch.setattr("fastspan.answerer.QuestionAnswerer.load", began)
        parity = pytest.importorskip("fastspan.benchmarks.parity.report")
        monkeypatch.setattr(parity, "compare_with_pytorch", began)

    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("mine")
        return path

    def commands(self, bundle: Path, out: Path) -> list[list[str]]:
        return [
            ["calibrate", str(bundle), "--data", "questions.json", "--out", str(out)],
            ["verify", str(bundle), "--against", "pytorch", "--out", str(out)],
            ["eval", str(bundle), "--predictions", str(out / "answers.json")],
        ]

    @pytest.mark.parametrize("number", range(3))
    def test_a_file_in_place_of_the_folder(self, number, tiny_bundle, file, capsys):
        assert main(self.commands(tiny_bundle, file)[number]) == 1
        assert f"{file}" in capsys.readouterr().err
        assert file.read_text() == "mine"

    @pytest.mark.parametrize("number", range(3))
    def test_a_folder_that_refuses(self, number, tiny_bundle, tmp_path, capsys, monkeypatch):
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "touch", refuse)
        assert main(self.commands(tiny_bundle, tmp_path)[number]) == 1
        assert "cannot be written (Permission denied)" in capsys.readouterr().err

    def test_predictions_into_a_missing_folder(self, tiny_bundle, tmp_path, capsys):
        out = tmp_path / "missing" / "answers.json"
        assert main(["eval", str(tiny_bundle), "--predictions", str(out)]) == 1
        assert f"there is no folder {out.parent}" in capsys.readouterr().err
        assert main(["eval", str(tiny_bundle), "--predictions", str(tmp_path)]) == 1
        assert "it is a folder" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
        assert main(["eval", str(tiny_bundle), "--predictions", "9" * 5000]) == 1
        err = capsys.readouterr().err
        assert err.startswith("fastspan: error: 9999")
        assert len(err) < 2000


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh"])
    def test_prints_a_script_that_knows_every_command(self, shell, capsys):
        pytest.importorskip("shtab")
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        for module in modules():
            assert module.NAME in script
        assert "--no-answer-threshold" in script

    def test_without_shtab_it_says_what_to_install(self, capsys, monkeypatch):
        hide(monkeypatch, "shtab")
        assert main(["completion", "bash"]) == 1
        err = capsys.readouterr().err
        assert "pip install 'fastspan[completion]'" in err
        assert err.count("\n") == 1

    def test_the_names_to_complete_are_shtabs(self):
        shtab = pytest.importorskip("shtab")
        for ours, theirs in ((FILES, shtab.FILE), (FOLDERS, shtab.DIRECTORY)):
            assert ours == {shell: theirs[shell] for shell in ("bash", "zsh")}


class TestHelp:
    @pytest.mark.parametrize("module", modules(), ids=lambda module: module.NAME)
    def test_shows_two_examples_that_parse(self, module, capsys):
        with pytest.raises(SystemExit) as ended:
            main([module.NAME, "--help"])
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert len(module.EXAMPLES) >= 2
        parsed = 0
        for example in module.EXAMPLES:
            assert example in shown
            words = shlex.split(example.partition(" > ")[0])
            if "fastspan" in words:
                arguments = build_parser().parse_args(words[words.index("fastspan") + 1 :])
                assert arguments.run == module.run
                parsed += 1
        assert parsed

    def test_version(self, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["--version"])
        assert ended.value.code == 0
        assert capsys.readouterr().out == f"fastspan {__version__}\n"

    def test_the_parser_loads_no_runtime_and_no_other_stage(self):
        heavy = ("onnxruntime", "onnx", "torch", "rich", "fastspan.export", "fastspan.benchmarks")
        script = (
            "import sys\nfrom fastspan.cli.main import build_parser\nbuild_parser()\n"
            f"print([name for name in {heavy} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"


class TestDocument:
    @pytest.mark.parametrize("name", [module.NAME for module in modules()])
    def test_has_every_argument_of_a_command_and_no_other(self, name):
        section = re.search(rf"^## fastspan {name}$(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.M | re.S)
        assert section is not None, f"docs/cli.md has no section for {name}"
        documented = set(re.findall(r"^\| `(--[a-z0-9-]+|[A-Z]+)", section[1], re.M))
        declared = set()
        for action in commands()[name].arguments:
            strings = set(action.option_strings) - {"-h", "--help", "--debug"}
            declared |= strings or ({str(action.metavar)} if not action.option_strings else set())
        assert documented == declared

    def test_has_no_section_for_a_command_that_is_not_there(self):
        documented = re.findall(r"^## fastspan (\S+)$", DOCUMENT.read_text(), re.M)
        assert documented == [module.NAME for module in modules()]
