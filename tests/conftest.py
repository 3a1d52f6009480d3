"""Bundles that many tests share, each made once in a run."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fastspan
from fastspan.bundle.folder import Bundle, sha256_of
from fastspan.errors import BundleError, MissingDependency
from fastspan.kernels import library, unavailable_reason
from fastspan.machine.cpu import cpu_features
from fastspan.machine.cuda_libraries import why_cuda_fails
from fastspan.runtime.cuda.probe import cuda_runs
from fastspan.runtime.providers import import_onnxruntime
from support.forced_cpu import CPUS, asked, asker, force_cores, force_cpu, stop_forcing
from support.fuzzing import give_time, run_for_its_share
from support.made_once import made_once
from support.models.tiny_checkpoint import save_tiny_checkpoint
from support.paths import EXPORTED_MINILM, MINILM, ROOT
from support.references.golden import Golden

# Tests import onnxruntime by themselves too, and send no telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A shell makes what it runs in the background ignore SIGINT, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_ASKED = "fastspan/asked-cpu"
_log = pytest.StashKey[Path]()
_fixtures = pytest.StashKey[dict[str, list[str]]]()
_searching = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastspan")
    group.addoption(
        "--cpu-features",
        choices=("native", *CPUS),
        default="native",
        help="the CPU that FastSpan finds, here and in child processes: without an instruction for 8-bit "
        "products, with one, or the true one; which tests asked is kept for --asked-cpu",
    )
    group.addoption(
        "--cores", type=int, help="how many usable cores FastSpan finds, here and in child processes"
    )
    group.addoption(
        "--asked-cpu",
        action="store_true",
        help="run only the tests that asked which CPU this is when --cpu-features was last given",
    )
    group.addoption(
        "--fuzz-seconds",
        type=float,
        metavar="N",
        help="run only the tests that search for inputs which break a promise, at random, for N seconds",
    )
    group.addoption(
        "--fuzz-cases",
        type=int,
        default=400,
        metavar="N",
        help="how many requests are made of the service's OpenAPI description",
    )
    group.addoption(
        "--reference",
        choices=("kept", "live", "record"),
        default="kept",
        help="what PyTorch and transformers give: as tests/golden keeps it, and nothing imports them; or "
        "live, held against what is kept, with only the tests that compare; or recorded anew",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.option.reference == "kept" and not _only_integrations(config):
        # So that no test passes here for what is installed here.
        sys.modules.update(dict.fromkeys(("torch", "transformers", "optimum")))
    if config.option.fuzz_seconds is not None:
        give_time(config.option.fuzz_seconds)
    if config.option.cpu_features != "native":
        config.stash[_log] = _log_of_all(config)
        force_cpu(config.option.cpu_features, config.stash[_log])
    if config.option.cores is not None:
        force_cores(config.option.cores)


def _log_of_all(config: pytest.Config) -> Path:
    """The file that takes down who asks for the CPU: one, however many processes run the tests."""
    if (given := getattr(config, "workerinput", None)) is not None:
        return Path(given["asked_cpu"])
    handle, name = tempfile.mkstemp(prefix="fastspan-asked-cpu-")
    os.close(handle)
    return Path(name)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist where that file is."""
    node.workerinput["asked_cpu"] = str(node.config.stash.get(_log, ""))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take from a process of pytest-xdist which test uses which fixtures."""
    node.config.stash[_fixtures] = getattr(node, "workeroutput", {}).get("fixtures") or node.config.stash.get(
        _fixtures, {}
    )


def _only_integrations(config: pytest.Config) -> bool:
    """Whether this is an environment made for a package, which the tests then are about."""
    folder = Path(__file__).parent / "integrations"
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return all(path.is_relative_to(folder) for path in named)


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    fixtures = {item.nodeid: getattr(item, "fixturenames", []) for item in session.items}
    if hasattr(config, "workeroutput"):
        config.workeroutput["fixtures"] = fixtures
        return
    log, cache = config.stash.get(_log, None), getattr(config, "cache", None)
    if log and cache and not config.option.asked_cpu:
        cache.set(_ASKED, asked(config.stash.get(_fixtures, fixtures), log))


def pytest_unconfigure(config: pytest.Config) -> None:
    stop_forcing()
    log = config.stash.get(_log, None)
    if log and not hasattr(config, "workerinput"):
        log.unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
    """What a shared fixture asks concerns every test that uses it."""
    if fixturedef.scope == "function":
        return (yield)
    with asker(f"fixture {fixturedef.argname}"):
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _leave_those_that_compare(config, items)
    _leave_those_that_asked_for_the_cpu(config, items)
    _leave_those_that_search(config, items)
    _skip_what_needs_a_gpu(items)


def _leave(config: pytest.Config, items: list[pytest.Item], chosen: Callable[[pytest.Item], bool]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if not chosen(item)])
    items[:] = filter(chosen, items)


def _leave_those_that_compare(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs PyTorch runs with it alone; what compares with a kept reference runs either way."""

    def by_golden(item: pytest.Item) -> bool:
        return not {"golden", "real_golden"}.isdisjoint(getattr(item, "fixturenames", ()))

    def live(item: pytest.Item) -> bool:
        return item.get_closest_marker("reference") is not None

    choices: dict[str, Callable[[pytest.Item], bool]] = {
        "kept": lambda item: not live(item),
        "live": lambda item: live(item) or by_golden(item),
        "record": lambda item: by_golden(item) and not live(item),
    }
    _leave(config, items, choices[config.option.reference])


