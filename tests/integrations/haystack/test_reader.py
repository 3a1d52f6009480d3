"""The Haystack reader in real pipelines, and beside the reader that it takes the place of."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from pathlib import Path

import pytest

from fastspan import BundleError, InputError
from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.questions.workloads import spread
from fastspan.benchmarks.studies.haystack_reader import ask, compare, documents_of
from support.paths import EXPORTED_MINILM, MINILM, SQUAD_PART

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
pytest.importorskip("haystack")
pytest.importorskip("haystack_integrations.components.readers.fastspan")

from haystack import Document, ExtractedAnswer, Pipeline
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice, Device, DeviceMap, Secret
from haystack_integrations.components.readers.fastspan import FastSpanExtractiveReader

import fastspan.adapters.haystack

WHO = "Who led the raiders?"
NORMANS = Document(
    content="The Normans descended from Norse raiders who, under their leader Rollo, swore fealty to King "
    "Charles III."
)
LOVELACE = Document(
    content="Ada Lovelace wrote notes on the engine.\fHer program was published in 1843.",
    meta={"page_number": 3},
)
DOCUMENTS = [NORMANS, LOVELACE]


@pytest.fixture(scope="module")
def reader(bundled_bundle):
    return FastSpanExtractiveReader(bundled_bundle, device=ComponentDevice.from_str("cpu"))


def texts(found):
    return [answer.data for answer in found["answers"]]


def places(found):
    return [(answer.data, answer.document_offset, answer.score) for answer in found["answers"]]


# --- In pipelines ---------------------------------------------------------------------------------


@pytest.fixture
def pipeline(bundled_bundle):
    store = InMemoryDocumentStore()
    store.write_documents(DOCUMENTS)
    made = Pipeline()
    made.add_component("retriever", InMemoryBM25Retriever(document_store=store))
    made.add_component("reader", FastSpanExtractiveReader(bundled_bundle, top_k=3))
    made.connect("retriever.documents", "reader.documents")
    return made


def of(query, **parameters):
    return {"retriever": {"query": query}, "reader": {"query": query, **parameters}}


def test_it_reads_what_a_retriever_finds(pipeline):
    answers = pipeline.run(of(WHO, top_k=2))["reader"]["answers"]
    assert answers[0].data == "Rollo"
    assert answers[0].document.content == NORMANS.content
    assert len(answers) == 3
    found = pipeline.run(of("When was the program published?"))["reader"]["answers"][0]
    assert (found.data, found.meta) == ("1843", {"answer_page_number": 4})


def test_a_pipeline_is_written_and_read_back(pipeline):
    text = pipeline.dumps()
    assert "haystack_integrations.components.readers.fastspan.extractive_reader.FastSpan" in text
    again = Pipeline.loads(text)
    assert again.dumps() == text
    component = again.get_component("reader")
    assert component.defaults["top_k"] == 3
    # The store's documents are not written; the readers have the same ones.
    assert places(component.run(WHO, DOCUMENTS)) == places(
        pipeline.get_component("reader").run(WHO, DOCUMENTS)
    )


def test_every_parameter_is_written_and_read_back():
    parameters = {
        "model": "some/bundle",
        "device": ComponentDevice.from_str("cpu"),
        "token": Secret.from_env_var("MY_TOKEN", strict=False),
        "top_k": 5,
        "score_threshold": 0.1,
        "max_seq_length": 200,
        "stride": 0,
        "max_batch_size": 4,
        "answers_per_seq": 7,
        "no_answer": False,
        "calibration_factor": 0.2,
        "overlap_threshold": None,
        "model_kwargs": {"variant": "int8", "threads": 1},
        "segment_ids": False,
    }
    made = FastSpanExtractiveReader(**parameters)
    data = made.to_dict()
    assert set(data["init_parameters"]) == set(parameters)
    again = FastSpanExtractiveReader.from_dict(data)
    assert again.to_dict() == data
    assert again.device == parameters["device"]
    assert again.token == parameters["token"]
    assert (again.defaults["overlap_threshold"], again.defaults["stride"]) == (None, 0)


def test_it_runs_beside_an_event_loop(pipeline, reader):
    async def both():
        whole = await pipeline.run_async(of(WHO))
        alone = await reader.run_async(query=WHO, documents=DOCUMENTS, top_k=2)
        return whole["reader"]["answers"][0].data, alone

    first, alone = asyncio.run(both())
    assert first == "Rollo"
    assert places(alone) == places(reader.run(WHO, DOCUMENTS, top_k=2))


def test_warming_up_is_harmless_and_loads_once(bundled_bundle, monkeypatch):
    loads = []
    module = "haystack_integrations.components.readers.fastspan.extractive_reader"
    real = __import__(module, fromlist=["load_bundle"]).load_bundle
    monkeypatch.setattr(f"{module}.load_bundle", lambda *given: loads.append(given) or real(*given))
    made = FastSpanExtractiveReader(bundled_bundle)
    assert not loads
    threads = [threading.Thread(target=made.warm_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.warm_up()
    assert texts(made.run(WHO, DOCUMENTS))[0] == "Rollo"
    assert len(loads) == 1


def test_it_is_one_class_by_either_name():
    assert fastspan.adapters.haystack.FastSpanExtractiveReader is FastSpanExtractiveReader


# --- Parameters -----------------------------------------------------------------------------------


def test_the_example_of_deepsets_model_cards(reader):
    documents = [
        Document(content="Python is a popular programming language"),
        Document(content="python ist eine beliebte Programmiersprache"),
    ]
    found = reader.run(query="What is a popular programming language?", documents=documents)
    assert "Python" in found["answers"][0].data


def test_what_an_answer_holds(reader):
    (answer, none) = reader.run(WHO, DOCUMENTS, top_k=1)["answers"]
    assert answer == ExtractedAnswer(
        query=WHO,
        score=answer.score,
        data="Rollo",
        document=NORMANS,
        document_offset=ExtractedAnswer.Span(65, 70),
        meta={},
    )
    assert 0.5 < answer.score < 1
    assert none == ExtractedAnswer(query=WHO, score=1 - answer.score, data=None, document=None, meta={})


def test_no_answer_is_the_probability_that_all_others_are_wrong(reader):
    *_, none = sorted(reader.run(WHO, DOCUMENTS)["answers"], key=lambda answer: answer.data is None)
    others = reader.run(WHO, DOCUMENTS, no_answer=False)["answers"]
    assert none.score == pytest.approx(math.prod(1 - answer.score for answer in others))
    assert None not in texts({"answers": others})


def test_zero_and_one_override_the_constructors_thresholds(bundled_bundle):
    strict = FastSpanExtractiveReader(bundled_bundle, score_threshold=0.99, no_answer=False)
    assert strict.run(WHO, DOCUMENTS) == {"answers": []}
    everything = strict.run(WHO, DOCUMENTS, score_threshold=0)
    assert everything["answers"]
    overlapping = strict.run(WHO, DOCUMENTS, score_threshold=0, overlap_threshold=1)
    assert len(overlapping["answers"]) > len(everything["answers"])
    apart = FastSpanExtractiveReader(bundled_bundle, overlap_threshold=None, no_answer=False)
    assert places(apart.run(WHO, DOCUMENTS)) == places(overlapping)


def test_documents_without_text(reader, caplog):
    empty = [Document(content=None, id="none"), Document(content="", id="empty"), Document(content=" ")]
    assert places(reader.run(WHO, [*empty, *DOCUMENTS])) == places(reader.run(WHO, DOCUMENTS))
    assert "Document none holds no text" in caplog.text
    (none,) = reader.run(WHO, empty)["answers"]
    assert (none.data, none.score) == (None, 1.0)
    assert reader.run(WHO, []) == {"answers": []}


def test_two_documents_of_one_id_keep_their_own_answers(reader):
    pair = [Document(id="same", content=NORMANS.content), Document(id="same", content="It was Ada who led.")]
    for answer in reader.run(WHO, pair, no_answer=False)["answers"]:
        offset = answer.document_offset
        assert answer.document.content[offset.start : offset.end] == answer.data


def test_long_documents_make_windows(reader):
    long = Document(content=f"{'Nothing of note happened that year. ' * 200}{NORMANS.content}")
    found = reader.run(WHO, [long], max_seq_length=128, stride=32)["answers"][0]
    assert found.data == "Rollo"
    assert long.content[found.document_offset.start : found.document_offset.end] == "Rollo"


def test_a_page_number_that_is_none_is_left_out(reader, caplog):
    document = Document(content=NORMANS.content, meta={"page_number": "iii"})
    assert reader.run(WHO, [document])["answers"][0].meta == {}
    assert "page_number that is no whole number" in caplog.text


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"top_k": 0}, "top_k must be a whole number from 1 on"),
        ({"answers_per_seq": -1}, "answers_per_seq must be"),
        ({"max_batch_size": 0}, "max_batch_size must be"),
        ({"score_threshold": "high"}, "score_threshold must be a number"),
        ({"no_answer": "yes"}, "no_answer must be True or False"),
        ({"max_seq_length": 10_000}, "max_seq_length is 10000"),
        ({"stride": 400}, r"stride \(400\) must be smaller than max_seq_length"),
        ({"query": " "}, "query is blank"),
    ],
    ids=str,
)
def test_what_a_run_cannot_use_is_named(reader, parameters, named):
    with pytest.raises(InputError, match=named):
        reader.run(**{"query": WHO, "documents": DOCUMENTS, **parameters})


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"model_kwargs": {"torch_dtype": "float16"}}, "'torch_dtype' is not an option of load"),
        ({"calibration_factor": math.nan}, "calibration_factor must be a number"),
        ({"segment_ids": None}, "segment_ids must be True or False"),
        ({"device": ComponentDevice.from_single(Device.mps())}, "device must be"),
        ({"device": ComponentDevice.from_multiple(DeviceMap({"": Device.cpu()}))}, "a single device"),
        ({"top_k": None}, "top_k must be a whole number"),
    ],
    ids=["model_kwargs", "calibration_factor", "segment_ids", "mps", "device map", "top_k"],
)
def test_what_the_constructor_cannot_use_is_named(parameters, named):
    with pytest.raises(InputError, match=named):
        FastSpanExtractiveReader("some/bundle", **parameters)


def test_a_model_that_is_not_there():
    with pytest.raises(BundleError):
        FastSpanExtractiveReader(Path("no/such/bundle")).warm_up()


def test_a_token_that_the_hub_would_not_get_is_refused(monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("MY_TOKEN", "secret")
    made = FastSpanExtractiveReader("owner/private", token=Secret.from_env_var("MY_TOKEN"))
    with pytest.raises(InputError, match="HF_TOKEN") as raised:
        made.warm_up()
    assert "secret" not in str(raised.value)


# --- Beside the other reader ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_reader():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("haystack_integrations.components.readers.transformers")
    torch.set_num_threads(1)
    made = transformers.TransformersExtractiveReader(
        MINILM, model_kwargs={"dtype": torch.float32}, max_batch_size=1
    )
    made.warm_up()
    return made


@pytest.mark.parametrize("data", [None, SQUAD_PART], ids=["own questions", "squad"])
def test_without_segment_ids_the_answers_and_scores_are_the_other_readers(other_reader, data):
    if data is not None and not data.is_file():
        pytest.skip(f"needs {data.name}")
    known = open_data(data).questions
    questions = spread(known, 12)
    documents = [[Document(content=text) for text in documents_of(known, each)] for each in questions]
    ours = FastSpanExtractiveReader(EXPORTED_MINILM, segment_ids=False)
    found = compare(ask(ours, questions, documents), ask(other_reader, questions, documents))
    assert found.equal == found.questions == 12
    assert found.largest < 1e-4
    assert found.answers > 60


@pytest.mark.parametrize(
    "parameters",
    [
        {"top_k": 3, "score_threshold": 0.6},
        {"max_seq_length": 64, "stride": 16, "answers_per_seq": 5},
        {"overlap_threshold": 0.5, "no_answer": False},
    ],
    ids=str,
)
def test_parameters_of_a_run_do_what_they_do_there(other_reader, parameters):
    long = Document(
        content=" ".join([LOVELACE.content, *["Nothing else is known of her."] * 12, NORMANS.content])
    )
    ours = FastSpanExtractiveReader(EXPORTED_MINILM, segment_ids=False)
    documents = [long, *DOCUMENTS]
    found, expected = (each.run(WHO, documents, **parameters)["answers"] for each in (ours, other_reader))
    assert compare([found], [expected]).equal == 1
    assert [a.score for a in found] == pytest.approx([a.score for a in expected], abs=1e-4)


def test_the_other_readers_parameters_are_ours_too():
    import inspect

    transformers = pytest.importorskip("haystack_integrations.components.readers.transformers")
    for method in ("__init__", "run"):
        theirs, ours = (
            inspect.signature(getattr(kind, method)).parameters
            for kind in (transformers.TransformersExtractiveReader, FastSpanExtractiveReader)
        )
        assert list(ours)[: len(theirs)] == list(theirs)
        for name, parameter in theirs.items():
            if name != "token":
                assert ours[name].default == parameter.default, name
