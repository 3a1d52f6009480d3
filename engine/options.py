"""Options: frozen, keyword-only, checked when they are made, so that no wrong value travels inward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypedDict, get_args

from fastspan.errors import InputError
from fastspan.option_values import flag, is_number, one_of, shown, text_or_none, whole

__all__ = [
    "AnswerOptions",
    "AnswerOverrides",
    "Decoding",
    "LoadOptions",
    "LoadOverrides",
    "OptimizeFor",
    "is_number",
    "shown",
]

Decoding = Literal["squad", "pipeline"]
OptimizeFor = Literal["latency", "throughput"]

_RUN_SQUAD_WINDOW = (384, 128)
_MOST_THREADS = 1 << 15

# What a call takes beside its options, for the message that refuses what is neither.
_OWN_ARGUMENTS = {
    "answer": ("question", "context", "timeout", "options"),
    "answer_many": ("pairs", "on_error", "options"),
    "read": ("question", "passages", "retriever_scores", "timeout", "options"),
    "read_many": ("sets", "on_error", "options"),
    "load": ("source", "revision", "options"),
}


def _known(call: str, options: AnswerOptions | LoadOptions, changes: Mapping[str, Any]) -> None:
    known = [f.name for f in fields(options)]
    for name in changes:
        if name not in known:
            raise InputError(
                f"{shown(name)} is not an option of {call}(); the options are {', '.join(known)}, and its "
                f"other arguments are {', '.join(_OWN_ARGUMENTS[call])}."
            )


def _check_window(max_length: int, overlap: int) -> None:
    if overlap >= max_length:
        raise InputError(
            f"overlap ({overlap}) must be smaller than max_length ({max_length}): "
            "neighbouring windows have to differ."
        )


class AnswerOverrides(TypedDict, total=False):
    """The keyword arguments of ``answer``, ``read`` and their like for many; see ``AnswerOptions``."""

    top_k: int
    max_answer_length: int | None
    n_best: int
    max_length: int | None
    overlap: int | None
    max_windows: int | None
    max_question_length: int | None
    decoding: Decoding
    no_answer_threshold: float | None
    align_to_words: bool
    handle_impossible_answer: bool
    truncate_question: bool
    domain: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """How a question is answered.

    Attributes:
        top_k: How many distinct spans ``Prediction.answers`` holds at most.
        max_answer_length: Longest answer, in tokens. None: what the decoding's reference uses,
            30 for ``squad`` and 15 for ``pipeline``.
        n_best: ``squad`` decoding: a span starts at one of the window's ``n_best`` best start
            tokens and ends at one of its ``n_best`` best end tokens, as in ``run_squad``.
        max_length: Longest window, in tokens, question and special tokens included. None: the bundle's.
        overlap: Context tokens that two neighbouring windows share. None: the bundle's. Beside the question,
            windows must advance by at least an eighth of ``max_length``.
        max_windows: Most windows that one question and context may make. None: any number.
        max_question_length: Longest question, in tokens; of a longer one only so many are asked. None: what
            the decoding's reference does, 64 for ``squad``; ``pipeline`` cuts none.
        decoding: ``"squad"`` (run_squad's post-processing) or ``"pipeline"`` (what the
            question-answering pipeline of transformers 4.57 returned).
        no_answer_threshold: ``squad`` decoding: no answer when ``null_score -
            best_span_score`` exceeds it. None: the threshold stored in the bundle.
        align_to_words: ``pipeline`` decoding: widen answers to whole words.
        handle_impossible_answer: ``pipeline`` decoding: let "no answer" compete with the spans.
        truncate_question: Cut a question that leaves its context too little room even so, instead of
            refusing it.
        domain: ``squad`` decoding: which of the bundle's calibrations to use, of those that ``fastspan
            calibrate --domain`` stored. None: the one that was chosen at load.
    """

    top_k: int = 1
    max_answer_length: int | None = None
    n_best: int = 20
    max_length: int | None = None
    overlap: int | None = None
    max_windows: int | None = None
    max_question_length: int | None = None
    decoding: Decoding = "squad"
    no_answer_threshold: float | None = None
    align_to_words: bool = True
    handle_impossible_answer: bool = False
    truncate_question: bool = False
    domain: str | None = None

    def __post_init__(self) -> None:
        for name in ("top_k", "n_best"):
            whole(name, getattr(self, name), 1)
        for name in ("max_answer_length", "max_length", "overlap", "max_windows", "max_question_length"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), 0 if name == "overlap" else 1)
        if self.max_length is not None and self.overlap is not None:
            _check_window(self.max_length, self.overlap)
        one_of("decoding", self.decoding, get_args(Decoding))
        for name in ("align_to_words", "handle_impossible_answer", "truncate_question"):
            flag(name, getattr(self, name))
        threshold = self.no_answer_threshold
        if threshold is not None and not is_number(threshold):
            raise InputError(
                f"no_answer_threshold must be a number that a float holds, or None, not {shown(threshold)}."
            )
        text_or_none("domain", self.domain)

    @property
    def span_tokens(self) -> int:
        """Longest answer in tokens, the decoding's own default filled in."""
        if self.max_answer_length is not None:
            return self.max_answer_length
        return 30 if self.decoding == "squad" else 15

    @property
    def question_tokens(self) -> int | None:
        """Longest question in tokens, the decoding's own limit filled in; None: none is cut."""
        if self.max_question_length is not None:
            return self.max_question_length
        return 64 if self.decoding == "squad" else None

    @property
    def window(self) -> tuple[int, int]:
        """``max_length`` and ``overlap``; 384 and 128, as in ``run_squad``, where neither is given.

        Raises:
            InputError: The overlap is not smaller than the window.
        """
        max_length = _RUN_SQUAD_WINDOW[0] if self.max_length is None else self.max_length
        overlap = _RUN_SQUAD_WINDOW[1] if self.overlap is None else self.overlap
        _check_window(max_length, overlap)
        return max_length, overlap

    def within(self, max_length: int, overlap: int) -> AnswerOptions:
        """Return these options with a bundle's window filled in where they leave it open.

        Raises:
            InputError: The overlap is not smaller than the window then.
        """
        if self.max_length is not None and self.overlap is not None:
            return self
        return replace(
            self,
            max_length=max_length if self.max_length is None else self.max_length,
            overlap=overlap if self.overlap is None else self.overlap,
        )

    def override(self, changes: Mapping[str, Any], call: str = "answer") -> AnswerOptions:
        """Return these options with ``changes`` made.

        Args:
            changes: Fields and their values.
            call: The method they were given to, for messages.

        Raises:
            InputError: A name is unknown or a value is unusable.
        """
        if not changes:
            return self
        _known(call, self, changes)
        return replace(self, **changes)


