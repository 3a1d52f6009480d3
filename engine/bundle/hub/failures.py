"""What a hub, or the way to it, answered instead of a file: one sentence that says how to mend it."""

from __future__ import annotations

from typing import Any

from fastspan.bundle.strict_json import named

__all__ = ["explained", "first_line", "response_of", "root_of", "says_it_is_missing", "unreachable"]

_LOG_IN = "log in with `hf auth login` as one who may read it, or give the path of a folder."


def explained(
    error: BaseException, repository: str, revision: str | None, path: str | None, endpoint: str
) -> str:
    """Turn what huggingface_hub raised into a sentence.

    Args:
        error: What it raised.
        repository: The id of the repository that was asked for.
        revision: The revision that was asked for; None: the main branch.
        path: The file that was asked for; None: the repository itself.
        endpoint: The hub's address.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    quoted = named(repr(repository))
    place = f"{quoted} at revision {named(repr(revision))}" if revision is not None else quoted
    response = response_of(error)
    status = None if response is None else int(response.status_code)
    code = f"(HTTP {status})"
    if isinstance(error, HFValidationError):
        return (
            f"{quoted} is neither a folder that exists nor a hub id: give the path of a folder, or an id "
            "of the form owner/name."
        )
    if isinstance(error, GatedRepoError):
        return (
            f"{quoted} is gated: accept its conditions at {endpoint}/{repository} and log in with `hf auth "
            f"login` {code}."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{quoted} is neither a folder here nor a public model at {endpoint} {code}: check the "
            "spelling, or log in with `hf auth login` if it is private."
        )
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{quoted} has no revision {named(repr(revision))} at {endpoint} {code}: give a branch, a "
            "tag or a commit of it."
        )
    if status is None:
        if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
            return (
                f"{place} is no folder here and not in the hub cache{_of(path)}, and {endpoint} cannot be "
                "reached or HF_HUB_OFFLINE is set: go online, or give the path of a folder."
            )
        return (
            f"{place} is no folder here, and getting it from {endpoint} failed "
            f"({first_line(root_of(error))}): check the connection; to use what the cache holds, set "
            "HF_HUB_OFFLINE=1 or give a commit as the revision."
        )
    if says_it_is_missing(error):
        return f"{place} holds no {path} at {endpoint} {code}: check the id and the revision."
    reason = f"(HTTP {status}{_reason(response)})"
    return f"{endpoint} refused {place}{_of(path)} {reason}: {_remedy(status, response)}"


def says_it_is_missing(error: BaseException) -> bool:
    """Whether the hub said that a repository which is there lacks a file."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    # The second is a kind of the first, and says only that the hub could not be asked.
    return isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)


def unreachable(error: BaseException) -> bool:
    """Whether no hub answered."""
    from huggingface_hub.errors import HfHubHTTPError

    # The base of its own HTTP error is that of its HTTP library, requests or httpx by its release.
    transport = (OSError, *HfHubHTTPError.__bases__)
    return isinstance(error, transport) and getattr(error, "response", None) is None


def _of(path: str | None) -> str:
    return "" if path is None else f", its file {path}"


def _remedy(status: int, response: object) -> str:
    if status in (401, 403):
        return _LOG_IN
    if status == 404:
        return "check the id and the revision, or give the path of a folder."
    if status == 429:
        wait = str(getattr(response, "headers", {}).get("Retry-After", ""))
        some = f"{wait} s" if wait.isdecimal() and len(wait) < 6 else "some minutes"
        return f"it was asked too often; wait {some}, or log in with `hf auth login` for a higher limit."
    if status >= 500:
        return "the fault is the hub's; try again later, or give the path of a folder."
    return "give the path of a folder, or try another revision."


def _reason(response: object) -> str:
    reason = getattr(response, "reason", None) or getattr(response, "reason_phrase", None)
    return f" {named(str(reason))}" if reason else ""


def response_of(error: BaseException | None) -> Any:
    """The hub's answer, which huggingface_hub may have wrapped into another error; None: there was none."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None and hasattr(response, "status_code"):
            return response
        error = error.__cause__ or error.__context__
    return None


def root_of(error: BaseException) -> BaseException:
    """What an HTTP library wrapped, often several times over, into what it raises: the plainest of them."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def first_line(error: BaseException) -> str:
    """The first line of what an error says, cut and harmless to a terminal; else its name."""
    lines = str(error).strip().splitlines()
    return named(lines[0]) if lines else type(error).__name__
