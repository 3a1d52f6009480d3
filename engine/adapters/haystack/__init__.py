"""Haystack's extractive reader on FastSpan's engine; it comes with the extra ``haystack``.

Haystack loads components from ``haystack_integrations`` alone, so that is where this package is installed:
``from haystack_integrations.components.readers.fastspan import FastSpanExtractiveReader``.
"""

from fastspan.errors import MissingDependency

try:
    from haystack_integrations.components.readers.fastspan.extractive_reader import FastSpanExtractiveReader
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"haystack", "haystack_integrations"}:
        raise
    raise MissingDependency(
        f"FastSpanExtractiveReader needs {error.name}, which is not installed: run "
        "pip install 'fastspan[haystack]'."
    ) from error

__all__ = ["FastSpanExtractiveReader"]
