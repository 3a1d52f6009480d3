"""What of Haystack's documents a reader can use: their text, and the pages that it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haystack import Document, logging

__all__ = ["page_of", "with_text"]

logger = logging.getLogger(__name__)


def with_text(documents: Sequence[Document]) -> list[Document]:
    """Return the documents that hold text; of each other one a warning tells."""
    for document in documents:
        if document.content is None:
            logger.warning("Document {id} holds no text, so no answer is looked for in it.", id=document.id)
    return [document for document in documents if document.content is not None]


def page_of(document: Document, start: int) -> dict[str, Any]:
    """Return the number of the page on which an answer starts, as ``meta``; form feeds part pages."""
    page = document.meta.get("page_number")
    if page is None or document.content is None:
        return {}
    if not isinstance(page, int):
        logger.warning("Document {id} has a page_number that is no whole number.", id=document.id)
        return {}
    return {"answer_page_number": page + document.content[:start].count("\f")}
