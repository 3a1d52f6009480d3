from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.paths import ROOT

pytest.importorskip("psutil")

from fastspan.benchmarks.peers import catalogue, environments
from fastspan.benchmarks.peers.catalogue import OURS, PeerSpec, cpu_peers, gpu_peers
from fastspan.benchmarks.peers.environments import interpreter
from fastspan.benchmarks.peers.protocol import Job, Staged
from fastspan.benchmarks.peers.systems import fastspan_peer, optimum_peer, transformers_peer
from fastspan.benchmarks.peers.systems.batch_choice import fastest_batch
from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.questions.workloads import Workload
from fastspan.benchmarks.speed.interleaving import Schedule
from fastspan.benchmarks.speed.measurement import Measurement, Plan
from fastspan.benchmarks.speed.models.measured import SpeedModel
from fastspan.benchmarks.speed.models.random_checkpoint import Geometry, random_checkpoint
from fastspan.benchmarks.speed.subjects import asked_peers
from fastspan.errors import InputError, MissingDependency
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.graphs.families import describe
from fastspan.machine.cpu import CpuFeatures
from fastspan.machine.cuda_libraries import why_tensorrt_fails
from fastspan.stages import pairs
from support.packages import put_in_place_of

PEERS = Path(catalogue.__file__).parent
MINILM = ROOT / "models" / "minilm-l6-squad2"
QUESTIONS = [q for q in open_data(None).questions if not q.is_impossible][:3]
WORKLOAD = Workload(
    name="throughput",
    title="three questions",
    group="batch",
    pairs=tuple((q.question, q.context) for q in QUESTIONS),
    tokens=(100,) * 3,
)
ANY_CPU = CpuFeatures("x86_64", frozenset({"avx2"}))
PROVIDERS = ("AzureExecutionProvider", "CPUExecutionProvider")


def test_every_peer_has_its_module_and_its_environment():
    specs = [*cpu_peers(ANY_CPU, PROVIDERS, quick=False), *gpu_peers(("CUDAExecutionProvider",), quick=False)]
    assert {spec.system for spec in specs} == {OURS, "transformers", "optimum", "Haystack", "OpenVINO"}
    for spec in specs:
        assert importlib.util.find_spec(f"fastspan.benchmarks.peers.systems.{spec.module}")
        if spec.environment != "project":
            assert (PEERS / f"requirements-{spec.environment}.txt").is_file()
    names = [spec.name for spec in cpu_peers(ANY_CPU, PROVIDERS, quick=False)]
    assert len(names) == len(set(names))


def test_what_quick_mode_leaves_out_says_why():
    full = {spec.name: spec for spec in cpu_peers(ANY_CPU, PROVIDERS, quick=False)}
    quick = {spec.name: spec for spec in cpu_peers(ANY_CPU, PROVIDERS, quick=True)}
    assert full.keys() == quick.keys()
    assert {name for name, spec in full.items() if spec.absent} == {
        "FastSpan fp32 Azure",
        "OpenVINO bf16, throughput",
    }
    assert full["transformers bf16"].groups == full["OpenVINO bf16"].groups == ("single",)
    assert full["transformers fp32"].groups == ("single", "batch")
    assert "make bench-full" in (quick["Haystack fp32"].absent or "")
    assert "make bench-full" in (quick["optimum fp32"].absent or "")
    assert "no bf16" in (quick["transformers bf16"].absent or "")
    modern = CpuFeatures("x86_64", frozenset({"avx512_vnni", "avx512_bf16"}))
    served = {spec.name: spec for spec in cpu_peers(modern, PROVIDERS, quick=True)}
    assert served["transformers bf16"].absent is None
    assert served["transformers bf16"].groups == ("single", "batch")
    assert served["OpenVINO bf16, throughput"].absent is None
    assert "optimum int8 avx512_vnni" in served


def test_a_peer_that_no_workload_asks_is_left_out_with_the_reason():
    specs = {spec.name: spec for spec in cpu_peers(ANY_CPU, PROVIDERS, quick=False)}
    single, batch = (
        Workload(name=group, title=group, group=group, pairs=(("Who?", "Ada."),), tokens=(7,))
        for group in ("single", "batch")
    )
    for workloads, left_out in (
        ([single], "FastSpan fp32, throughput"),
        ([batch], "transformers bf16"),
        ([single, batch], None),
    ):
        found = asked_peers(list(specs.values()), workloads)
        assert [spec.name for spec in found] == list(specs)
        unasked = [spec.name for spec in found if spec.absent == "no workload of this run is for it"]
        assert (left_out in unasked) if left_out else not unasked
        assert all(spec.absent == specs[spec.name].absent for spec in found if spec.name not in unasked)


