"""A user's own texts to quantize with: what cannot be read is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastspan.errors import DataError
from fastspan.export.int8.observation import calibration_windows
from fastspan.text.encoder import Encoder
from support.models.offline_tokenizers import wordpiece


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "cannot be read"),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"[]", "line 1: expected an object"),
        (b'{"question": "who?"}', "line 1: expected an object"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(data: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    if data is not None:
        file.write_bytes(data)
    encoder = Encoder(wordpiece(), segment_ids=True, max_positions=512)
    with pytest.raises(DataError, match=message):
        calibration_windows(encoder, 4, file)


def test_a_device_is_no_file(tmp_path: Path) -> None:
    encoder = Encoder(wordpiece(), segment_ids=True, max_positions=512)
    with pytest.raises(DataError, match="it is a device"):
        calibration_windows(encoder, 4, Path("/dev/zero"))