def _leave_those_that_asked_for_the_cpu(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.asked_cpu:
        return
    kept = config.cache.get(_ASKED, None)
    if kept is None:
        raise pytest.UsageError("--asked-cpu needs a run with --cpu-features before it")
    wanted = set(kept)
    _leave(config, items, lambda item: item.nodeid in wanted)


def _leave_those_that_search(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.fuzz_seconds is not None:
        _leave(config, items, lambda item: item.get_closest_marker("fuzz") is not None)
        config.stash[_searching] = len(items)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    searching = pyfuncitem.config.stash.get(_searching, 0)
    if not searching:
        return None
    run_for_its_share(pyfuncitem, pyfuncitem.config.option.fuzz_seconds / searching)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, text in getattr(report, "user_properties", ()):
            if name == "fuzz" and report.when == "call":
                terminalreporter.write_line(text)


def _skip_what_needs_a_gpu(items: list[pytest.Item]) -> None:
    """Skip, where all can see it, what needs a GPU that ONNX Runtime's CUDA provider does not run on here."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        runtime = import_onnxruntime()
    except MissingDependency as error:
        lacking = str(error)
    else:
        if "CUDAExecutionProvider" not in runtime.get_available_providers():
            lacking = "the installed onnxruntime has no CUDA provider"
        elif cuda_runs(runtime):
            return
        else:
            lacking = why_cuda_fails(runtime) or "CUDA's provider does not start"
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=f"needs an NVIDIA GPU: {lacking}"))


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> Iterator[Golden]:
    """What PyTorch and transformers gave to this module's questions."""
    references = Golden(request.module.__name__.rpartition(".")[2], request.config.option.reference)
    yield references
    references.close()


@pytest.fixture(scope="session")
def real_golden(request: pytest.FixtureRequest) -> Iterator[Golden]:
    """What PyTorch makes of real questions, for every module that decodes them."""
    references = Golden("real_questions", request.config.option.reference)
    yield references
    references.close()


@pytest.fixture
def kernels_here() -> None:
    """Skip where the int8 kernels are not to be had, having taken down that the test depends on this CPU."""
    cpu_features()
    if (reason := unavailable_reason()) is not None:
        pytest.skip(reason)


@pytest.fixture
def without_kernels() -> Iterator[None]:
    """A FastSpan that was installed without a compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "_FILE", ROOT / "nowhere.so")
        _forget_kernels()
        yield
    _forget_kernels()


def _forget_kernels() -> None:
    library.unavailable_reason.cache_clear()
    library._library.cache_clear()


class SilentProgress:
    """A progress that nobody watches."""

    def stage(self, text: str) -> None:
        pass

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        yield lambda: None


def _export_untrained(checkpoint: Path, out: Path, *variants: str, questions: int = 3) -> Path:
    """Export random weights: they promise no parity in int8, so little is spent on measuring it."""
    exporter = pytest.importorskip("fastspan.export.exporter")
    options = pytest.importorskip("fastspan.export.options")
    checks = pytest.importorskip("fastspan.export.verification.checks")
    exporter.export(
        checkpoint,
        out,
        options.ExportOptions(
            variants=variants,
            allow_parity_loss=True,
            int8=options.Int8Recipe(windows=4),
            pytorch=False,
            effort=checks.Effort(work=0, fewest=questions),
        ),
        progress=SilentProgress(),
    )
    return out


@pytest.fixture
def idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else runs on the machine, as far as it says."""
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)


@pytest.fixture
def little_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands, which choose no effort, compare graphs on few questions."""
    checks = pytest.importorskip("fastspan.export.verification.checks")
    few = checks.Effort(work=0, fewest=3, in_doubt=4, of_appeal=4)
    monkeypatch.setattr("fastspan.export.verification.checks.THOROUGH", few)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers, as SafeTensors."""
    return made_once(tmp_path_factory, "tiny", lambda folder: save_tiny_checkpoint(folder / "tiny-qa"))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle, with the variants fp32 and int8. To be read only: copy it before changing a file."""
    return made_once(
        tmp_path_factory,
        "tiny-bundle",
        lambda folder: _export_untrained(tiny_checkpoint, folder / "tiny-qa", "fp32", "int8"),
    )


@pytest.fixture(scope="session")
def tiny_half_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint's bundle with fp32 and fp16, so with the graphs for CUDA. To be read only."""
    return made_once(
        tmp_path_factory,
        "tiny-half-bundle",
        lambda folder: _export_untrained(tiny_checkpoint, folder / "tiny-qa", "fp32", "fp16"),
    )


@pytest.fixture(scope="session")
def deep_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of many narrow layers: slow as a whole, while none of its operators takes long."""

    def make(folder: Path) -> Path:
        checkpoint = save_tiny_checkpoint(folder / "checkpoint", layers=64)
        return _export_untrained(checkpoint, folder / "deep-qa", "fp32", questions=1)

    return made_once(tmp_path_factory, "deep-bundle", make)


@pytest.fixture(scope="session")
def bundled_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the checkpoint that comes with the project. To be read only."""
    try:
        bundle = Bundle.open(EXPORTED_MINILM)
        bundle.verify_all()
    except BundleError:
        pass
    else:
        weights, made_of = MINILM / "model.safetensors", bundle.manifest.source.sha256
        of_today = not weights.is_file() or made_of.get(weights.name) == sha256_of(weights)
        if of_today and bundle.manifest.created_with == fastspan.__version__:
            return EXPORTED_MINILM
    if not (MINILM / "model.safetensors").is_file():
        pytest.skip("needs the checkpoint in models/minilm-l6-squad2")
    exporter = pytest.importorskip("fastspan.export.exporter")

    def make(folder: Path) -> Path:
        exporter.export(MINILM, folder / "minilm-l6-squad2", progress=SilentProgress())
        return folder / "minilm-l6-squad2"

    return made_once(tmp_path_factory, "bundled", make)
