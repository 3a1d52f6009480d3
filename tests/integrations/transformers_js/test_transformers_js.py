"""transformers.js fetches a repository from a hub, weights and all, and gets the logits that we get."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastspan.bundle.folder import Bundle
from fastspan.export.hub.other_runtimes import DTYPES, common_graphs
from fastspan.options import AnswerOptions
from fastspan.runtime.graph_inputs import pad
from fastspan.text.encoder import Encoder
from support.stand_ins.hub import ID, MAIN, Hub, serve

# Beside the environment that this runs in, where `make test-integrations` installs it.
MODULES = Path(sys.prefix) / "node_modules"
PAIR = ("who built the tower", "the norse leader built the stone tower")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "@huggingface" / "transformers").is_dir(),
    reason="needs node, and transformers.js in node_modules of this environment",
)


@pytest.fixture(params=["tiny_bundle", "tiny_half_bundle"])
def bundle(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def hub(bundle: Path) -> Iterator[Hub]:
    files = {
        path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()
    }
    with serve(Hub(files={MAIN: files})) as state:
        yield state


def test_each_dtype_gives_our_logits(bundle: Path, hub: Hub, tmp_path: Path) -> None:
    import onnxruntime

    opened = Bundle.open(bundle)
    options = AnswerOptions().within(opened.manifest.max_length, opened.manifest.overlap)
    (pair,) = Encoder.of_bundle(opened).encode([PAIR[0]], [PAIR[1]], options)
    graphs = common_graphs(opened.manifest)
    for dtype in [*graphs, "default"]:
        graph = graphs[dtype if dtype != "default" else "fp32"]
        feeds = pad(pair.windows, ("input_ids", "attention_mask", "token_type_ids"))
        asked = {
            "question": PAIR[0],
            "context": PAIR[1],
            **{name: array[0].tolist() for name, array in feeds.items()},
        }
        done = subprocess.run(
            ["node", Path(__file__).with_name("ask.mjs"), hub.endpoint, ID, dtype, tmp_path / dtype],
            input=json.dumps(asked),
            env={**os.environ, "FASTSPAN_NODE_MODULES": str(MODULES)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        session = onnxruntime.InferenceSession(str(bundle / graph.file))
        ours = session.run(
            ["start_logits", "end_logits"], {i.name: feeds[i.name] for i in session.get_inputs()}
        )
        # Another release of ONNX Runtime adds up in another order; int8 then rounds a few inputs elsewhere.
        tolerance = 1e-4 if dtype in ("fp32", "default") else 0.05
        np.testing.assert_allclose([found["start"], found["end"]], [each[0] for each in ours], atol=tolerance)
        assert isinstance(found["answer"]["answer"], str)
        assert {graph.file, *graph.data} <= hub.fetched()


def test_a_name_that_is_left_out_on_purpose_is_not_there(bundle: Path) -> None:
    # Browsers would load it where no dtype is given; an int8 graph without a mask must not be loaded unasked.
    assert not (bundle / "onnx" / "model_quantized.onnx").exists()
    assert "model_quantized.onnx" not in DTYPES.values()
