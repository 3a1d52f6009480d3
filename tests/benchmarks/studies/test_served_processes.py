"""The study of what several processes of the service hold in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("uvicorn")

from fastspan.benchmarks.studies.served_processes import main


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells what is shared")
def test_every_process_has_its_line_and_the_sum_is_theirs(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_bundle), "--workers", "2", "--questions", "2"]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    kinds = dict.fromkeys(row[0] for row in rows[2:])
    assert list(kinds) == ["int8, one copy", "int8, a copy each", "fp32, one copy", "fp32, a copy each"]
    for kind in kinds:
        *each, together = [row for row in rows if row[0] == kind]
        assert [row[1] for row in each] == ["first", "answering 1", "answering 2"]
        for column in (2, 3, 4):
            # Each number is rounded.
            assert abs(sum(int(row[column]) for row in each) - int(together[column])) <= 2
