"""Finding and checking the compiled library."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from fastspan import kernels
from fastspan.kernels import library

needs_kernels = pytest.mark.usefixtures("kernels_here")


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch):
    def clear() -> None:
        library.unavailable_reason.cache_clear()
        library._library.cache_clear()

    clear()
    yield monkeypatch
    monkeypatch.undo()
    clear()


def test_a_missing_library_is_said_in_a_sentence(forget: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget.setattr(library, "_FILE", tmp_path / "libfastspan_kernels.so")
    assert kernels.unavailable_reason() == "the int8 kernels were not compiled when FastSpan was installed"
    assert kernels.paths() == ()
    with pytest.raises(RuntimeError, match="not compiled"):
        kernels.register(object(), threads=1)


def test_a_file_that_is_no_library_is_said_in_a_sentence(forget: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libfastspan_kernels.so").write_bytes(b"not a library")
    forget.setattr(library, "_FILE", tmp_path / "libfastspan_kernels.so")
    assert (kernels.unavailable_reason() or "").startswith("the int8 kernels could not be loaded: ")


@needs_kernels
def test_every_path_passes_its_self_test() -> None:
    loaded = ctypes.CDLL(str(library._FILE))
    assert kernels.paths()[-1] == "portable"
    for path in kernels.paths():
        assert loaded.fastspan_kernels_self_test(path.encode()) == 0
    assert loaded.fastspan_kernels_self_test(b"abacus") == 1


@needs_kernels
def test_a_path_that_is_not_there_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no path 'abacus'"):
        kernels.register(object(), threads=1, path="abacus")


@needs_kernels
@pytest.mark.parametrize("code", [1, 2])
def test_a_failed_self_test_disables_the_library(forget: pytest.MonkeyPatch, code: int) -> None:
    class Wrong:
        fastspan_kernels_version = staticmethod(lambda: library._VERSION)
        fastspan_kernels_self_test = staticmethod(lambda name: code)

    forget.setattr(library, "_library", Wrong)
    forget.setattr(library._library, "cache_clear", lambda: None, raising=False)
    assert "int8 kernels" in str(kernels.unavailable_reason())
