"""The GPU's part of the report, from a made-up measurement, and the FLOPs it rests on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from support.recorded_speed import MODEL, write_recorded

pytest.importorskip("matplotlib")

from fastspan.benchmarks.peers.catalogue import gpu_peers
from fastspan.benchmarks.speed.models.measured import SpeedModel
from fastspan.benchmarks.speed.samples import Measured
from fastspan.benchmarks.speed_report.gpu import half_peak
from fastspan.benchmarks.speed_report.report import write_hardware_report


@pytest.fixture
def on_gpu(tmp_path):
    """A measurement on an H200, in half precision."""

    def write(gpu):
        peers = (
            ("FastSpan", "fp16 CUDA", "latency", 1.0),
            ("FastSpan", "fp16 CUDA", "throughput", 0.5),
            ("transformers", "fp16", "latency", 4.0),
            ("transformers", "fp32", "latency", 6.0),
        )
        folder = write_recorded(tmp_path / "speed", device="gpu", systems=peers)
        record = Measured.read(folder, "gpu").record
        replace(record, environment={**record.environment, "GPU": gpu}, peaks={}).write(folder)
        return write_hardware_report(folder, price_per_hour=1.0)[0].read_text(encoding="utf-8")

    return write


def test_mfu_is_flops_over_time_over_peak(on_gpu):
    text = on_gpu("NVIDIA H200, 570.10")
    assert "989 Tflop/s in fp16" in text
    start = f"| FastSpan fp16 CUDA | {MODEL} | single-128 | "
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    speed, share = re.findall(r"[\d.]+", line.removeprefix(start))
    # 128 tokens at 2.2e7 each, in about a millisecond.
    assert float(speed) == pytest.approx(2.8, rel=0.2)
    assert float(share) == pytest.approx(100 * float(speed) / 989, abs=0.01)
    assert not re.search(rf"\| transformers fp32 \| {MODEL} \| single-128 \| [\d.]+ \| [\d.]+% \|", text)


def test_like_is_compared_with_like(on_gpu):
    text = on_gpu("NVIDIA H200, 570.10")
    (line,) = [
        line for line in text.splitlines() if line.startswith("| transformers fp16 | FastSpan fp16 CUDA |")
    ]
    assert re.search(r"\| [34]\.\d+×", line)


def test_an_unknown_gpu_has_no_share(on_gpu):
    text = on_gpu("NVIDIA Z9, 999.1")
    assert "The fp16 peak of NVIDIA Z9, 999.1 is not known" in text
    assert re.search(rf"FastSpan fp16 CUDA \| {MODEL} \| single-128 \| [\d.]+ \| – \|", text)


def test_without_a_gpu_nothing_is_said_of_its_peak(tmp_path):
    folder = write_recorded(tmp_path / "speed")
    assert "MFU" not in write_hardware_report(folder, price_per_hour=1.0)[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200, 570.86.15", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10G", 70e12),
        ("Tesla T4", 65e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA T400", None),
        ("none", None),
        ("", None),
    ],
)
def test_a_peak_belongs_to_exactly_its_gpu(name, peak):
    assert half_peak(name) == peak


@pytest.mark.reference
@pytest.mark.parametrize("length", [1, 30, 64])
def test_flops_are_those_that_pytorch_counts(tmp_path, length):
    import torch
    import transformers
    from torch.utils.flop_counter import FlopCounterMode

    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80
    )
    config._attn_implementation = "eager"
    network = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.ones((1, length), dtype=torch.int64))
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    model = SpeedModel(name="x", title="x", checkpoint=tmp_path, bundle=Path(), cache=Path(), trained=False)
    assert model.flops([length]) == counter.get_total_flops()


def test_pytorch_is_measured_at_its_best_on_a_gpu():
    specs = gpu_peers(("CUDAExecutionProvider", "CPUExecutionProvider"), quick=False)
    names = [spec.name for spec in specs]
    assert len(names) == len(set(names))
    assert {
        "FastSpan fp16 CUDA",
        "FastSpan fp16 CUDA, throughput",
        "transformers fp16",
        "transformers fp16 compiled",
        "transformers fp16 CUDA graphs",
        "optimum fp16",
    } <= set(names)
    assert not any("Tensorrt" in name for name in names)
    assert all(spec.options["device"] == "cuda" for spec in specs if spec.system != "FastSpan")


@pytest.mark.reference
def test_a_model_of_fixed_lengths_is_padded_and_its_logits_cut_back():
    import torch

    from fastspan.benchmarks.peers.systems.fixed_lengths import STEP, FixedLengths

    seen = []

    def forward(input_ids, attention_mask, token_type_ids):
        seen.append(tuple(input_ids.shape))
        assert input_ids.shape == attention_mask.shape == token_type_ids.shape
        assert not attention_mask[:, length:].any()
        return {"start_logits": input_ids.float(), "end_logits": -input_ids.float()}

    for length in (1, STEP, STEP + 1):
        ids = torch.arange(2 * length).reshape(2, length)
        found = FixedLengths(forward)(ids, torch.ones_like(ids), torch.zeros_like(ids))
        assert torch.equal(found["start_logits"], ids.float())
        assert torch.equal(found["end_logits"], -ids.float())
    assert seen == [(2, STEP), (2, STEP), (2, 2 * STEP)]
