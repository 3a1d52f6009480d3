"""What the stand-in for the hub answers to a push: create, branch, preupload, large files, commit."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from support.stand_ins.hub import Hub

__all__ = ["answer_write", "etag_of"]

Reply = tuple[int, dict[str, str], bytes]

_SMALL_KINDS = (".json", ".md", ".txt", ".py", ".gitattributes")


def etag_of(path: str, data: bytes) -> str:
    """As the hub has it: the SHA-256 of a large file, the Git id of a small one."""
    if path.endswith(_SMALL_KINDS):
        return hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()
    return hashlib.sha256(data).hexdigest()


def answer_write(hub: Hub, name: str, path: str, authorization: str | None, body: bytes) -> Reply:
    """Answer a route that is written to."""
    for part, refusal in hub.write_refusals.items():
        if part in path:
            return refusal
    if upload := re.fullmatch(r"/large-files/([0-9a-f]{64})", path):
        # As at the hub: the address itself is the permission.
        if hashlib.sha256(body).hexdigest() != upload[1]:
            return _error(400, "the content is not what was announced")
        hub.large_files[upload[1]] = body
        return 200, {}, b""
    if not hub.knows(authorization):
        return _error(401, "Invalid username or password.")
    if path == "/api/validate-yaml":
        return _json({"errors": [], "warnings": []})
    if path == "/api/repos/create":
        return _create(hub, name, json.loads(body))
    if not hub.exists:
        return 404, {"X-Error-Code": "RepoNotFound"}, b""
    if path == f"/{name}.git/info/lfs/objects/batch":
        return _json({"transfer": "basic", "objects": [_upload(hub, o) for o in json.loads(body)["objects"]]})
    if match := re.fullmatch(rf"/api/models/{name}/(preupload|branch|commit)/(.+)", path):
        revision = unquote(match[2])
        if match[1] == "branch":
            if revision in hub.revisions:
                return _error(409, "Reference already exists")
            hub.revisions[revision] = hub.revisions["main"]
            return _json({})
        if revision not in hub.revisions:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if match[1] == "preupload":
            held = hub.files[hub.revisions[revision]]
            return _json({"files": [_mode(held, file["path"]) for file in json.loads(body)["files"]]})
        return _commit(hub, name, revision, [json.loads(line) for line in body.splitlines()])
    return 404, {}, b""


def _create(hub: Hub, name: str, asked: dict[str, Any]) -> Reply:
    if f"{asked['organization']}/{asked['name']}" != name:
        return _error(403, "You don't have the rights to create a model under this namespace")
    if hub.exists:
        told = {"error": "You already created this model repo", "url": f"{hub.endpoint}/{name}"}
        return 409, {}, json.dumps(told).encode()
    # Since 2.0 the client says it in a word.
    hub.exists, hub.private = True, bool(asked.get("private")) or asked.get("visibility") == "private"
    first = hashlib.sha1(b"first").hexdigest()
    hub.revisions, hub.files = {"main": first}, {first: {".gitattributes": b"*.onnx filter=lfs"}}
    return _json({"url": f"{hub.endpoint}/{name}"})


def _mode(held: dict[str, bytes], path: str) -> dict[str, Any]:
    large = not path.endswith(_SMALL_KINDS)
    oid = etag_of(path, held[path]) if path in held else None
    return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}


def _upload(hub: Hub, wanted: dict[str, Any]) -> dict[str, Any]:
    oid = wanted["oid"]
    if oid in hub.large_files:
        return wanted
    return {**wanted, "actions": {"upload": {"href": f"{hub.endpoint}/large-files/{oid}"}}}


def _commit(hub: Hub, name: str, revision: str, lines: list[dict[str, Any]]) -> Reply:
    """All of it or nothing."""
    header, former = lines[0]["value"], hub.revisions[revision]
    if header.get("parentCommit") not in (None, former):
        return _error(412, "The branch was updated since")
    files = dict(hub.files[former])
    for line in lines[1:]:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            if value["oid"] not in hub.large_files:
                return _error(400, f"{value['path']} was not uploaded")
            files[value["path"]] = hub.large_files[value["oid"]]
        elif line["key"] == "deletedFile":
            del files[value["path"]]
        else:
            return _error(400, f"unknown operation {line['key']}")
    made = hashlib.sha1(repr((former, sorted(files.items()))).encode()).hexdigest()
    hub.files[made], hub.revisions[revision] = files, made
    url = f"{hub.endpoint}/{name}/commit/{made}"
    return _json({"success": True, "commitOid": made, "commitUrl": url, "hookOutput": ""})


def _json(value: Any) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _error(status: int, text: str) -> Reply:
    return status, {"Content-Type": "application/json"}, json.dumps({"error": text}).encode()
