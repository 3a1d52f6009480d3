"""The study of memory: processes of their own with ONNX Runtime's choices undone, and the page about them."""

from __future__ import annotations

import json
import os

import onnxruntime
import pytest

from fastspan.benchmarks.studies.memory import Memory, main, measured, memory_table
from fastspan.benchmarks.studies.memory_worker import MeasuredSession
from fastspan.errors import InputError

FP32 = [("fp32", "fp32", False)]


def job(folder, **changes):
    asked = {"bundle": str(folder), "threads": 1, "variant": "fp32", "kernels": False}
    return {**asked, "arena": True, "patterns": True, **changes}


@pytest.mark.parametrize(("arena", "patterns"), [(True, True), (False, True), (True, False)])
def test_the_session_has_the_choices_that_were_asked_for(tiny_bundle, monkeypatch, arena, patterns):
    seen = []
    real = onnxruntime.InferenceSession

    def recording(model, options, **more):
        seen.append((options.enable_cpu_mem_arena, options.enable_mem_pattern))
        return real(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", recording)
    MeasuredSession().reply({"do": "load", "job": job(tiny_bundle, arena=arena, patterns=patterns)})
    assert seen == [(arena, patterns)]


def test_a_session_answers_the_same_questions_in_every_process(tiny_bundle, monkeypatch):
    asked = []
    for _ in range(2):
        session = MeasuredSession()
        session.reply({"do": "load", "job": job(tiny_bundle)})
        texts = []
        monkeypatch.setattr(session, "_answer", texts.append)
        reply = session.reply({"do": "run", "times": 30})
        assert len(reply["seconds"]) == 30
        assert reply["resident"] > 10_000_000
        asked.append(texts)
    assert asked[0] == asked[1]
    assert len({len(context) for _, context in asked[0]}) > 10
    with pytest.raises(ValueError, match="no request"):
        session.reply({"do": "sing"})


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="peers are stopped with POSIX signals")
def test_every_process_is_asked_as_often(tiny_bundle):
    found = measured(tiny_bundle, requests=25, threads=1, graphs=FP32)
    assert [(each.arena, each.patterns) for each in found] == [
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    ]
    for each in found:
        assert each.requests == 25
        assert each.peak >= each.end > 10_000_000
        assert each.warm > 10_000_000
        assert each.seconds > 0
    with pytest.raises(InputError, match="at least 1"):
        measured(tiny_bundle, requests=0, threads=1)


@pytest.mark.usefixtures("without_kernels")
def test_the_page_and_the_record(tiny_bundle, tmp_path, capsys):
    one = Memory(
        graph="fp32",
        arena=True,
        patterns=False,
        requests=1000,
        warm=200_000_000,
        end=204_000_000,
        peak=250_000_000,
        seconds=0.0123,
    )
    asked = {}

    def made_up(folder, **options):
        asked.update(folder=folder, **options)
        return [one]

    assert memory_table([one]).rows == [("fp32", "on", "off", "200", "204", "+2.0%", "250", "12.30")]
    command = [str(tiny_bundle), "--requests", "1000", "--threads", "1", "--out", str(tmp_path)]
    assert main(command, measure=made_up) == 0
    assert [graph[0] for graph in asked["graphs"]] == ["fp32", "int8, plain"]
    page = tmp_path / "memory.md"
    assert capsys.readouterr().out.strip() == str(page)
    assert "1,000 questions of random lengths" in page.read_text(encoding="utf-8")
    record = json.loads((tmp_path / "memory.json").read_text(encoding="utf-8"))
    assert record["processes"][0]["end"] == 204_000_000
    assert main([str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "error: " in capsys.readouterr().err
