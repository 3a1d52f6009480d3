"""The first step of the ensemble: texts to the graph's inputs."""

from fastspan.hosting.triton import Encode


class TritonPythonModel(Encode):
    """What Triton's Python backend looks for."""
