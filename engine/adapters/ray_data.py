"""Ray Data: a dataset of questions and contexts to one of answers, by actors that each hold an answerer.

``fastspan bulk --engine ray`` is for files; this is for a pipeline that is made of Ray Data already.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from fastspan.bulk.answering import ANSWER_FIELDS, answer_pairs
from fastspan.bulk.columns import Columns
from fastspan.bulk.engines import Work
from fastspan.errors import InputError, MissingDependency
from fastspan.options import AnswerOptions, LoadOptions, shown

__all__ = ["FAULT", "answer_dataset"]

FAULT = "fault"
"""The column that says why a row has no answer; null where it was answered."""

_BATCH_ROWS = 256


def answer_dataset(
    ds: Any,
    bundle: str,
    *,
    question: str | None = "question",
    context: str = "context",
    ask: str | None = None,
    prefix: str = "",
    workers: int = 1,
    threads: int = 1,
    gpus: float = 0,
    load: Mapping[str, Any] | None = None,
    answer: Mapping[str, Any] | None = None,
) -> Any:
    """Answer every row of a dataset.

    It is lazy, as Ray Data is: nothing runs until rows are taken or written. A row that cannot be answered is
    kept, with the reason in ``fault``. An actor that is lost with its node begins again on another, and Ray
    gives its batch to one of them again; no row is lost or doubled.

    Args:
        ds: A ``ray.data.Dataset``.
        bundle: The bundle's folder, at the same place on every node, or a hub id.
        question: The column of the questions; not looked at where ``ask`` is given.
        context: The column of the texts that may hold the answers.
        ask: One question for all rows; None: each has its own.
        prefix: What the names of the added columns begin with.
        workers: How many actors.
        threads: Threads that each computes with, and CPUs that it takes of the cluster.
        gpus: GPUs that each takes of the cluster; with any, the provider is ``"cuda"`` unless ``load`` says
            another.
        load: Fields of ``LoadOptions``, such as ``{"variant": "int8"}``. Name the variant where nodes differ:
            of its own each takes what suits its CPU, and answers would differ.
        answer: Fields of ``AnswerOptions``, such as ``{"no_answer_threshold": 0.0}``.

    Returns:
        The dataset with the columns ``answer``, ``start``, ``end``, ``score``, ``confidence``,
        ``null_score``, ``best_span_score`` and ``fault``, in the order in which Ray yields rows.

    Raises:
        InputError: An option is unusable.
        MissingDependency: Ray Data is not installed.
    """
    try:
        data = import_module("ray.data")
    except ImportError as error:
        raise MissingDependency("Ray Data is not installed: run pip install 'fastspan[ray]'.") from error
    if not isinstance(ds, data.Dataset):
        raise InputError(f"ds must be a ray.data.Dataset, not {type(ds).__name__}.")
    for name, value in (("workers", workers), ("threads", threads)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number of at least 1, not {shown(value)}.")
    if question is None and ask is None:
        raise InputError("name the column of questions, or one question for all rows with ask=.")
    loading: dict[str, Any] = {"threads": threads, **({"provider": "cuda"} if gpus else {}), **(load or {})}
    # A wrong option is told here, and not by every actor.
    LoadOptions().override(loading)
    AnswerOptions().override(answer or {})
    return ds.map_batches(
        _Answering,
        fn_constructor_kwargs={
            "work": Work(bundle=str(bundle), load=loading, answer=dict(answer or {})),
            "columns": Columns(question=question or "", context=context, ask=ask, prefix=prefix),
        },
        batch_format="pyarrow",
        batch_size=_BATCH_ROWS,
        compute=data.ActorPoolStrategy(size=workers),
        num_cpus=threads,
        num_gpus=gpus,
    )


class _Answering:
    """An actor's answerer: a table in, the table with its answers out."""

    def __init__(self, work: Work, columns: Columns) -> None:
        self._arrow = import_module("pyarrow")
        self._columns, self._options = columns, work.answer
        self._qa = work.loaded()

    def __call__(self, table: Any) -> Any:
        """Answer a batch."""
        added = [self._columns.prefix + name for name in (*ANSWER_FIELDS, FAULT)]
        if taken := sorted({*added} & {*table.column_names}):
            raise InputError(f"the dataset has a column {taken[0]!r} already: give the answers' a prefix.")
        missing = [name for name in self._columns.needed if name not in table.column_names]
        if missing:
            raise InputError(
                f"the dataset lacks the column {missing[0]!r}, and has {', '.join(table.column_names)}."
            )
        used = {name: table.column(name).to_pylist() for name in self._columns.needed}
        pairs = [
            self._columns.pair(dict(zip(used, values, strict=True)))
            for values in zip(*used.values(), strict=True)
        ]
        usable = [pair for pair in pairs if not isinstance(pair, str)]
        answered = answer_pairs(self._qa, usable, self._options)
        results = [pair if isinstance(pair, str) else next(answered) for pair in pairs]
        nothing = (None,) * len(ANSWER_FIELDS)
        rows = [(*nothing, result) if isinstance(result, str) else (*result, None) for result in results]
        for n, name in enumerate(added):
            column = self._arrow.array([row[n] for row in rows], self._type(n))
            table = table.append_column(name, column)
        return table

    def _type(self, n: int) -> Any:
        name = (*ANSWER_FIELDS, FAULT)[n]
        if name in ("answer", FAULT):
            return self._arrow.string()
        return self._arrow.int64() if name in ("start", "end") else self._arrow.float64()
