"""Each written folder, used as its platform uses it: its function is imported from there and called."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastspan import BundleError, InputError, QuestionAnswerer
from fastspan.hosting.package import Platform, package
from fastspan.hosting.questions import find_bundle
from support.as_hugging_face import answer_as_hugging_face
from support.written_module import import_file

QUESTION = {"question": "who built the tower", "context": "the norse leader built the stone tower"}
OTHER = {"question": "what did he build", "context": "rain came from the north, and the river rose"}
LONG = {**QUESTION, "context": "tower " * 9000}


@pytest.fixture(scope="module")
def written(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Write a package, each platform once."""
    folder, made = tmp_path_factory.mktemp("packages"), {}

    def write(platform: Platform) -> Path:
        if platform not in made:
            made[platform] = package(tiny_bundle, folder / platform, platform).folder
        return made[platform]

    return write


@pytest.fixture(scope="module")
def expected(tiny_bundle: Path) -> Iterator[Any]:
    """What Hugging Face's protocol answers."""
    with QuestionAnswerer.load(tiny_bundle, optimize_for="throughput") as qa:

        def answer(question: dict[str, str], **parameters: object) -> Any:
            return answer_as_hugging_face(qa, {"inputs": question, "parameters": parameters})

        yield answer


@pytest.fixture(scope="module")
def handler(written: Any) -> Any:
    """The class of the written repository, made as an endpoint makes it."""
    folder = written("hf-endpoint")
    return import_file(folder / "handler.py").EndpointHandler(path=str(folder))


@pytest.fixture(scope="module")
def call(written: Any) -> Any:
    """Call SageMaker's four functions in turn, as its inference toolkit does."""
    script = import_file(written("sagemaker") / "code" / "inference.py")
    model = script.model_fn(str(written("sagemaker")))

    def invoke(body: str | bytes, content_type: str, accept: str) -> str:
        text, kind = script.output_fn(script.predict_fn(script.input_fn(body, content_type), model), accept)
        assert kind in {"application/json", "text/csv"}
        return str(text)

    return invoke


class TestHuggingFaceEndpoint:
    def test_one_question(self, handler: Any, expected: Any) -> None:
        assert handler({"inputs": QUESTION}) == expected(QUESTION)
        assert handler({"inputs": QUESTION, "parameters": {"top_k": 3}}) == expected(QUESTION, top_k=3)

    def test_a_list_of_questions(self, handler: Any, expected: Any) -> None:
        data = {"inputs": [QUESTION, OTHER], "parameters": {"max_answer_len": 2}}
        assert handler(data) == [expected(each, max_answer_len=2) for each in (QUESTION, OTHER)]
        assert handler({"inputs": []}) == []

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({}, "lacks inputs"),
            ([], "must be a JSON object"),
            ({"inputs": "who?"}, "inputs must be a JSON object"),
            ({"inputs": [QUESTION, {"question": "who?"}]}, r"inputs\[1\]: inputs lacks context"),
            ({"inputs": QUESTION, "parameters": {"topk": 1}}, "may not hold 'topk'"),
            ({"inputs": {**QUESTION, "question": b"who?"}}, "what JSON can say"),
            ({"inputs": QUESTION, "parameters": {"top_k": float("nan")}}, "what JSON can say"),
            ({"inputs": LONG, "parameters": {"max_seq_len": 24}}, "windows"),
        ],
    )  # fmt: skip
    def test_what_is_unusable(self, handler: Any, data: object, message: str) -> None:
        with pytest.raises(InputError, match=message):
            handler(data)

    def test_the_repository_is_a_bundle_too(self, written: Any, tiny_bundle: Path) -> None:
        with QuestionAnswerer.load(written("hf-endpoint"), variant="fp32") as qa:
            assert qa.answer(*QUESTION.values()).answers


