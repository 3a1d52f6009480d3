"""transformers' question-answering pipeline, which its release 5.3 removed, on FastSpan's engine.

    from fastspan.adapters.transformers_pipeline import pipeline

    nlp = pipeline("question-answering", model="models/exported/minilm-l6-squad2")
    nlp(question="Who led the raiders?", context="…")

It takes the call forms and parameters of transformers 4.57.6 and returns what that returned, without
transformers or PyTorch. ``corrected=True`` mends what was wrong with the old one; docs/adapters.md says what.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastspan.adapters.checkpoints import bundle_of
from fastspan.adapters.transformers_pipeline.call_forms import Inputs, read_inputs
from fastspan.adapters.transformers_pipeline.constructor import check_task, load_options, refuse_unusable
from fastspan.adapters.transformers_pipeline.parameters import (
    Parameters,
    read_parameters,
    settle,
)
from fastspan.adapters.transformers_pipeline.same_tokenizer import require_own_tokenizer
from fastspan.answerer import QuestionAnswerer
from fastspan.bundle.source import open_bundle
from fastspan.decoding.normalized import decode_normalized
from fastspan.decoding.pipeline import decode_pipeline
from fastspan.decoding.pipeline_parameters import in_pipeline_names
from fastspan.errors import InputError
from fastspan.options import LoadOptions
from fastspan.results import Answer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["QuestionAnsweringPipeline", "pipeline"]

Found = dict[str, Any] | list[dict[str, Any]]

_NOTHING = Answer("", 0, 0, 0.0)


def pipeline(
    task: str | None = None,
    model: str | os.PathLike[str] | QuestionAnswerer | None = None,
    *,
    tokenizer: Any = None,
    revision: str | None = None,
    device: Any = None,
    device_map: Any = None,
    dtype: Any = None,
    torch_dtype: Any = None,
    variant: str | None = None,
    options: LoadOptions | None = None,
    **parameters: Any,
) -> QuestionAnsweringPipeline:
    """Make a pipeline, as ``transformers.pipeline("question-answering", …)`` did.

    Args:
        task: ``"question-answering"``.
        model: A bundle's folder, a hub id, a checkpoint's folder, or an answerer that is loaded already. A
            checkpoint is exported once, into the user's cache; that takes the extra ``export``.
        tokenizer: Needs not be given. If it is, it must make the tokens that the bundle's own makes.
        revision: With a hub id: branch, tag or commit.
        device: ``-1`` or ``"cpu"``, a GPU's number, ``"cuda"`` or ``"cuda:1"``; None: whichever suits.
        device_map: ``"auto"``, or a device.
        dtype: ``float32`` or ``float16``, of torch or as a string; None or ``"auto"``: fp32.
        torch_dtype: The older name of ``dtype``.
        variant: Which variant runs, instead of ``dtype``: ``"auto"`` takes the fastest here, maybe int8.
        options: How to load, beyond device and precision: ``threads``, ``optimize_for`` …
        **parameters: Parameters of a call, for all calls; and those of transformers' ``pipeline`` that ask
            for nothing else than what happens here.

    Raises:
        InputError: An argument is unknown or unusable.
        BundleError: The model is missing or damaged.
        CheckpointError: The checkpoint cannot be exported.
        ProviderError: The device is not to be had.
        MissingDependency: A checkpoint is to be exported, or a hub reached, and an extra is missing.
    """
    check_task(task)
    defaults = read_parameters(refuse_unusable(parameters))
    if model is None:
        raise InputError("model must be given: a bundle's folder, a hub id or a checkpoint's folder.")
    if isinstance(model, QuestionAnswerer):
        if any(
            given is not None
            for given in (revision, device, device_map, dtype, torch_dtype, variant, options)
        ):
            raise InputError("An answerer was loaded already: say how to load where it is loaded.")
        answerer = model
    else:
        chosen = load_options(
            device=device, device_map=device_map, dtype=dtype, torch_dtype=torch_dtype, variant=variant
        )
        # What the pipeline computed in, unless something else is asked for.
        loading = (options or LoadOptions(variant="fp32")).override(chosen)
        source, commit = bundle_of(model, revision, loading.variant)
        answerer = QuestionAnswerer.load(source, revision=commit, options=loading)
    if tokenizer is not None:
        require_own_tokenizer(tokenizer, model, open_bundle(Path(answerer.info().bundle), None))
    return QuestionAnsweringPipeline(answerer, **defaults)


class QuestionAnsweringPipeline:
    """Answers questions as the pipeline of transformers 4.57.6 did. Many threads may call it at once.

    Args:
        model: A loaded answerer.
        **parameters: Parameters of a call, for all calls.

    Raises:
        InputError: A parameter is unknown or unusable.

    Attributes:
        task: ``"question-answering"``.
        model: The answerer.
    """

    task = "question-answering"

    def __init__(self, model: QuestionAnswerer, **parameters: Any) -> None:
        self.model = model
        self._window = model.info().max_length
        self._defaults = read_parameters(parameters)
        self._settled({})

    def __call__(
        self,
        *inputs: Any,
        question: Any = None,
        context: Any = None,
        data: Any = None,
        X: Any = None,  # noqa: N803 - transformers' name
        **parameters: Any,
    ) -> Any:
        """Answer one question, or many.

        Args:
            *inputs: A dict with ``question`` and ``context``, several, a list of them, a generator or a
                dataset of them, or a question and a context.
            question: A question, or a list of them.
            context: The context; or a list of as many as there are questions, or one for all of them.
            data: As ``inputs``.
            X: As ``inputs``.
            **parameters: ``top_k``, ``doc_stride``, ``max_answer_len``, ``max_seq_len``,
                ``max_question_len``, ``handle_impossible_answer``, ``align_to_words``, ``padding``,
                ``batch_size``, ``num_workers``, ``topk`` (deprecated) and ``corrected``. None: the default.

        Returns:
            ``{"score", "start", "end", "answer"}`` where exactly one answer remains, else a list of those,
            best first; of several questions a list of either. Of a generator or dataset, an iterator that
            answers as it is read. With ``corrected=True`` the arguments alone decide: a list of answers where
            ``top_k`` is above 1, and a list around it where questions came as one.

        Raises:
            InputError: An argument is unknown or unusable; it is a ``ValueError``, and for a missing key a
                ``KeyError`` too.
            InferenceError: ONNX Runtime failed.
            Closed: ``close`` was called before.
        """
        named = {"question": question, "context": context, "data": data, "X": X}
        given = read_inputs(inputs, {name: value for name, value in named.items() if value is not None})
        settled = self._settled(read_parameters(parameters))
        answers = self._answers(given, settled)
        if given.lazy:
            return answers
        found = list(answers)
        return found[0] if given.alone and not (settled.corrected and given.asked_as_list) else found

    def close(self) -> None:
        """Give the model's memory back; see ``QuestionAnswerer.close``."""
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<QuestionAnsweringPipeline of {self.model!r}>"

    def _settled(self, parameters: Mapping[str, Any]) -> Parameters:
        try:
            return settle(self._window, {**self._defaults, **parameters})
        except InputError as error:
            raise InputError(in_pipeline_names(str(error))) from error

    def _answers(self, given: Inputs, settled: Parameters) -> Iterator[Found]:
        decoding = decode_normalized if settled.corrected else decode_pipeline
        options = settled.options

        def decode(pairs: Any, starts: Any, ends: Any) -> Sequence[tuple[Answer, ...]]:
            return decoding(pairs, starts, ends, options)

        try:
            for answers in self.model.decode_many(given.pairs, decode, options=options):
                yield _as_the_pipeline_did(answers, settled)
        except InputError as error:
            raise type(error)(_explained(str(error), given, settled), index=error.index) from error


