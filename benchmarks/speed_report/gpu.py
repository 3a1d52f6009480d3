"""What share of a GPU's arithmetic a system puts to use: its model FLOPs utilization (MFU).

MFU is the encoder's floating-point operations over the time from text to answer, divided by what the GPU
could do at most (Chowdhery et al., 2022, appendix B). Padding is not counted: a system that computes it has
less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from fastspan.benchmarks.reporting.document import NONE, Block, Heading, Paragraph, Table
from fastspan.benchmarks.speed_report.section import Section

__all__ = ["HALF_PEAKS", "half_peak", "utilization"]

HALF_PEAKS: Mapping[str, float] = MappingProxyType(
    {
        "B200": 2.25e15,
        "H200": 989e12,
        "H100 PCIe": 756e12,
        "H100": 989e12,
        "A100": 312e12,
        "L40S": 362e12,
        "L40": 181e12,
        "L4": 121e12,
        "A10G": 70e12,
        "A10": 125e12,
        "A30": 165e12,
        "V100": 125e12,
        "T4": 65e12,
        "RTX 4090": 165e12,
        "RTX 3090": 71e12,
    }
)
"""Part of a GPU's name → dense fp16 operations a second with fp32 sums, from NVIDIA's data sheets. Names that
hold another one come first."""


def half_peak(name: str) -> float | None:
    """Return the fp16 peak of a GPU in operations a second; None for one that is not listed.

    Args:
        name: As ``nvidia-smi`` gives it, with or without the driver's version.
    """
    words = name.replace(",", " ").replace("-", " ").split()
    for part, peak in HALF_PEAKS.items():
        wanted = part.split()
        places = range(len(words) - len(wanted) + 1)
        if any(words[at : at + len(wanted)] == wanted for at in places):
            return peak
    return None


def utilization(section: Section) -> Iterator[Block]:
    """Give the MFU of every system in half precision; nothing for a measurement on a CPU."""
    if section.record.device != "gpu":
        return
    name = section.record.environment.get("GPU", "")
    peak = half_peak(name)
    rows = [row for row in section.rows if row.peer.variant.startswith("fp16")]
    if not rows:
        return
    yield Heading(section.level, section.title("Share of the GPU's peak"))
    if peak is None:
        yield Paragraph(f"The fp16 peak of {name or 'this GPU'} is not known here, so no share is given.")
    else:
        yield Paragraph(
            f"{name}: {peak / 1e12:.0f} Tflop/s in fp16 with fp32 sums, dense, by its data sheet. Counted "
            "are the encoder's matrix products without padding, against the whole time from text to answer; "
            "so a share shrinks with the batch, and with what the processor does meanwhile."
        )
    yield Table(
        headers=("System", "model", "workload", "Tflop/s", "MFU"),
        rows=[
            (
                row.peer.name,
                row.workload.model,
                row.workload.name,
                f"{speed / 1e12:.2f}",
                NONE if peak is None else f"{speed / peak:.2%}",
            )
            for row in rows
            for speed in (row.workload.flops / row.latency.median.estimate,)
        ],
        texts=3,
    )
