"""Google Vertex AI's protocol: ``{"instances": […], "parameters": {…}}`` to ``{"predictions": […]}``."""

from __future__ import annotations

from collections.abc import Sequence

from fastspan.decoding.pipeline_parameters import in_pipeline_names
from fastspan.errors import InputError
from fastspan.results import Info, Prediction
from fastspan.serving.protocols.asked import Asked, Incoming, Reply, Times, json_reply
from fastspan.serving.protocols.hugging_face import as_pipeline, pipeline_options
from fastspan.serving.protocols.request_body import TEXTS, check_keys, json_object, parse_body

__all__ = ["ask_as_vertex"]


def ask_as_vertex(incoming: Incoming, info: Info) -> Asked:
    """Read instances of ``question`` and ``context``, and the parameters of Hugging Face's pipeline.

    Raises:
        MalformedBodyError: The body is not JSON.
        InputError: It is not such an object, or a parameter is unusable.
    """
    request = json_object(parse_body(incoming.body), "the body")
    check_keys(request, "the body", required=("instances",), optional=("parameters",))
    instances = request["instances"]
    if not isinstance(instances, list) or not instances:
        raise InputError("instances must be an array of at least one object.")
    pairs = []
    for position, value in enumerate(instances):
        instance = json_object(value, f"instances[{position}]")
        check_keys(instance, f"instances[{position}]", required=TEXTS)
        pairs.append((instance["question"], instance["context"]))
    parameters = {} if request.get("parameters") is None else request["parameters"]
    options = pipeline_options(json_object(parameters, "parameters"), info)

    def form(predictions: Sequence[Prediction], _: Times) -> Reply:
        return json_reply({"predictions": [as_pipeline(one, options.top_k) for one in predictions]})

    return Asked(pairs=pairs, options=options, form=form, rename=in_pipeline_names)