class LoadOverrides(TypedDict, total=False):
    """The keyword arguments of ``load``; see ``LoadOptions``."""

    variant: str
    provider: str
    provider_options: Mapping[str, str]
    optimize_for: OptimizeFor
    threads: int | None
    spinning: bool | None
    token_budget: int
    gpu_memory_limit: int | None
    profile: bool
    kernels: bool
    domain: str | None
    widen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a bundle is loaded and run.

    Attributes:
        variant: ``"fp32"``, ``"fp16"``, ``"int8"`` or ``"auto"``: what suits provider and CPU best.
        provider: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"tensorrt"`` … or the full name of an
            ONNX Runtime execution provider. What is asked for is what runs.
        provider_options: Passed to the execution provider as they are; each goes before FastSpan's own
            choice for that provider.
        optimize_for: ``"latency"``: one run at a time on all threads. ``"throughput"``: runs of one
            thread each, as many at once as there are threads; with FastSpan's own kernels, a run that begins
            while no other is under way has all threads too, unless ``widen`` is off.
        threads: Threads to compute with; None: what the profile says, else the cores this process may use.
        spinning: Let idle threads spin. Lower latency, busier cores. None: what the profile says, else on for
            latency.
        token_budget: Most tokens in one batch, where batches are padded or packed (GPU).
        gpu_memory_limit: Bytes that the provider may take on an NVIDIA GPU; None: all there are. A batch that
            does not fit is run again in halves.
        profile: Use what ``fastspan tune`` measured on this machine, where it did; ``Info.profile`` says
            whether. What is given here goes before it.
        kernels: Run int8 on a CPU with FastSpan's own kernels, where they were compiled and the bundle has a
            graph for them; ``Info.reason`` says whether.
        domain: Which of the bundle's calibrations calls use that name none themselves; None: the bundle's
            general one.
        widen: See ``optimize_for``. Off, sessions for throughput have no threads of their own, which forked
            processes would lack.
    """

    variant: str = "auto"
    provider: str = "auto"
    provider_options: Mapping[str, str] = field(default_factory=dict)
    optimize_for: OptimizeFor = "latency"
    threads: int | None = None
    spinning: bool | None = None
    token_budget: int = 16384
    gpu_memory_limit: int | None = None
    profile: bool = True
    kernels: bool = True
    domain: str | None = None
    widen: bool = True

    def __post_init__(self) -> None:
        for name in ("variant", "provider"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} must be a string, not {shown(getattr(self, name))}.")
        if not isinstance(self.provider_options, Mapping):
            raise InputError(f"provider_options must be a mapping, not {shown(self.provider_options)}.")
        for item in self.provider_options.items():
            if not all(isinstance(part, str) for part in item):
                raise InputError(
                    f"provider_options must map strings to strings, not {shown(item[0])} to {shown(item[1])}."
                )
        one_of("optimize_for", self.optimize_for, get_args(OptimizeFor))
        if self.threads is not None:
            whole("threads", self.threads, 1, _MOST_THREADS)
        if self.spinning is not None:
            flag("spinning", self.spinning)
        whole("token_budget", self.token_budget, 1)
        if self.gpu_memory_limit is not None:
            whole("gpu_memory_limit", self.gpu_memory_limit, 1)
        flag("profile", self.profile)
        flag("kernels", self.kernels)
        flag("widen", self.widen)
        text_or_none("domain", self.domain)

    def override(self, changes: Mapping[str, Any]) -> LoadOptions:
        """Return these options with ``changes`` made.

        Raises:
            InputError: A name is unknown or a value is unusable.
        """
        _known("load", self, changes)
        return replace(self, **changes)
