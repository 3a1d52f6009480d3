"""The parity report for people, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastspan.benchmarks.accuracy.evaluation_table import with_interval
from fastspan.benchmarks.parity.figures import Disagreement, VariantParity
from fastspan.benchmarks.parity.gates import Demand
from fastspan.benchmarks.parity.record import ParityReport
from fastspan.export.publishing.markdown_table import markdown_table

__all__ = ["parity_markdown", "summary_table"]

_VERDICTS = {True: "PASS", False: "FAIL", None: "not judged: too few questions"}


def parity_markdown(report: ParityReport) -> str:
    """Write the whole report."""
    verdict = "every gate that was judged passed" if report.unjudged else "every gate passed"
    if not report.passed:
        verdict = "NOT every gate passed"
    sections = [
        f"# {report.name} against PyTorch on {report.data}",
        f"{report.questions:,} questions ({report.unanswerable:,} without an answer) in {report.windows:,} "
        f"windows: **{verdict}**. Written by `{report.command}`; not edited by hand.",
        *([report.unjudged] if report.unjudged else []),
        summary_table(report),
        "Exact match and F1 are SQuAD 2.0's, in percent; Δ is the difference from PyTorch, in points, with "
        "its paired 95% bootstrap interval. Answers are equal when both systems give the same span, or both "
        f"none. No answer: where null score − best span score exceeds {report.threshold:.4g}. "
        "Questions per second are those of the engine from text to answer while this report was made, on as "
        "many threads as stated below; they are no benchmark.",
        "## Logits",
        _logits_table(report.variants),
        "## Gates",
        _gates(report),
    ]
    if len(report.variants[0].agreements) > 1:
        sections += ["## At other thresholds", _thresholds_table(report.variants)]
    sections += ["## Environment", _table(("", ""), report.environment.items())]
    sections += ["## Worst disagreements", _disagreements(report.variants)]
    return "\n\n".join(sections) + "\n"


def summary_table(report: ParityReport) -> str:
    """Write one row a variant: size, scores, differences, speed, verdict."""
    header = (
        "variant", "size", "EM", "F1", "Δ EM", "Δ F1", "equal answers", "null score, largest difference",
        "questions/s", "gate",
    )  # fmt: skip
    rows = [("PyTorch", "–", f"{report.exact:.2f}", f"{report.f1:.2f}", *("–",) * 6)]
    for parity in report.variants:
        judged = parity.agreements[0]
        rows.append(
            (
                parity.variant,
                f"{parity.bytes / 1e6:.1f} MB",
                f"{judged.exact:.2f}",
                f"{judged.f1:.2f}",
                with_interval(judged.exact_difference, sign=True),
                with_interval(judged.f1_difference, sign=True),
                f"{judged.equal_answers:.2%}",
                f"{parity.null_score_difference:.2g}",
                f"{parity.questions_per_second:.1f}",
                _verdict(report.demands[parity.variant]),
            )
        )
    return _table(header, rows)


def _logits_table(variants: Sequence[VariantParity]) -> str:
    return _table(
        ("variant", "largest difference", "99.9th percentile", "equal best spans", "graph", "provider"),
        (
            (
                parity.variant,
                f"{parity.largest_difference:.2g}",
                f"{parity.difference_999:.2g}",
                f"{parity.equal_spans:.2%}",
                f"`{parity.graph}`",
                parity.providers[0],
            )
            for parity in variants
        ),
    )


def _gates(report: ParityReport) -> str:
    return _table(
        ("variant", "demand", "found", ""),
        (
            (name, demand.wanted, demand.found, _VERDICTS[demand.passed])
            for name, demands in report.demands.items()
            for demand in demands
        ),
    )


def _thresholds_table(variants: Sequence[VariantParity]) -> str:
    return _table(
        ("variant", "threshold", "EM", "F1", "Δ EM", "Δ F1", "equal answers"),
        (
            (
                parity.variant,
                f"{agreement.threshold:.4g}",
                f"{agreement.exact:.2f}",
                f"{agreement.f1:.2f}",
                with_interval(agreement.exact_difference, sign=True),
                with_interval(agreement.f1_difference, sign=True),
                f"{agreement.equal_answers:.2%}",
            )
            for parity in variants
            for agreement in parity.agreements[1:]
        ),
    )


def _disagreements(variants: Sequence[VariantParity]) -> str:
    sections = []
    for parity in variants:
        if not parity.disagreements:
            sections.append(f"### {parity.variant}\n\nNone: every answer is equal.")
            continue
        shown = len(parity.disagreements)
        sections.append(
            f"### {parity.variant}\n\n{parity.differing:,} questions are answered differently; here "
            f"{'they are' if shown == parity.differing else f'are the {shown} worst'}, those first where "
            "PyTorch's F1 exceeds the variant's most. In brackets null score − best span score."
        )
        sections += [_disagreement(n, case) for n, case in enumerate(parity.disagreements, start=1)]
    return "\n\n".join(sections)


def _disagreement(number: int, case: Disagreement) -> str:
    references = ", ".join(map(_quoted, case.references)) or "no answer"
    return (
        f"{number}. {_plain(case.question)} (`{case.id}`)\n"
        f"   - PyTorch: {_quoted(case.pytorch)} ({case.pytorch_margin:+.3f})\n"
        f"   - variant: {_quoted(case.variant)} ({case.variant_margin:+.3f})\n"
        f"   - expected: {references}\n"
        f"   - passage: {_plain(case.excerpt)}"
    )


def _quoted(answer: str) -> str:
    return f"“{_plain(answer)}”" if answer else "no answer"


def _plain(text: str) -> str:
    """One line in which Markdown finds nothing to format."""
    line = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in line)


def _verdict(demands: Sequence[Demand]) -> str:
    """The verdict on a variant as a whole: what was not judged stands beside what was."""
    if any(demand.passed is False for demand in demands):
        return "FAIL"
    return "PASS, F1 not judged" if any(demand.passed is None for demand in demands) else "PASS"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return markdown_table(header, rows, texts=len(header))
