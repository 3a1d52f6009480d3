"""A stand-in for the hub on this machine: enough of its routes to download a snapshot or a single file.

What is written to it, a push, is answered by ``support.stand_ins.hub_writes``.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from support.stand_ins.hub_writes import answer_write, etag_of

__all__ = ["ID", "MAIN", "OLD", "Hub", "serve", "use_hub"]

MAIN, OLD = "a" * 40, "b" * 40
ID = "owner/tiny-qa"


@dataclass
class Hub:
    """What the stand-in serves, and what it was asked for.

    Attributes:
        endpoint: Its address.
        revisions: Branch or tag → commit.
        files: Commit → path → content.
        refusal: The status, and headers, that every request is answered with; None: each as it should be.
        refused_files: Files that are answered as gated.
        damaged_downloads: File → how many more of its downloads arrive damaged.
        moves_to: The commit that the main branch moves to once it was asked for.
        requested: Paths of the requests for content, in order.
        exists: Whether there is a repository yet; creating it makes one.
        private: Whether it is private.
        token: What a request must carry, to write and, of a private repository, to read; None: anything does.
        write_refusals: Part of a route that is written to → the status, headers and body it is answered with.
        written: The routes that were written to, in order.
        large_files: SHA-256 → content that was sent, whether or not a commit named it.
    """

    endpoint: str = ""
    revisions: dict[str, str] = field(default_factory=lambda: {"main": MAIN, "v1": OLD})
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refusal: tuple[int, dict[str, str]] | None = None
    refused_files: set[str] = field(default_factory=set)
    damaged_downloads: dict[str, int] = field(default_factory=dict)
    moves_to: str | None = None
    requested: list[str] = field(default_factory=list)
    exists: bool = True
    private: bool = False
    token: str | None = None
    write_refusals: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    large_files: dict[str, bytes] = field(default_factory=dict)

    def knows(self, authorization: str | None) -> bool:
        """Whether a request's header carries the token."""
        return self.token is None or authorization == f"Bearer {self.token}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Answer the routes that ``snapshot_download`` asks: the model, its tree, and its files."""
        if self.refusal is not None:
            return (*self.refusal, b"")
        if not self.exists:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if match := re.fullmatch(rf"/api/models/{ID}(?:/(revision|tree)/([^/]+))?", path):
            commit = self.commit(match[2] or "main")
            if commit is None:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            names = self.files[commit]
            if match[1] == "tree":
                tree = [
                    {"type": "file", "path": name, "size": len(data), "oid": etag_of(name, data)}
                    for name, data in names.items()
                ]
                return 200, {}, json.dumps(tree).encode()
            siblings = [{"rfilename": name} for name in names]
            info = {"id": ID, "modelId": ID, "sha": commit, "siblings": siblings, "private": self.private}
            return 200, {}, json.dumps(info).encode()
        if match := re.fullmatch(rf"/{ID}/resolve/([^/]+)/(.+)", path):
            commit = self.commit(match[1])
            if commit is None:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            if match[2] not in self.files[commit]:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            if match[2] in self.refused_files:
                return 403, {"X-Error-Code": "GatedRepo"}, b""
            data = self.files[commit][match[2]]
            return 200, {"ETag": f'"{etag_of(match[2], data)}"', "X-Repo-Commit": commit}, data
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def commit(self, revision: str) -> str | None:
        revision = unquote(revision)
        if revision in self.files:
            return revision
        commit = self.revisions.get(revision)
        if revision == "main" and self.moves_to is not None:
            self.revisions["main"] = self.moves_to
        return commit

    def fetched(self) -> set[str]:
        """The files that were asked for, by a commit or a branch."""
        return {
            path.split("/resolve/")[1].partition("/")[2] for path in self.requested if "/resolve/" in path
        }


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    """Let huggingface_hub, in this process, know this hub and this cache as its own."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for module in (constants, file_download):
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    # The stand-in speaks plain HTTP, not the storage protocol that newer clients prefer.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@contextmanager
def offline() -> Iterator[None]:
    """While the block runs, huggingface_hub does as HF_HUB_OFFLINE=1 at its import has it do."""
    import huggingface_hub

    # Newer clients keep connections, and ask once a connection whether they may.
    reset = getattr(huggingface_hub.utils, "reset_sessions", lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        reset()
        try:
            yield
        finally:
            reset()


@contextmanager
def serve(state: Hub) -> Iterator[Hub]:
    """Serve what ``state`` says while the ``with`` block runs; its ``endpoint`` says where."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if self.command == "GET":
                state.requested.append(path)
            if state.private and not state.knows(self.headers["Authorization"]):
                # A hub does not say of a private repository that there is one.
                self.reply(401, {"X-Error-Code": "RepoNotFound"}, b"")
                return
            status, headers, data = state.answer(path)
            name = path.partition("/resolve/")[2].partition("/")[2]
            if self.command == "GET" and state.damaged_downloads.get(name, 0) > 0:
                state.damaged_downloads[name] -= 1
                data = bytes(byte ^ 1 for byte in data)
            self.reply(status, headers, data)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            if self.headers["Transfer-Encoding"] == "chunked":
                body = b"".join(self.chunks())
            else:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            state.written.append(path)
            self.reply(*answer_write(state, ID, path, self.headers["Authorization"], body))

        do_PUT = do_POST

        def chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def reply(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()