def test_tensorrt_is_measured_only_where_its_libraries_load():
    providers = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    loaded = []

    def load(file):
        loaded.append(file)
        return None if "onnxparser" in file else object()

    def peers(load):
        return gpu_peers(providers, quick=False, why_no_tensorrt=lambda: why_tensorrt_fails(load=load))

    specs = {spec.name: spec.absent for spec in peers(load)}
    assert len(loaded) == 3
    assert {name for name, absent in specs.items() if absent} == {
        f"FastSpan {precision} Tensorrt{mode}"
        for precision in ("fp16", "fp32")
        for mode in ("", ", throughput")
    }
    assert re.search(r"nvonnxparser.*10.* did not load.*'tensorrt<11'", specs["FastSpan fp16 Tensorrt"])
    assert not any(spec.absent for spec in peers(lambda file: object()))


@pytest.mark.parametrize(
    ("built_for", "why"), [(None, "is a build without CUDA"), ("13.0", "its CUDA 13.0 finds no GPU")]
)
@pytest.mark.parametrize("peer", [transformers_peer, optimum_peer])
def test_a_torch_that_cannot_use_the_gpu_says_so_before_any_work(
    tiny_bundle, monkeypatch, peer, built_for, why
):
    torch = SimpleNamespace(
        __version__="2.13.0+cpu",
        version=SimpleNamespace(cuda=built_for),
        cuda=SimpleNamespace(is_available=lambda: False),
    )
    put_in_place_of(monkeypatch, "torch", torch)
    options = {"device": "cuda", "precision": "fp16", "compile": "", "int8": "", "half": True}
    job = Job(checkpoint=tiny_bundle, bundle=tiny_bundle, cache=tiny_bundle / "c", threads=1, options=options)
    with pytest.raises(
        MissingDependency, match=rf"torch 2\.13\.0\+cpu cannot run.*{why}.*pip install.*torch==2\.13\.0 "
    ):
        peer.load(job)
    assert not job.cache.exists()


class Installer:
    """Stands in for pip."""

    def __init__(self, fails=False):
        self.commands = []
        self.fails = fails

    def __call__(self, command):
        self.commands.append(command)
        if self.fails:
            raise subprocess.SubprocessError("ERROR: no such version")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    def create(home, **_):
        python = Path(home) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        python.parent.mkdir(parents=True)
        python.touch()

    monkeypatch.setattr(environments.venv, "create", create)
    (tmp_path / "requirements-x.txt").write_text("x==1\n")
    return tmp_path


def test_an_environment_is_installed_once_and_again_when_its_requirements_change(folder):
    pip = Installer()
    python = interpreter("x", folder=folder, run=pip)
    assert Path(python).parent.parent == folder / ".venv-x"
    assert [command[0] for command in pip.commands] == [python, python]
    interpreter("x", folder=folder, run=pip)
    assert len(pip.commands) == 2
    (folder / "requirements-x.txt").write_text("x==2\n")
    interpreter("x", folder=folder, run=pip)
    assert len(pip.commands) == 4


def test_an_environment_that_cannot_be_installed_is_missing_and_tried_again(folder):
    with pytest.raises(MissingDependency, match="'x' cannot be installed: ERROR: no such version"):
        interpreter("x", folder=folder, run=Installer(fails=True))
    pip = Installer()
    interpreter("x", folder=folder, run=pip)
    assert pip.commands
    with pytest.raises(MissingDependency, match=r"requirements-y\.txt"):
        interpreter("y", folder=folder, run=pip)


def fastspan_job(bundle, mode="latency"):
    options = {"variant": "fp32", "provider": "CPUExecutionProvider", "optimize_for": mode}
    return Job(checkpoint=bundle, bundle=bundle, cache=bundle / "cache", threads=1, options=options)


def test_a_job_survives_its_message(tiny_bundle):
    job = fastspan_job(tiny_bundle)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_fastspan_says_where_its_time_goes_and_is_left_as_it_was(tiny_bundle, mode):
    peer = fastspan_peer.load(fastspan_job(tiny_bundle, mode))
    assert isinstance(peer, Staged)
    answers = peer.run(WORKLOAD)
    decode, answerer = pairs.decode_squad, dict(vars(peer._answerer))
    stages = peer.stages(WORKLOAD, 2)
    assert set(stages) == {"encode", "plan", "run", "decode", "other"}
    assert all(seconds > 0 for stage, seconds in stages.items() if stage != "other")
    assert pairs.decode_squad is decode
    assert vars(peer._answerer) == answerer
    assert peer.run(WORKLOAD) == answers


