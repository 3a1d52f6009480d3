"""Each ``config.pbtxt`` is read as Triton's server reads it, by the messages that its client comes with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastspan.hosting.package import package

pytest.importorskip("tritonclient.grpc")
text_format = pytest.importorskip("google.protobuf.text_format")
model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2")


@pytest.fixture(scope="module")
def configs(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name of a model → its configuration; a field that Triton does not know is an error."""
    models = package(tiny_bundle, tmp_path_factory.mktemp("triton") / "out", "triton").folder / "models"
    return {
        folder.name: text_format.Parse((folder / "config.pbtxt").read_text(), model_config.ModelConfig())
        for folder in models.iterdir()
    }


def tensors(declared: Any) -> dict[str, tuple[int, list[int]]]:
    return {each.name: (each.data_type, list(each.dims)) for each in declared}


def test_there_is_an_ensemble_of_three(configs: dict[str, Any]) -> None:
    assert set(configs) == {"tiny-qa", "tiny-qa-encode", "tiny-qa-graph", "tiny-qa-decode"}
    for name, config in configs.items():
        assert config.name == name
    assert configs["tiny-qa"].platform == "ensemble"
    assert configs["tiny-qa-graph"].backend == "onnxruntime"
    assert {configs[f"tiny-qa-{part}"].backend for part in ("encode", "decode")} == {"python"}


def test_windows_of_several_requests_share_a_run(configs: dict[str, Any]) -> None:
    graph = configs["tiny-qa-graph"]
    assert graph.max_batch_size == 64
    assert graph.HasField("dynamic_batching")
    assert graph.dynamic_batching.max_queue_delay_microseconds > 0
    assert graph.dynamic_batching.default_queue_policy.max_queue_size > 0


def test_each_step_gives_what_the_next_one_takes(configs: dict[str, Any]) -> None:
    """As Triton checks it: a tensor's type and full shape are alike on both its ends."""
    ensemble = configs["tiny-qa"]
    known = tensors(ensemble.input)
    for step in ensemble.ensemble_scheduling.step:
        model = configs[step.model_name]
        batch = [-1] if model.max_batch_size else []
        inputs, outputs = tensors(model.input), tensors(model.output)
        assert set(step.input_map) == set(inputs)
        assert set(step.output_map) == set(outputs)
        for name, tensor in step.input_map.items():
            kind, dims = inputs[name]
            assert known[tensor] == (kind, [*batch, *dims]), (step.model_name, name)
        for name, tensor in step.output_map.items():
            kind, dims = outputs[name]
            known[tensor] = kind, [*batch, *dims]
    for name, declared in tensors(ensemble.output).items():
        assert known[name] == declared


def test_the_graph_is_what_its_configuration_says(
    tiny_bundle: Path, tmp_path: Path, configs: dict[str, Any]
) -> None:
    import onnxruntime

    out = package(tiny_bundle, tmp_path / "out", "triton").folder
    session = onnxruntime.InferenceSession(str(out / "models" / "tiny-qa-graph" / "1" / "model.onnx"))
    graph = configs["tiny-qa-graph"]
    kinds = {"tensor(int64)": model_config.TYPE_INT64, "tensor(float)": model_config.TYPE_FP32}
    for theirs, ours in ((session.get_inputs(), graph.input), (session.get_outputs(), graph.output)):
        declared = tensors(ours)
        assert {each.name for each in theirs} == set(declared)
        for each in theirs:
            assert kinds[each.type] == declared[each.name][0]
            # The batch stands before what the configuration says.
            assert len(each.shape) == 1 + len(declared[each.name][1])
