"""Whether PyTorch runs on this machine's GPU."""

from __future__ import annotations

import sys

from fastspan.errors import MissingDependency

__all__ = ["require_cuda"]


def require_cuda() -> None:
    """Refuse a PyTorch that cannot use the GPU, before a peer has done any work.

    Raises:
        MissingDependency: It is a build without CUDA, or its CUDA finds no driver that runs it, or no GPU.
    """
    import torch

    if torch.cuda.is_available():
        return
    built_for = torch.version.cuda
    why = f"its CUDA {built_for} finds no GPU that it can use" if built_for else "it is a build without CUDA"
    version = str(torch.__version__).split("+")[0]
    raise MissingDependency(
        f"torch {torch.__version__} cannot run on the GPU, {why}: put a build for a CUDA version that the "
        f"driver runs (`nvidia-smi` names the newest) into this peer's environment, with {sys.executable} -m "
        f"pip install --force-reinstall torch=={version} --index-url INDEX. Each CUDA version has an INDEX "
        "of its own, see https://pytorch.org/get-started/locally."
    )
