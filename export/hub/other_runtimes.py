"""How programs other than FastSpan load the same repository, by the names that they look for.

transformers.js looks for ``onnx/model.onnx`` and puts a suffix to the name for each ``dtype``; optimum is
given a folder and a file. Only graphs for any runtime, or with the usual inputs alone, are named here: the
others hold FastSpan's own operators or CUDA's.
"""

from __future__ import annotations

import json
from pathlib import Path

from fastspan.bundle.manifest import Manifest
from fastspan.bundle.variants import Graph

__all__ = ["DTYPES", "USUAL_INPUTS", "common_graphs", "tell_transformers_js", "usage_of_others"]

DTYPES = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_int8.onnx"}
"""The ``dtype`` of transformers.js → the name of its file, in the folder ``onnx``."""

USUAL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What a transformers tokenizer gives."""


def common_graphs(manifest: Manifest) -> dict[str, Graph]:
    """Return the graphs that other programs find and run: ``dtype`` → graph.

    A graph without ``attention_mask`` gives right answers to windows that are not padded, and to no others.
    """
    named = {graph.file: graph for variant in manifest.variants.values() for graph in variant.graphs}
    found = {dtype: named.get(f"onnx/{file}") for dtype, file in DTYPES.items()}
    return {dtype: graph for dtype, graph in found.items() if graph and set(graph.inputs) <= {*USUAL_INPUTS}}


def tell_transformers_js(folder: Path, manifest: Manifest) -> None:
    """Write into a bundle's ``config.json`` what transformers.js cannot find out.

    It fetches a graph's weights only where that file says that there are any. Without a ``dtype`` there, a
    browser would ask for ``model_quantized.onnx``, which is left out on purpose: an int8 graph has no mask,
    and would answer padded questions wrongly without a word.

    Args:
        folder: The bundle in the making.
        manifest: What it will say about itself.
    """
    graphs = common_graphs(manifest)
    if not graphs:
        return
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    names = {dtype: DTYPES[dtype] for dtype in graphs}
    config["transformers.js_config"] = {
        "dtype": next(iter(graphs)),
        "use_external_data_format": {
            name: graphs[dtype].data == (f"onnx/{name}_data",) for dtype, name in names.items()
        },
    }
    file.write_text(f"{json.dumps(config, indent=2, ensure_ascii=False)}\n", encoding="utf-8", newline="")


def usage_of_others(manifest: Manifest, repository: str) -> str:
    """Write how transformers.js and optimum load a repository, in Markdown; nothing where they cannot."""
    graphs = common_graphs(manifest)
    if not graphs:
        return ""
    dtype = next(iter(graphs))
    found = ", ".join(f'`dtype: "{name}"`' for name in graphs)
    unmasked = [name for name, graph in graphs.items() if "attention_mask" not in graph.inputs]
    remark = f" {' and '.join(unmasked)} takes one question a call: it has no mask." if unmasked else ""
    return f"""
## With other programs

transformers.js finds {found}.{remark}

```js
import {{ pipeline }} from "@huggingface/transformers";

const answer = await pipeline("question-answering", "{repository}", {{ dtype: "{dtype}" }});
console.log(await answer("Who wrote it?", "Ada wrote it."));
```

optimum, with transformers below 4.58:

```python
from optimum.onnxruntime import ORTModelForQuestionAnswering

model = ORTModelForQuestionAnswering.from_pretrained(
    "{repository}", subfolder="onnx", file_name="{DTYPES[dtype]}"
)
```
"""
