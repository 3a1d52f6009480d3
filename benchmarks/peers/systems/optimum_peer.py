"""optimum's ONNX Runtime model in transformers' pipeline: fp32, fp16 on CUDA, or quantized by optimum."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Any

from fastspan.benchmarks.peers.protocol import Job
from fastspan.benchmarks.peers.systems.pipeline_peer import PipelinePeer
from fastspan.benchmarks.peers.systems.torch_cuda import require_cuda

__all__ = ["load"]


def load(job: Job) -> PipelinePeer:
    """Load the model, exported and, where asked for, quantized the first time.

    Raises:
        MissingDependency: The device is ``"cuda"``, and PyTorch, which holds the tensors, cannot use it.
    """
    on_gpu = job.options["device"] == "cuda"
    if on_gpu:
        require_cuda()
    import onnxruntime
    import optimum.version
    import transformers
    from optimum.onnxruntime import ORTModelForQuestionAnswering
    from optimum.pipelines import pipeline

    if on_gpu:
        # Before the first session: halving makes one on the GPU too.
        onnxruntime.preload_dlls()
    folder = _exported(job)
    recipe = job.options["int8"]
    if recipe:
        folder = _quantized(folder, job.cache / f"optimum-{recipe}", recipe)
    if job.options["half"]:
        folder = _halved(folder, job.cache / "optimum-fp16")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = job.threads
    model: Any = ORTModelForQuestionAnswering.from_pretrained(
        folder,
        session_options=settings,
        provider="CUDAExecutionProvider" if on_gpu else "CPUExecutionProvider",
    )
    pipe = pipeline(
        "question-answering",
        model=model,
        tokenizer=transformers.AutoTokenizer.from_pretrained(job.checkpoint),
        accelerator="ort",
        device=job.options["device"],
    )
    description = {
        "optimum": optimum.version.__version__,
        "transformers": transformers.__version__,
        "onnxruntime": onnxruntime.__version__,
        "providers": ", ".join(model.providers),
        "graph": "".join(path.name for path in folder.glob("*.onnx")),
        "threads": str(job.threads),
    }
    return PipelinePeer(pipe, description, (1, 32, 128) if on_gpu else (1, 8))


def _exported(job: Job) -> Path:
    from optimum.onnxruntime import ORTModelForQuestionAnswering

    folder = job.cache / "optimum-fp32"
    if not folder.is_dir():
        model = ORTModelForQuestionAnswering.from_pretrained(job.checkpoint, export=True)
        draft = _draft(folder)
        model.save_pretrained(draft)
        draft.rename(folder)
    return folder


def _quantized(source: Path, folder: Path, recipe: str) -> Path:
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    if not folder.is_dir():
        draft = _draft(folder)
        quantizer = ORTQuantizer.from_pretrained(source)
        # Dynamic scales, one a channel: what optimum's own guide recommends for transformers on CPUs.
        configuration = getattr(AutoQuantizationConfig, recipe)(is_static=False, per_channel=True)
        quantizer.quantize(quantization_config=configuration, save_dir=draft)
        shutil.copyfile(source / "config.json", draft / "config.json")
        draft.rename(folder)
    return folder


def _halved(source: Path, folder: Path) -> Path:
    from optimum.onnxruntime import ORTOptimizer
    from optimum.onnxruntime.configuration import AutoOptimizationConfig

    if not folder.is_dir():
        draft = _draft(folder)
        # O4 is what optimum's guide recommends on GPUs: every fusion, tanh for the Gelu, fp16.
        ORTOptimizer.from_pretrained(source).optimize(
            save_dir=draft, optimization_config=AutoOptimizationConfig.O4()
        )
        shutil.copyfile(source / "config.json", draft / "config.json")
        draft.rename(folder)
    return folder


def _draft(folder: Path) -> Path:
    draft = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    draft.mkdir(parents=True)
    return draft
