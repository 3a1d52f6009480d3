"""What ``pipeline`` takes beside a model, and what it refuses; models that must be exported first."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer

from fastspan import (
    BundleError,
    InputError,
    LoadOptions,
    MissingDependency,
    QuestionAnswerer,
)
from fastspan.adapters import checkpoints
from fastspan.adapters.devices import load_options_for
from fastspan.adapters.transformers_pipeline import QuestionAnsweringPipeline, pipeline
from support.paths import MINILM
from support.stand_ins.hub import ID, MAIN, Hub, serve, use_hub

TASK = "question-answering"
ONE = {"question": "who built the tower", "context": "the norse leader rollo built the stone tower"}


@pytest.fixture(scope="module")
def nlp(tiny_bundle):
    with pipeline(TASK, model=tiny_bundle, device="cpu") as made:
        yield made


def test_what_asks_for_nothing_else_is_taken(tiny_bundle, nlp):
    harmless = {
        "framework": "pt",
        "use_fast": True,
        "trust_remote_code": False,
        "model_kwargs": {},
        "token": None,
        "torch_dtype": "torch.float32",
        "device_map": "cpu",
        "batch_size": 8,
        "num_workers": 2,
        "top_k": 2,
    }
    with pipeline(TASK, tiny_bundle, tokenizer=str(tiny_bundle), **harmless) as made:
        assert made(ONE) == nlp(ONE, top_k=2)
        assert made.task == TASK
        assert made.model.info().variant == "fp32"
        assert repr(made) == f"<QuestionAnsweringPipeline of {made.model!r}>"


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ({"framework": "tf"}, "framework='tf' cannot be used"),
        ({"config": "x"}, "config='x' cannot be used"),
        ({"use_fast": False}, "use_fast=False cannot be used"),
        ({"trust_remote_code": True}, "runs no code of a repository"),
        ({"model_kwargs": {"a": 1}}, "model_kwargs={'a': 1} cannot be used"),
        ({"pipeline_class": object}, "there is one pipeline"),
        ({"binary_output": True}, "answers are dicts"),
        ({"device": "mps"}, "device must be None, 'cpu'"),
        ({"device": -2}, "device must be None, 'cpu'"),
        ({"device": True}, "device must be None, 'cpu'"),
        ({"device": 0, "device_map": "auto"}, "device and device_map both"),
        ({"device_map": {"": 0}}, "device_map must be 'auto' or a device"),
        ({"dtype": "bfloat16"}, "dtype must be 'auto', float32 or float16"),
        ({"dtype": "float16", "torch_dtype": "float32"}, "name one thing and differ"),
        ({"dtype": "float16", "variant": "fp32"}, "both choose a precision"),
        ({"revision": "main"}, "revision goes with a hub id"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"doc_stride": -1}, "doc_stride must be at least 0"),
        ({"padding": "left"}, "padding must be one of"),
        ({"padding": 1}, "padding must be one of"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 on"),
        ({"corrected": "yes"}, "corrected must be True or False"),
        ({"foo": 1}, "'foo' is no parameter"),
        ({"variant": "int4"}, "int4"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_named(tiny_bundle, argument, named):
    with pytest.raises((InputError, BundleError), match=named) as raised:
        pipeline(TASK, model=tiny_bundle, **argument)
    assert str(raised.value).endswith(".")


def test_a_token_is_refused_without_being_shown(tiny_bundle):
    with pytest.raises(InputError, match="HF_TOKEN") as raised:
        pipeline(TASK, model=tiny_bundle, token="hf_secret")
    assert "secret" not in str(raised.value)


def test_other_tasks_and_no_model(tiny_bundle):
    with pytest.raises(InputError, match="'question-answering', the only one there is, not 'fill-mask'"):
        pipeline("fill-mask", model=tiny_bundle)
    with pytest.raises(InputError, match="model must be given"):
        pipeline(TASK)
    with pytest.raises(InputError, match="save a model object with save_pretrained"):
        pipeline(TASK, model=SimpleNamespace())
    with pytest.raises(BundleError):
        pipeline(TASK, model="no/such/folder")


def test_an_unknown_parameter_of_a_call_is_refused(nlp):
    with pytest.raises(InputError, match="'truncation' is no parameter of the question-answering pipeline"):
        nlp(ONE, truncation=True)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda nlp: nlp(ONE, question="who"), "by position and question"),
        (lambda nlp: nlp(data=ONE, question="who"), "data was given, and question too"),
        (lambda nlp: nlp({**ONE, "id": 1}), "'id' is neither"),
        (
            lambda nlp: nlp([ONE, {"question": ["who"], "context": ["x"]}]),
            "Example 1 holds a list of questions",
        ),
        (
            lambda nlp: list(nlp(row for row in ([SimpleNamespace(question_text="q", context_text="c")],))),
            "one by",
        ),
        (lambda nlp: nlp(question=3, context="x"), "question must be a string, not int"),
        (lambda nlp: nlp(question=["who"], context=None), "context must be given"),
        (lambda nlp: nlp(question="  ", context="x"), "^question is blank"),
        (lambda nlp: nlp(question=["who", " "], context="x"), r"questions\[1\] is blank"),
    ],
)
def test_what_a_call_cannot_use_is_named(nlp, call, named):
    with pytest.raises(InputError, match=named):
        call(nlp)


def test_topk_is_deprecated_as_it_was(nlp):
    with pytest.warns(UserWarning, match="topk parameter is deprecated, use top_k instead") as warned:
        nlp(ONE, topk=2)
    assert warned[0].filename == __file__


def test_a_generator_is_read_as_answers_are_taken(nlp):
    read = []

    def rows():
        for number in range(10_000):
            read.append(number)
            yield {**ONE, "number": number}

    answers = nlp(rows())
    assert not read
    assert next(answers) == nlp(ONE)
    assert len(read) < 1000


def test_a_dataset_without_an_iterator_is_read_row_by_row(nlp):
    class Rows:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {**ONE, "index": index}

    assert list(nlp(Rows())) == [nlp(ONE)] * 3


def test_one_answerer_may_serve_many_pipelines(tiny_bundle, nlp):
    with QuestionAnswerer.load(tiny_bundle, variant="fp32") as qa:
        assert pipeline(TASK, model=qa)(ONE) == QuestionAnsweringPipeline(qa)(ONE) == nlp(ONE)
        with pytest.raises(InputError, match="loaded already"):
            pipeline(TASK, model=qa, device=0)
        again = pickle.loads(pickle.dumps(pipeline(TASK, model=qa, top_k=3)))
        assert again(ONE) == nlp(ONE, top_k=3)
        again.close()


def test_load_options_go_with_a_device_and_a_variant(tiny_bundle):
    options = LoadOptions(threads=1, optimize_for="throughput")
    with pipeline(TASK, model=tiny_bundle, options=options, variant="int8", device=-1) as made:
        info = made.model.info()
    assert (info.variant, info.threads, info.optimize_for) == ("int8", 1, "throughput")


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (None, {"provider": "auto"}),
        (-1, {"provider": "cpu"}),
        ("cpu", {"provider": "cpu"}),
        (1, {"provider": "cuda", "provider_options": {"device_id": "1"}}),
        ("cuda", {"provider": "cuda", "provider_options": {"device_id": "0"}}),
        ("cuda:3", {"provider": "cuda", "provider_options": {"device_id": "3"}}),
    ],
)
def test_devices(device, expected):
    assert load_options_for(device) == expected


# --- The tokenizer --------------------------------------------------------------------------------


def test_the_bundles_own_tokenizer_is_taken_in_every_form(tiny_bundle):
    own = Tokenizer.from_file(str(tiny_bundle / "tokenizer.json"))
    own.enable_truncation(8)
    for tokenizer in (tiny_bundle, str(tiny_bundle), own, SimpleNamespace(backend_tokenizer=own), "tiny-qa"):
        pipeline(TASK, model=tiny_bundle, tokenizer=tokenizer, device=-1).close()
    assert own.truncation is not None


@pytest.mark.parametrize(
    ("tokenizer", "named"),
    [
        (MINILM, "makes other tokens"),
        ("owner/other", "the bundle's is that of 'tiny-qa'"),
        (object(), "must be a fast tokenizer"),
        (("name", {}), "must be a fast tokenizer"),
    ],
    ids=["another's folder", "another's id", "no tokenizer", "a tuple"],
)
def test_another_tokenizer_is_refused(tiny_bundle, tokenizer, named):
    with pytest.raises(InputError, match=named):
        pipeline(TASK, model=tiny_bundle, tokenizer=tokenizer)


def test_a_damaged_tokenizer_is_named(tiny_bundle, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as a tokenizer"):
        pipeline(TASK, model=tiny_bundle, tokenizer=tmp_path)


# --- Checkpoints ----------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch, little_verification):
    """An empty cache, and exports that spend nothing on parity: the weights are random."""
    pytest.importorskip("onnx")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fastspan" / "bundles"


def test_a_checkpoint_is_exported_once_with_one_line(tiny_checkpoint, tmp_path, cache, nlp, capsys):
    checkpoint = tmp_path / "mine"
    shutil.copytree(tiny_checkpoint, checkpoint)
    with pipeline(TASK, model=checkpoint, tokenizer=checkpoint, device=-1) as made:
        assert made(ONE) == nlp(ONE)
    (folder,) = cache.glob("*-*")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"fastspan: exporting {checkpoint}, once, to {folder}\n"
    with pipeline(TASK, model=str(checkpoint), device=-1) as made:
        assert made(ONE) == nlp(ONE)
    assert capsys.readouterr().err == ""
    # A damaged bundle is made anew.
    (folder / "tokenizer.json").unlink()
    with pipeline(TASK, model=checkpoint, device=-1) as made:
        assert made(ONE) == nlp(ONE)
    # Other content is another checkpoint.
    config = checkpoint / "config.json"
    config.write_text(config.read_text().replace("{", '{"note": "changed", ', 1))
    pipeline(TASK, model=checkpoint, device=-1).close()
    assert len(list(cache.glob("*-*"))) == 2


@pytest.mark.parametrize(
    ("variant", "made"), [("fp32", ("fp32",)), ("fp16", ("fp32", "fp16")), ("auto", ("fp32", "int8"))]
)
def test_an_export_makes_what_is_to_run(tiny_checkpoint, cache, monkeypatch, variant, made):
    asked = []

    def export(source, out, options, *, progress):
        asked.append(options.variants)
        with progress.bar("", 1) as step:
            step()
        progress.stage("")
        return SimpleNamespace(bundle=SimpleNamespace(folder=out))

    monkeypatch.setattr("fastspan.export.on_demand.export", export)
    folder, revision = checkpoints.bundle_of(tiny_checkpoint, None, variant)
    assert asked == [made]
    assert folder.parent == cache
    assert revision is None


def test_without_the_export_extra_one_sentence_says_so(tiny_checkpoint, tmp_path):
    code = f"""
