"""Graphs of an encoder description, made and run."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from support.models.random_models import VOCABULARY

__all__ = ["calibrated", "run", "segments_for", "session", "tokens"]


def session(source):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = source if isinstance(source, str) else source.SerializeToString()
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def tokens(rng, batch, length):
    # From 3 on, so that no token is taken for padding by accident.
    return rng.randint(3, VOCABULARY, (batch, length))


def run(graph, ids, *, segments=None, mask=None):
    feeds = {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask}
    names = {value.name for value in graph.get_inputs()}
    return graph.run(["start_logits", "end_logits"], {name: feeds[name] for name in names})


def segments_for(encoder, ids):
    if not encoder.takes_segment_ids:
        return None
    segments = np.zeros_like(ids)
    segments[:, ids.shape[1] // 2 :] = 1
    return segments


def calibrated(encoder, ids, segments):
    from fastspan.export.int8.observation import observe_inputs
    from fastspan.text.encoder import Window

    windows = [Window(row, segment, 1, len(row) - 2, 0) for row, segment in zip(ids, segments, strict=True)]
    return observe_inputs(encoder, windows, 1)
