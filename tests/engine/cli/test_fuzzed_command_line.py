"""Any words, files and bytes: the command line ends with one of its exit codes and never with a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastspan import QuestionAnswerer
from fastspan.cli import diagnosis
from fastspan.cli.commands import modules
from fastspan.cli.main import build_parser, main
from fastspan.cli.terminal import harmless
from support.fuzzing import LONGEST_MESSAGE, fuzzed, watched
from support.mutations import CHANGES, bytes_of, mutated
from support.packages import hide

COMMANDS = {module.NAME: module for module in modules()}

# Arguments come as bytes without NUL; what is no UTF-8 becomes halves of surrogate pairs.
argument = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    st.binary(max_size=12).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
    st.sampled_from(
        ["", "-", "--", "--json", "-1e9", "inf", "nan", "1", "0", "9" * 5000, "/", ".", "..", "a/b"]
    ),
    st.sampled_from(["a/b:c", "~", "~nobody/x", "x" * 300, "fp32", "cpu", "int8,fp32"]),
)


class Run:
    """What a call of the command line gave."""

    def __init__(self, words: list[str], data: bytes = b"") -> None:
        self.out, self.err = _stream(), _stream()
        given, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
        try:
            with watched(), contextlib.redirect_stdout(self.out), contextlib.redirect_stderr(self.err):
                try:
                    self.code: Any = main(words)
                except SystemExit as ended:
                    self.code = ended.code
        finally:
            sys.stdin = given
        assert self.code in (0, 1, 2), (words, self.code)
        assert "--debug" in words or "Traceback" not in self.text(self.err)
        for stream in (self.out, self.err):
            assert harmless(self.text(stream)) == self.text(stream), ascii(self.text(stream)[-2000:])
        last = self.text(self.err).rstrip("\n").split("\n")[-1]
        if self.code == 1:
            assert last.startswith("fastspan: error: ")
        if self.code:
            assert len(last) < LONGEST_MESSAGE

    @staticmethod
    def text(stream: io.TextIOWrapper) -> str:
        stream.flush()
        buffer = stream.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode("utf-8")

    def json(self) -> Any:
        """What was printed, as a strict reader has it."""
        found = json.loads(self.text(self.out), parse_constant=pytest.fail)
        json.dumps(found, ensure_ascii=False).encode("utf-8")
        return found


def _stream() -> io.TextIOWrapper:
    """A stream like a process's: bytes, in UTF-8."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@pytest.fixture(scope="module")
