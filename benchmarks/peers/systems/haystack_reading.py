"""Haystack's extractive reader on sets of passages, in an environment of its own.

Run as ``python -m fastspan.benchmarks.peers.systems.haystack_reading CHECKPOINT SETS ANSWERS THREADS``. It
reads JSON lines of ``question`` and ``passages``. It writes one line each of ``best`` (``text``, ``passage``,
``score``; null without one), ``no_answer`` (its score) and ``answered`` (whether the best one goes first).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastspan.benchmarks.peers.protocol import MAX_LENGTH, OVERLAP

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Read every set."""
    checkpoint, given, wanted, threads = arguments
    reader, document = _load(checkpoint, int(threads))
    with Path(given).open(encoding="utf-8") as lines, Path(wanted).open("w", encoding="utf-8") as out:
        for line in lines:
            asked = json.loads(line)
            documents = [
                # Equal texts would get equal ids.
                document(content=text, meta={"passage": number})
                for number, text in enumerate(asked["passages"])
            ]
            found = reader.run(query=asked["question"], documents=documents, max_batch_size=8)["answers"]
            out.write(f"{json.dumps(_record(found))}\n")
    return 0


def _record(answers: Sequence[Any]) -> dict[str, Any]:
    best = next((each for each in answers if each.data is not None), None)
    none = next((each for each in answers if each.data is None), None)
    return {
        "best": None
        if best is None
        else {"text": best.data, "passage": best.document.meta["passage"], "score": float(best.score)},
        "no_answer": 0.0 if none is None else float(none.score),
        "answered": bool(answers) and answers[0].data is not None,
    }


def _load(checkpoint: str, threads: int) -> tuple[Any, Any]:
    """The reader in fp32 at its own defaults, but for the windows that every system gets, and Document."""
    import torch
    from haystack import Document
    from haystack.utils import ComponentDevice
    from haystack_integrations.components.readers.transformers import TransformersExtractiveReader

    torch.set_num_threads(threads)
    reader = TransformersExtractiveReader(
        model=checkpoint,
        device=ComponentDevice.from_str("cpu"),
        max_seq_length=MAX_LENGTH,
        stride=OVERLAP,
        model_kwargs={"dtype": torch.float32},
    )
    reader.warm_up()
    return reader, Document


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