class TestSageMaker:
    def test_json(self, call: Any, expected: Any) -> None:
        body = json.dumps({"inputs": QUESTION})
        for given in (body, body.encode()):
            assert json.loads(call(given, "application/json; charset=utf-8", "*/*")) == expected(QUESTION)

    def test_csv_has_a_line_for_each_line(self, call: Any, expected: Any) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["context", "question"])
        writer.writeheader()
        writer.writerows([QUESTION, {**OTHER, "context": 'a "quoted" text, in\ntwo lines'}, OTHER])
        found = list(csv.DictReader(io.StringIO(call(text.getvalue(), "text/csv", "text/csv"))))
        assert len(found) == 3
        best = expected(QUESTION)
        assert found[0] == {name: str(best[name]) for name in ("answer", "score", "start", "end")}
        both = json.loads(call(text.getvalue(), "text/csv", "application/json"))
        assert both[0] == best

    def test_csv_of_one_json_question(self, call: Any, expected: Any) -> None:
        body = json.dumps({"inputs": QUESTION, "parameters": {"top_k": 2}})
        rows = call(body, "application/json", "text/csv").splitlines()
        assert rows[0] == "answer,score,start,end"
        assert len(rows) == 3

    @pytest.mark.parametrize(
        ("body", "kind", "message"),
        [
            (b"{", "application/json", "not JSON"),
            (b"x", "image/png", "must be application/json or text/csv, not 'image/png'"),
            (b"who?,text\n", "text/csv", "must name the columns: question,context"),
            (b"question,context\nwho?,a, b\n", "text/csv", "Line 1 after the header has not two cells"),
            (b'question,context\n"who?,a', "text/csv", "not CSV in UTF-8"),
            (b"question,context\n\xff,a\n", "text/csv", "not CSV in UTF-8"),
            (b"", "text/csv", "must name the columns"),
            (b"question,context\n,a\n", "text/csv", r"inputs\[0\]: .*empty"),
        ],
    )
    def test_what_is_unusable(self, call: Any, body: bytes, kind: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            call(body, kind, "application/json")

    def test_an_answer_that_nobody_accepts(self, call: Any) -> None:
        with pytest.raises(InputError, match="accepts neither"):
            call(json.dumps({"inputs": QUESTION}), "application/json", "image/png")


class TestAzure:
    @pytest.fixture
    def script(self, written: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        # The platform names the folder that holds the registered model's folder.
        monkeypatch.setenv("AZUREML_MODEL_DIR", str(written("azureml")))
        monkeypatch.setattr("fastspan.hosting.azure_ml._hosted", None)
        return import_file(written("azureml") / "code" / "score.py")

    def test_init_then_run(self, script: ModuleType, expected: Any) -> None:
        with pytest.raises(InputError, match="has not been called"):
            script.run("{}")
        script.init()
        assert script.run(json.dumps({"inputs": QUESTION})) == expected(QUESTION)
        with pytest.raises(InputError, match="lacks inputs"):
            script.run("{}")

    def test_without_a_model_it_says_what_is_missing(
        self, script: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AZUREML_MODEL_DIR")
        with pytest.raises(InputError, match="AZUREML_MODEL_DIR is not set"):
            script.init()

    def test_with_the_servers_package_errors_are_its_responses(
        self, script: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script.init()
        name = "azureml_inference_server_http.api.aml_response"
        stand_in = ModuleType(name)
        stand_in.AMLResponse = lambda *given, **named: (given, named)  # type: ignore[attr-defined]
        for parent in ("azureml_inference_server_http", "azureml_inference_server_http.api"):
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        monkeypatch.setitem(sys.modules, name, stand_in)
        (said, status), named = script.run("{}")
        assert (said, status, named) == ({"error": "the body lacks inputs."}, 400, {"json_str": True})


def test_a_folder_without_a_bundle_or_with_several(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="holds no bundle"):
        find_bundle(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "fastspan.json").write_bytes((tiny_bundle / "fastspan.json").read_bytes())
    with pytest.raises(BundleError, match="several bundles"):
        find_bundle(tmp_path)


def test_platforms_with_a_server_of_their_own_need_none_of_ours(written: Any) -> None:
    folder = written("hf-endpoint")
    code = (
        "import sys\nsys.modules.update(dict.fromkeys(('starlette', 'uvicorn', 'huggingface_hub', 'onnx')))\n"
        f"sys.path.insert(0, {str(folder)!r})\nimport handler\n"
        f"print(handler.EndpointHandler({str(folder)!r})({{'inputs': {QUESTION!r}}})['score'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 0
