from __future__ import annotations

from dataclasses import replace

import pytest

from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.questions.workloads import load_workload, make_workloads, save_workload, spread
from fastspan.bundle.folder import Bundle
from fastspan.errors import DataError
from fastspan.text.encoder import Encoder


@pytest.fixture(scope="module")
def encoder(bundled_bundle):
    model = Bundle.open(bundled_bundle).manifest.model
    return Encoder.from_folder(
        bundled_bundle, segment_ids=model.segment_ids, max_positions=model.max_positions
    )


@pytest.fixture(scope="module")
def workloads(encoder):
    questions = open_data(None).questions
    made = make_workloads(encoder, questions, throughput=spread(questions, 30))
    return {workload.name: workload for workload in made}


@pytest.mark.parametrize("tokens", [32, 128, 384])
def test_a_single_question_has_exactly_the_tokens_it_says(workloads, tokens):
    workload = workloads[f"single-{tokens}"]
    assert (workload.tokens, workload.group) == ((tokens,), "single")


def test_the_long_passage_has_twenty_full_windows(workloads):
    assert workloads["passage-20-windows"].tokens == (384,) * 20


def test_fifty_questions_share_one_passage(workloads):
    pairs = workloads["50-questions"].pairs
    assert len(pairs) == len({question for question, _ in pairs}) == 50
    assert len({context for _, context in pairs}) == 1


def test_throughput_asks_what_it_was_given(workloads):
    workload = workloads["throughput"]
    assert workload.questions == 30
    assert len(set(workload.tokens)) > 10


def test_questions_are_spread_over_the_whole_set():
    questions = open_data(None).questions
    chosen = spread(questions, 10)
    assert len(chosen) == 10
    assert questions.index(chosen[-1]) > 0.8 * len(questions)
    assert spread(questions, 10**6) == list(questions)


def test_a_workload_survives_its_file(workloads, tmp_path):
    for workload in workloads.values():
        save_workload(workload, tmp_path / "workload.json")
        assert load_workload(tmp_path / "workload.json") == workload


def test_a_set_that_is_too_short_is_refused(encoder):
    question = replace(open_data(None).questions[0], context="Short.")
    with pytest.raises(DataError, match="larger set"):
        make_workloads(encoder, [question], throughput=[question])
    with pytest.raises(DataError, match="no questions"):
        make_workloads(encoder, [], throughput=[])
