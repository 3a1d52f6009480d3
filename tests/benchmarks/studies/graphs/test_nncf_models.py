"""What the process in OpenVINO's environment does by itself, with stand-ins for OpenVINO's graphs."""

from __future__ import annotations

import numpy as np

from fastspan.benchmarks.studies.graphs.nncf_models import _groups, _linear_layers, _timed
from fastspan.bundle.folder import Bundle
from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder


class Node:
    def __init__(self, kind, name, *sources):
        self.kind, self.name, self.sources = kind, name, sources

    def get_type_name(self):
        return self.kind

    def get_friendly_name(self):
        return self.name

    def get_input_size(self):
        return len(self.sources)

    def input_value(self, place):
        return Value(self.sources[place])


class Value:
    def __init__(self, node):
        self.get_node = lambda: node


class Model:
    def __init__(self, *nodes):
        self.get_ops = lambda: nodes


def test_a_layer_is_quantized_where_its_input_comes_rounded():
    given = Node("Parameter", "input_ids")
    rounded = Node("FakeQuantize", "rounded", given)
    weight = Node("Constant", "weight")
    rounded_weight = Node("FakeQuantize", "weight/rounded", Node("Convert", "to fp32", weight))
    quantized = Node("MatMul", "quantized", rounded, rounded_weight)
    kept = Node("MatMul", "kept", given, weight)
    scores = Node("MatMul", "query by key", rounded, given)
    assert _linear_layers(Model(given, quantized, kept, scores)) == {"quantized": True, "kept": False}


def test_query_key_and_value_stay_together():
    names = [f"layer.{n}.attention.{part}/X" for n in (0, 1) for part in ("query", "key", "value")]
    groups = _groups([*names, "layer.0.attention_output/X", "head/X"])
    assert groups == [tuple(names[:3]), tuple(names[3:]), ("layer.0.attention_output/X",), ("head/X",)]


class Runner:
    inputs = frozenset({"input_ids", "attention_mask"})

    def __init__(self):
        self.runs = []

    def run(self, given):
        assert set(given) == self.inputs
        self.runs.append(given["input_ids"].shape)


def test_models_run_the_same_windows_in_turns(tiny_bundle):
    encoder = Encoder.of_bundle(Bundle.open(tiny_bundle))
    pairs = encoder.encode(["who built it"] * 3, ["the stone bridge"] * 3, AnswerOptions())
    runners = {"fp32": Runner(), "int8": Runner()}
    taken = _timed(runners, pairs, rounds=4)
    assert runners["fp32"].runs == runners["int8"].runs
    assert len(runners["int8"].runs) == 5 * (1 + 3), "a round for the caches, a run before each turn"
    for rounds in taken.values():
        assert list(rounds) == [0, 1, 2, 3]
        assert all(np.isfinite(seconds) and seconds > 0 for (seconds,) in rounds.values())
