"""What a hub, or the way to it, answered to a push: one sentence that says how to mend it."""

from __future__ import annotations

import re

from fastspan.bundle.hub.failures import first_line, response_of, root_of, unreachable
from fastspan.bundle.strict_json import named

__all__ = ["refused"]

_NOTHING = "Nothing was published."


def refused(error: BaseException, repository: str, revision: str | None, endpoint: str) -> str:
    """Turn what huggingface_hub raised into a sentence.

    Args:
        error: What it raised.
        repository: The id of the repository that was pushed to.
        revision: The branch; None: the main one.
        endpoint: The hub's address.
    """
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    place = f"{named(repository)} at {endpoint}"
    if isinstance(error, HFValidationError):
        return f"{named(repr(repository))} is no id of a repository: give owner/name. {_NOTHING}"
    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, and a push needs the hub: unset it. {_NOTHING}"
    response = response_of(error)
    if response is None:
        told = first_line(root_of(error))
        # hf_xet's errors are of the hub's storage, and hold its status in their text alone.
        if (said := re.search(r"HTTP status [a-z]+ error \((\d{3})\b", told)) is not None:
            remedy = _remedy(int(said[1]), repository, revision)
            return f"{place} refused the push (HTTP {said[1]}): {remedy} {_NOTHING}"
        if unreachable(error):
            return f"{place} could not be reached ({told}): check the connection. {_NOTHING}"
        return f"{place} answered what huggingface_hub does not take ({told}). {_NOTHING}"
    status = int(response.status_code)
    remedy = _remedy(status, repository, revision)
    return f"{place} refused the push (HTTP {status}{_said(response)}): {remedy} {_NOTHING}"


def _remedy(status: int, repository: str, revision: str | None) -> str:
    owner = named(repository.partition("/")[0])
    if status == 401:
        return "the token is not valid any more; log in anew with `hf auth login`, or set HF_TOKEN."
    if status == 403:
        return f"the token may not write there; take one with write access to what {owner} owns."
    if status == 404:
        return f"there is no such repository, or the token may not see it; check the spelling of {owner}."
    if status == 409:
        return "another change of the repository is under way; push again in a moment."
    if status == 412:
        branch = named(revision or "main")
        return f"somebody else changed the branch {branch} meanwhile; look at what came in, then push again."
    if status == 413:
        return (
            "the files are larger than the hub takes; push fewer variants, which `fastspan slim` makes a "
            "bundle of."
        )
    if status == 429:
        return "it was asked too often; wait some minutes and push again."
    if status >= 500:
        return "the fault is the hub's; push again later."
    return "the hub's own words say why."


def _said(response: object) -> str:
    """The hub's own words, where it has any; cut, and harmless to a terminal."""
    headers = getattr(response, "headers", {})
    text = headers.get("X-Error-Message")
    if not text:
        try:
            body = response.json()  # type: ignore[attr-defined]
            text = _words(body) if isinstance(body, dict) else None
        except Exception:  # noqa: BLE001 - whatever a body is that is no JSON, it has no words for people
            text = None
    return f", {named(text)}" if isinstance(text, str) and text else ""


def _words(body: dict[str, object]) -> object:
    """The message of an error, or those of what the hub finds wrong with a card."""
    errors = body.get("errors")
    if isinstance(errors, list) and errors:
        return "; ".join(str(each.get("message")) for each in errors if isinstance(each, dict))
    return body.get("error")
