"""Devices as PyTorch names them, and the options that load a bundle there."""

from __future__ import annotations

import re
from typing import Any

from fastspan.errors import InputError
from fastspan.options import shown

__all__ = ["load_options_for"]


def load_options_for(device: object) -> dict[str, Any]:
    """Return the fields of ``LoadOptions`` that put a bundle on a device.

    Args:
        device: None or ``"auto"``: whichever suits. ``-1`` or ``"cpu"``: the CPU. A number from 0 on,
            ``"cuda"`` or ``"cuda:1"``: an NVIDIA GPU. Or an object that prints as one of these strings, such
            as ``torch.device``.

    Raises:
        InputError: It is no such device.
    """
    if isinstance(device, bool) or (isinstance(device, int) and device < -1):
        raise _unknown(device)
    if isinstance(device, int):
        name = "cpu" if device == -1 else f"cuda:{device}"
    else:
        name = "auto" if device is None else str(device)
    if name in ("auto", "cpu"):
        return {"provider": name}
    found = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not found:
        raise _unknown(device)
    return {"provider": "cuda", "provider_options": {"device_id": found[1] or "0"}}


def _unknown(device: object) -> InputError:
    return InputError(
        f"device must be None, 'cpu', 'cuda', 'cuda:N', -1 or a GPU's number, not {shown(device)}: FastSpan "
        "runs on CPUs and NVIDIA GPUs."
    )
