"""The last step of the ensemble: the graph's logits to an answer."""

from fastspan.hosting.triton import Decode


class TritonPythonModel(Decode):
    """What Triton's Python backend looks for."""
