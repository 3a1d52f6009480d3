"""Hugging Face Inference Endpoints: the class that a repository's ``handler.py`` has to give."""

from __future__ import annotations

from typing import Any

from fastspan.hosting.questions import load_hosted

__all__ = ["EndpointHandler"]


class EndpointHandler:
    """Answers requests of an Inference Endpoint; made once, when the endpoint starts.

    Args:
        path: The folder in which the endpoint lays the repository.

    Raises:
        BundleError: The repository holds no bundle, or a damaged one.
    """

    def __init__(self, path: str = "") -> None:
        self._hosted = load_hosted(path or ".")

    def __call__(self, data: dict[str, Any]) -> Any:
        """Answer a request.

        Args:
            data: ``{"inputs": {"question": …, "context": …}, "parameters": {…}}``, or a list as ``inputs``.

        Returns:
            ``{"score", "start", "end", "answer"}``; a list where ``top_k`` is more than 1; for a list of
            inputs, a list of these.

        Raises:
            InputError: The request is unusable; the endpoint answers with status 400 and the message.
        """
        return self._hosted.answer(data)
