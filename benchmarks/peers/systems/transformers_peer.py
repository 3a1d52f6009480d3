"""transformers' question-answering pipeline on PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from fastspan.benchmarks.peers.protocol import Job
from fastspan.benchmarks.peers.systems.fixed_lengths import FixedLengths
from fastspan.benchmarks.peers.systems.pipeline_peer import PipelinePeer
from fastspan.benchmarks.peers.systems.torch_cuda import require_cuda

__all__ = ["load"]


def load(job: Job) -> PipelinePeer:
    """Load the checkpoint into PyTorch, at the precision and on the device that the options name.

    Raises:
        MissingDependency: The device is ``"cuda"``, and this PyTorch cannot use it.
    """
    device, precision = job.options["device"], job.options["precision"]
    if device == "cuda":
        require_cuda()
    import torch
    import transformers

    torch.set_num_threads(job.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    network: Any = transformers.AutoModelForQuestionAnswering.from_pretrained(
        job.checkpoint, dtype=dtype, attn_implementation="sdpa"
    )
    network.eval().to(device)
    if job.options["compile"] == "dynamic":
        network.forward = torch.compile(network.forward, dynamic=True)
    elif job.options["compile"] == "cuda-graphs":
        # PyTorch captures one graph a shape, so there must be few.
        torch._dynamo.config.cache_size_limit = 64
        captured = torch.compile(network.forward, mode="reduce-overhead", dynamic=False)
        network.forward = FixedLengths(captured)
    if precision == "fp16":
        network.forward = _with_single_logits(network.forward)
    pipe = transformers.pipeline(
        "question-answering",
        model=network,
        tokenizer=transformers.AutoTokenizer.from_pretrained(job.checkpoint),
        device=torch.device(device),
    )
    description = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "attention": "sdpa",
        "threads": str(torch.get_num_threads()),
    }
    return PipelinePeer(pipe, description, (1, 8) if device == "cpu" else (1, 32, 128))


def _with_single_logits(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The forward pass with logits in fp32: the pipeline decodes in numpy, slowly in half precision."""

    @wraps(forward)
    def run(*arguments: Any, **named: Any) -> Any:
        output = forward(*arguments, **named)
        for name in ("start_logits", "end_logits"):
            output[name] = output[name].float()
        return output

    return run