def _as_the_pipeline_did(answers: Sequence[Answer], settled: Parameters) -> Found:
    top_k = settled.options.top_k
    found = [_to_dict(answer) for answer in answers or _of_nothing(settled)]
    if not settled.corrected:
        return found[0] if len(found) == 1 else found
    return found if top_k > 1 else (found or [_to_dict(_NOTHING)])[0]


def _of_nothing(settled: Parameters) -> Sequence[Answer]:
    """What is answered from a context without tokens.

    Only the classification token is left, so "no answer" has all the probability. The pipeline took that
    token for a span, too.
    """
    none = [Answer("", 0, 0, 1.0)] if settled.options.handle_impossible_answer else []
    return none if settled.corrected else [*none, _NOTHING][: settled.options.top_k]


def _to_dict(answer: Answer) -> dict[str, Any]:
    return {"score": answer.score, "start": answer.start, "end": answer.end, "answer": answer.text}


def _explained(message: str, given: Inputs, settled: Parameters) -> str:
    """Say it in the pipeline's names, and advise what helps here."""
    if given.alone:
        message = re.sub(r"\b(question|context)s\[0\]", r"\1", message)
    message = in_pipeline_names(message)
    advice = r"set max_question_len=(\d+) or truncate_question=True to ask only its first tokens"
    instead = r"set max_question_len=\1" if settled.corrected else r"set corrected=True, max_question_len=\1"
    return re.sub(advice, rf"{instead} to ask only its first tokens", message)
