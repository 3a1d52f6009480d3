"""Azure Machine Learning: the two functions that ``score.py`` has to give.

The inference server calls ``init`` once and ``run`` with the body of each request. Errors that the caller can
mend become status 400, where the server's package is there to say so.
"""

from __future__ import annotations

import os
from typing import Any

from fastspan.errors import InputError
from fastspan.hosting.questions import Hosted, load_hosted

__all__ = ["init", "run"]

_hosted: Hosted | None = None


def init() -> None:
    """Load the bundle of the registered model.

    Raises:
        InputError: ``AZUREML_MODEL_DIR`` is not set.
        BundleError: It holds no bundle, or a damaged one.
    """
    global _hosted
    folder = os.environ.get("AZUREML_MODEL_DIR")
    if not folder:
        raise InputError("AZUREML_MODEL_DIR is not set: deploy the bundle as the deployment's model.")
    _hosted = load_hosted(folder)


def run(data: str | bytes) -> Any:
    """Answer the body of a request, ``{"inputs": …, "parameters": …}``.

    Returns:
        What JSON can say; for a request that is unusable, a response with status 400 and ``{"error": …}``.

    Raises:
        InputError: The request is unusable and the server's package is not there; or ``init`` was not called.
    """
    if _hosted is None:
        raise InputError("init() has not been called.")
    try:
        return _hosted.answer_json(data)
    except InputError as error:
        try:
            from azureml_inference_server_http.api.aml_response import AMLResponse
        except ImportError:
            raise error from None
        return AMLResponse({"error": str(error)}, 400, json_str=True)