import sys
sys.modules["onnx"] = None
from fastspan.adapters.transformers_pipeline import pipeline
pipeline("question-answering", model={str(tiny_checkpoint)!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("fastspan.errors.MissingDependency: ")
    assert last.endswith("run pip install 'fastspan[export]', or give the folder of a bundle.")
    assert not list(Path(tmp_path).rglob("*.onnx"))


def test_without_a_home_folder_one_sentence_says_so(tiny_checkpoint, monkeypatch):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(BundleError, match="set XDG_CACHE_HOME"):
        checkpoints.bundle_of(tiny_checkpoint, None, "fp32")


def test_haystacks_reader_names_its_extra():
    code = "import sys; sys.modules['haystack'] = None; import fastspan.adapters.haystack"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "pip install 'fastspan[haystack]'" in done.stderr.strip().splitlines()[-1]
    assert issubclass(MissingDependency, ImportError)


# --- Hub ids --------------------------------------------------------------------------------------


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_hub_id_may_be_a_bundles(tiny_bundle, tmp_path, monkeypatch, nlp):
    pytest.importorskip("huggingface_hub")
    with serve(Hub(files={MAIN: files_of(tiny_bundle)})) as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path)
        with pipeline(TASK, model=ID, tokenizer=ID, revision="main", device=-1) as made:
            assert made(ONE) == nlp(ONE)


def test_a_hub_id_may_be_a_checkpoints(tiny_checkpoint, tmp_path, cache, monkeypatch, nlp, capsys):
    pytest.importorskip("huggingface_hub")
    with serve(Hub(files={MAIN: files_of(tiny_checkpoint)})) as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path / "hub")
        for exports in (1, 0):
            with pipeline(TASK, model=ID, tokenizer=ID, device=-1) as made:
                assert made(ONE) == nlp(ONE)
            assert capsys.readouterr().err.count("fastspan: exporting owner/tiny-qa at ") == exports
    (folder,) = cache.glob("*")
    assert folder.name == "owner--tiny-qa"


def test_a_hub_id_of_something_else_says_so(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    with serve(Hub(files={MAIN: {"README.md": b"# A data set"}})) as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path)
        with pytest.raises(BundleError, match=r"holds neither fastspan\.json nor config\.json"):
            pipeline(TASK, model=ID)