def loaded(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", threads=1) as qa:
        yield qa


@pytest.fixture
def quick(loaded: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Loading takes no time; nothing is fetched; what is written lies in a folder of its own."""

    class Kept:
        """The bundle that is loaded already, and stays so when a command closes it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(loaded, name)

        def __enter__(self) -> QuestionAnswerer:
            return loaded

        def __exit__(self, *_: object) -> None:
            pass

        def close(self) -> None:
            pass

    def load(*_: object, **__: object) -> Kept:
        return Kept()

    @contextlib.contextmanager
    def listen(*_: object) -> Iterator[socket.socket]:
        with socket.socket() as never_bound:
            yield never_bound

    monkeypatch.setattr(QuestionAnswerer, "load", load)
    # One would serve for good, the other looks for CUDA each time.
    monkeypatch.setattr("fastspan.serving.listen", listen)
    monkeypatch.setattr("fastspan.serving.run_server", lambda service, *_: service.close())
    monkeypatch.setattr("fastspan.serving.supervise", lambda *_: False)
    here = diagnosis.diagnose()
    monkeypatch.setattr(diagnosis, "diagnose", lambda *_: here)
    for package in ("huggingface_hub", "datasets"):
        hide(monkeypatch, package)
    monkeypatch.chdir(place)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with options that it has, and values that suit them more or less."""
    name = draw(st.sampled_from([*sorted(COMMANDS), "fly"]))
    words = [name]
    options = _options(name)
    for _ in range(draw(st.integers(0, 4))):
        if options and draw(st.booleans()):
            words.append(draw(st.sampled_from(options)))
        words.append(draw(argument))
    return words


def _options(name: str) -> list[str]:
    if name not in COMMANDS:
        return []
    arguments = build_parser().commands[name].arguments
    return sorted(flag for argument in arguments for flag in argument.option_strings)


@fuzzed(examples=60)
@given(words=st.one_of(command_lines(), st.lists(argument, max_size=4)), data=st.binary(max_size=40))
def test_any_words(quick: None, words: list[str], data: bytes) -> None:
    Run(words, data)


@fuzzed(examples=60)
@given(
    question=argument,
    text=st.one_of(
        st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
    ),
    options=st.lists(
        st.sampled_from(
            [
                ["--top-k", "5"],
                ["--decoding", "pipeline"],
                ["--max-answer-length", "1"],
                ["--no-answer-threshold", "-inf"],
                ["--no-answer-threshold", "1e308"],
            ]
        ),
        max_size=3,
    ),
    as_json=st.booleans(),
    from_file=st.booleans(),
)
def test_any_question_over_any_bytes(
    quick: None,
    tiny_bundle: Path,
    place: Path,
    question: str,
    text: bytes,
    options: list[list[str]],
    as_json: bool,
    from_file: bool,
) -> None:
    (place / "text").write_bytes(text)
    given_options = [word for option in options for word in option]
    words = ["answer", *given_options, "--bundle", str(tiny_bundle), *(["--json"] if as_json else [])]
    run = Run([*words, "--", question, *(["text"] if from_file else [])], b"" if from_file else text)
    if run.code == 0 and as_json:
        found = run.json()
        context = text.decode("utf-8-sig")
        for answer in found["answers"]:
            assert context[answer["start"] : answer["end"]] == answer["text"]


value = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["Rollo", "Rollo led.", "\ud800", "", 0, 10**30]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "question",
                    "context",
                    "answers",
                    "text",
                    "answer_start",
                    "is_impossible",
                    "data",
                    "paragraphs",
                    "qas",
                ]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)
answers = st.one_of(
    st.lists(st.sampled_from(["Rollo", "led", ""]), max_size=2),
    st.fixed_dictionaries(
        {"text": st.just(["Rollo"]), "answer_start": st.lists(st.integers(-1, 9), max_size=2)}
    ),
    value,
)
record = st.fixed_dictionaries(
    {"question": st.one_of(st.just("Who led?"), value), "context": st.one_of(st.just("Rollo led."), value)},
    optional={"id": value, "answers": answers, "is_impossible": st.one_of(st.booleans(), value)},
)
documents = st.one_of(
    st.lists(record, max_size=3),
    st.lists(record, max_size=3).map(lambda records: {"data": records}),
    st.lists(record, max_size=2).map(
        lambda qas: {"data": [{"paragraphs": [{"context": "Rollo led.", "qas": qas}]}]}
    ),
    record,
    value,
)


@fuzzed(examples=60)
@given(
    document=st.one_of(documents.map(lambda found: json.dumps(found).encode()), st.binary(max_size=40)),
    suffix=st.sampled_from(["json", "jsonl", "parquet", ""]),
    predictions=st.booleans(),
)
def test_any_file_of_questions(
    quick: None, tiny_bundle: Path, place: Path, document: bytes, suffix: str, predictions: bool
) -> None:
    (place / f"q.{suffix}").write_bytes(document)
    words = ["eval", str(tiny_bundle), "--data", f"q.{suffix}", "--json"]
    run = Run([*words, *(["--predictions", "p.json"] if predictions else [])])
    if run.code == 0:
        run.json()
        if predictions:
            json.loads((place / "p.json").read_text(encoding="utf-8"))


@fuzzed(examples=60)
@given(change=st.tuples(st.integers(0), st.binary(max_size=6)), command=st.sampled_from(["info", "verify"]))
def test_a_damaged_manifest(tiny_bundle: Path, place: Path, change: tuple[int, bytes], command: str) -> None:
    data = (tiny_bundle / "fastspan.json").read_bytes()
    at = change[0] % len(data)
    copy = place / "copy"
    copy.mkdir(exist_ok=True)
    (copy / "fastspan.json").write_bytes(data[:at] + change[1] + data[at + 1 :])
    # Even a manifest that came out whole finds none of its files here.
    assert Run([command, str(copy), "--json"]).code == 1


@fuzzed(examples=30)
@given(
    changes=st.lists(CHANGES, min_size=1, max_size=2),
    words=st.sampled_from([["info"], ["info", "--json"], ["slim", "--variants", "fp32"]]),
)
def test_a_manifest_that_says_anything(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, changes: Any, words: list[str]
) -> None:
    document = mutated(json.loads((tiny_bundle / "fastspan.json").read_bytes()), changes)
    if isinstance(document, dict):
        document["digest"] = "0" * 64
    data = bytes_of(document)
    place = tmp_path_factory.mktemp("said")
    shutil.copytree(tiny_bundle, place / "model")
    (place / "model" / "fastspan.json").write_bytes(
        data.replace(b"0" * 64, sha256(data).hexdigest().encode())
    )
    out = [str(place / "out")] if words[0] == "slim" else []
    Run([words[0], str(place / "model"), *out, *words[1:]])
    shutil.rmtree(place)