def test_a_measurement_notes_what_was_measured_missing_and_failed(
    tiny_checkpoint, tiny_bundle, tmp_path, monkeypatch
):
    def only_project(name):
        if name != "project":
            raise MissingDependency(f"{name} cannot be installed")
        return sys.executable

    model = SpeedModel(
        name="tiny",
        title="",
        checkpoint=tiny_checkpoint,
        bundle=tiny_bundle,
        cache=tmp_path / "c",
        trained=True,
    )
    ours = {"variant": "fp32", "provider": "CPUExecutionProvider", "optimize_for": "latency"}
    specs = [
        PeerSpec(system=OURS, variant="fp32", module="fastspan_peer", options=ours),
        PeerSpec(system=OURS, variant="none", module="fastspan_peer", options={**ours, "variant": "none"}),
        PeerSpec(system="OpenVINO", variant="fp32", module="openvino_peer", environment="openvino"),
        PeerSpec(system="Haystack", variant="fp32", module="haystack_peer", absent="too large"),
    ]
    turns = []
    measurement = Measurement(
        model,
        Plan(schedule=Schedule(least=2, most=2, seconds=0), threads=1),
        record=lambda workload, turn: turns.append((workload, turn.peer)),
        say=lambda text: None,
        folder=tmp_path,
        interpreter=only_project,
    )
    try:
        measurement.start(specs)
        measurement.run(WORKLOAD)
        measurement.score(WORKLOAD, QUESTIONS)
    finally:
        measurement.close()
    assert turns == [("throughput", "FastSpan fp32")] * 2
    measured, failed, missing, left_out = measurement.peers.values()
    assert [p.status for p in measurement.peers.values()] == ["measured", "failed", "missing", "left out"]
    assert (missing.reason, left_out.reason) == ("openvino cannot be installed", "too large")
    assert "no variant 'none'" in failed.reason
    assert measurement.failures == [f"tiny: {failed.reason}"]
    assert measured.memory_bytes > 10_000_000
    assert 10_000 < measured.graph_bytes < 10_000_000
    assert measured.accuracy is not None
    assert measured.accuracy.questions == 3
    assert measured.stages["throughput"]["run"] > 0
    assert measured.start_seconds > measured.load_seconds > 0


def test_the_batch_size_whose_better_time_is_least_is_taken():
    seen, now = [], [0.0]
    # The first run of each is slow, and one later run of the faster one is disturbed.
    taken = iter([99, 99, 3, 2, 50, 3])

    def run(size):
        seen.append(size)
        now[0] += next(taken)

    assert fastest_batch((1, 8), run, clock=lambda: now[0]) == 8
    assert seen == [1, 8, 1, 8, 8, 1]
    assert fastest_batch((4,), pytest.fail) == 4


GEOMETRY = Geometry(vocabulary=2000, hidden=24, layers=2, heads=4, inner=48, positions=64)


def test_a_random_checkpoint_is_one_the_exporter_reads(tmp_path):
    if not (MINILM / "tokenizer.json").is_file():
        pytest.skip("needs the tokenizer in models/minilm-l6-squad2")
    folder = random_checkpoint(tmp_path / "random", GEOMETRY, MINILM)
    checkpoint = read_checkpoint(folder)
    encoder = describe(checkpoint.config, checkpoint.weights)
    assert (encoder.words.shape, len(encoder.layers), encoder.max_positions) == ((2000, 24), 2, 64)
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(2000))
    written = (folder / "model.safetensors").stat().st_mtime_ns
    random_checkpoint(folder, GEOMETRY, MINILM)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_a_tokenizer_that_is_too_small_leaves_nothing_behind(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_text('{"model": {"type": "WordPiece", "vocab": {}}}')
    with pytest.raises(InputError, match="2000 pieces"):
        random_checkpoint(tmp_path / "random", GEOMETRY, tmp_path / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_operations_are_counted(tmp_path):
    config = {"hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = SpeedModel(name="", title="", checkpoint=tmp_path, bundle=tmp_path, cache=tmp_path, trained=False)
    # A layer: 4·2² + 2·2·3 = 28 weights a token, and 2·n²·2 for attention; twice that in operations.
    assert model.flops([7]) == 2 * 5 * (7 * 28 + 2 * 7 * 7 * 2)
    assert model.flops([7, 7]) == 2 * model.flops([7])
