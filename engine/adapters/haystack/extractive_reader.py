"""A Haystack component with the parameters and results of ``TransformersExtractiveReader``."""

# No annotations from __future__: Haystack reads them from the signature, where they must be types.

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from haystack import Document, ExtractedAnswer, component, default_from_dict, default_to_dict
from haystack.utils import ComponentDevice, Secret, deserialize_secrets_inplace
from haystack_integrations.components.readers.fastspan.documents import page_of, with_text
from haystack_integrations.components.readers.fastspan.parameters import (
    check,
    check_for_good,
    in_the_readers_names,
    load_options,
    require_known,
)

from fastspan.adapters.checkpoints import bundle_of
from fastspan.answerer import QuestionAnswerer
from fastspan.decoding.window_spans import best_apart, decode_windows
from fastspan.errors import InputError
from fastspan.loading import load_bundle
from fastspan.options import AnswerOptions
from fastspan.results import Answer

__all__ = ["FastSpanExtractiveReader"]

_loading = Lock()

_ANSWERS_PER_SEQ = 20


@component
class FastSpanExtractiveReader:
    """Finds the spans of documents that answer a query.

    It takes the place of ``TransformersExtractiveReader``: the same parameters, the same answers. Its model
    is told question and document apart by segment ids, which that reader leaves out; ``segment_ids=False``
    leaves them out here too, and gives its scores.

    Example:
        >>> reader = FastSpanExtractiveReader("models/exported/minilm-l6-squad2")  # doctest: +SKIP
        >>> found = reader.run(query="Who wrote it?", documents=[Document(content="Ada wrote it.")])
        >>> found["answers"][0].data
        'Ada'
    """

    def __init__(
        self,
        model: Path | str = "deepset/roberta-base-squad2-distilled",
        device: ComponentDevice | None = None,
        token: Secret | None = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False),  # noqa: B008
        top_k: int = 20,
        score_threshold: float | None = None,
        max_seq_length: int = 384,
        stride: int = 128,
        max_batch_size: int | None = None,
        answers_per_seq: int | None = None,
        no_answer: bool = True,
        calibration_factor: float = 0.1,
        overlap_threshold: float | None = 0.01,
        model_kwargs: dict[str, Any] | None = None,
        segment_ids: bool = True,
    ) -> None:
        """Take the parameters; ``warm_up``, or the first run, loads the model.

        Args:
            model: A bundle's folder, a hub id, or a checkpoint's folder, which is exported once into the
                user's cache; that takes the extra ``export``.
            device: Where to run; None: on an NVIDIA GPU where the runtime has it, else on the CPU.
            token: For private models on the hub.
            top_k: Most answers, beside the one that says there is none.
            score_threshold: Least score of an answer; None: any, as with 0.
            max_seq_length: Longest window in tokens; a longer document makes several.
            stride: Tokens that neighbouring windows share.
            max_batch_size: Taken for compatibility. Batches are formed inside, and no answer depends on them.
            answers_per_seq: Candidates of each window; None: 20.
            no_answer: Add an answer without text whose score is the probability that all others are wrong.
            calibration_factor: A score is the logistic function of this times start logit + end logit.
            overlap_threshold: Of two answers from one document, the worse is dropped where they overlap by
                more than this share of the shorter one; None: none is, as with 1.
            model_kwargs: Fields of FastSpan's ``LoadOptions``, such as ``{"variant": "auto", "threads": 2}``.
                Without a variant, fp32 runs, as in the other reader.
            segment_ids: Tell the model question and document apart, as it was trained. False: give what the
                other reader gives, which does not.

        Raises:
            InputError: A parameter is unusable.
        """
        self.model = str(model)
        self.device = device
        self.token = token
        self.model_kwargs = dict(model_kwargs or {})
        self.calibration_factor = calibration_factor
        self.segment_ids = segment_ids
        self.defaults: dict[str, Any] = {
            "top_k": top_k,
            "score_threshold": score_threshold,
            "max_seq_length": max_seq_length,
            "stride": stride,
            "max_batch_size": max_batch_size,
            "answers_per_seq": answers_per_seq,
            "no_answer": no_answer,
            "overlap_threshold": overlap_threshold,
        }
        self._answerer: QuestionAnswerer | None = None
        check(self.defaults)
        check_for_good(calibration_factor, segment_ids)
        self._load_options = load_options(device, self.model_kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return the component as built-in types, for a pipeline's YAML."""
        data: dict[str, Any] = default_to_dict(
            self,
            model=self.model,
            device=None if self.device is None else self.device.to_dict(),
            token=None if self.token is None else self.token.to_dict(),
            **self.defaults,
            calibration_factor=self.calibration_factor,
            model_kwargs=self.model_kwargs,
            segment_ids=self.segment_ids,
        )
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FastSpanExtractiveReader":
        """Make the component that ``to_dict`` was called on."""
        parameters = dict(data.get("init_parameters", {}))
        deserialize_secrets_inplace(parameters, keys=["token"])
        if isinstance(device := parameters.get("device"), dict):
            parameters["device"] = ComponentDevice.from_dict(device)
        made: FastSpanExtractiveReader = default_from_dict(cls, {**data, "init_parameters": parameters})
        return made

    def warm_up(self) -> None:
        """Load the model, unless it is loaded.

        Raises:
            FastSpanError: It cannot be; the message says why.
        """
        with _loading:
            if self._answerer is not None:
                return
            if not Path(self.model).exists():
                require_known(self.token)
            source, revision = bundle_of(self.model, None, self._load_options.variant)
            loaded = load_bundle(source, revision, self._load_options)
            if not self.segment_ids:
                loaded = replace(loaded, encoder=loaded.encoder.without_segment_ids())
            self._answerer = QuestionAnswerer(loaded)

    @component.output_types(answers=list[ExtractedAnswer])  # type: ignore[untyped-decorator]
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        max_seq_length: int | None = None,
        stride: int | None = None,
        max_batch_size: int | None = None,
        answers_per_seq: int | None = None,
        no_answer: bool | None = None,
        overlap_threshold: float | None = None,
    ) -> dict[str, list[ExtractedAnswer]]:
        """Answer a query from documents. For parameters that are None, the constructor's hold.

        Args:
            query: What is asked.
            documents: Where to look. One without text gives no answer, and a warning.
            top_k: See the constructor, as for all that follow.
            score_threshold: 0 keeps every answer.
            max_seq_length: In tokens.
            stride: In tokens; 0: windows do not overlap.
            max_batch_size: Without effect.
            answers_per_seq: Candidates of each window.
            no_answer: Add an answer without text.
            overlap_threshold: 1 keeps every answer.

        Returns:
            ``{"answers": …}``: best first. ``document_offset`` counts code points of the document's content;
            ``meta["answer_page_number"]`` is there where the document's ``meta`` holds a ``page_number``.

        Raises:
            InputError: The query is blank, or a parameter is unusable.
            InferenceError: ONNX Runtime failed.
        """
        given = {
            "top_k": top_k,
            "score_threshold": score_threshold,
            "max_seq_length": max_seq_length,
            "stride": stride,
            "max_batch_size": max_batch_size,
            "answers_per_seq": answers_per_seq,
            "no_answer": no_answer,
            "overlap_threshold": overlap_threshold,
        }
        chosen = {**self.defaults, **{name: value for name, value in given.items() if value is not None}}
        check(chosen)
        if not documents:
            return {"answers": []}
        spans = self._spans(query, with_text(documents), chosen)
        best = best_apart(spans, lambda document: document.id, chosen["overlap_threshold"], chosen["top_k"])
        answers = [self._answer(query, document, span) for document, span in best]
        if chosen["no_answer"]:
            wrong = math.prod(1 - answer.score for answer in answers)
            answers.append(ExtractedAnswer(query=query, score=wrong, data=None, document=None, meta={}))
            answers.sort(key=lambda answer: -answer.score)
        least = chosen["score_threshold"]
        return {"answers": [answer for answer in answers if least is None or answer.score >= least]}

    @component.output_types(answers=list[ExtractedAnswer])  # type: ignore[untyped-decorator]
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        max_seq_length: int | None = None,
        stride: int | None = None,
        max_batch_size: int | None = None,
        answers_per_seq: int | None = None,
        no_answer: bool | None = None,
        overlap_threshold: float | None = None,
    ) -> dict[str, list[ExtractedAnswer]]:
        """Do as ``run``, in a thread, so that the event loop goes on."""
        found: dict[str, list[ExtractedAnswer]] = await asyncio.to_thread(
            self.run,
            query,
            documents,
            top_k,
            score_threshold,
            max_seq_length,
            stride,
            max_batch_size,
            answers_per_seq,
            no_answer,
            overlap_threshold,
        )
        return found

    def _spans(
        self, query: str, documents: Sequence[Document], chosen: dict[str, Any]
    ) -> list[tuple[Document, Answer]]:
        """Return every window's best spans, each with its document."""
        self.warm_up()
        assert self._answerer is not None
        per_window = chosen["answers_per_seq"] or _ANSWERS_PER_SEQ
        pairs = [(query, document.content or "") for document in documents]
        try:
            options = AnswerOptions(
                decoding="pipeline",  # whose questions are not cut at 64 tokens
                max_length=chosen["max_seq_length"],
                overlap=chosen["stride"],
                truncate_question=True,
            )
            found = self._answerer.decode_many(
                pairs, lambda of, starts, ends: decode_windows(of, starts, ends, per_window), options=options
            )
            return [(document, span) for document, of in zip(documents, found, strict=True) for span in of]
        except InputError as error:
            raise InputError(in_the_readers_names(str(error))) from error

    def _answer(self, query: str, document: Document, span: Answer) -> ExtractedAnswer:
        return ExtractedAnswer(
            query=query,
            score=_logistic(self.calibration_factor * span.score),
            data=span.text,
            document=document,
            document_offset=ExtractedAnswer.Span(span.start, span.end),
            meta=page_of(document, span.start),
        )


def _logistic(value: float) -> float:
    """Return 1 / (1 + exp(-value)), without overflow."""
    power = math.exp(-abs(value))
    return (1 if value >= 0 else power) / (1 + power)
