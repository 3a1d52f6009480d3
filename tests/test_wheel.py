"""The built distributions: what is in them, and that the wheel works with the sources out of sight."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

from support.paths import ROOT

pytest.importorskip("setuptools", minversion="77")

FOLDERS = {"engine": "fastspan", "export": "fastspan/export", "benchmarks": "fastspan/benchmarks"}
# Haystack loads its components from there alone.
PAGE = "engine/serving/page/static"
HAYSTACK = "haystack_integrations/components/readers/fastspan"
# Where the CPU has an instruction for 8-bit dot products, its twin runs.
PLAIN_INT8 = {"onnx/model_int8.onnx", "onnx/model_int8_dot_product.onnx"}


def pip(*arguments: str | Path, cwd: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def built(folder: Path, *further: str) -> Path:
    """The wheel of a copy, so that building leaves nothing beside the sources."""
    source, out = folder / "source", folder / "dist"
    for name in FOLDERS:
        leave_out = shutil.ignore_patterns("__pycache__", ".*", "results", "libfastspan_kernels.*")
        shutil.copytree(ROOT / name, source / name, ignore=leave_out)
    for name in ("pyproject.toml", "README.md", "LICENSE", *further):
        shutil.copy(ROOT / name, source / name)
    if (objects := ROOT / "build" / "kernels" / "objects").is_dir():
        # What was compiled for these sources already is the same here.
        shutil.copytree(objects, source / "build" / "kernels" / "objects")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", out, source, cwd=out.parent)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel without the kernels."""
    return built(tmp_path_factory.mktemp("pure"))


@pytest.fixture(scope="module")
def wheel_with_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel as it is built where there is a compiler."""
    if sys.platform == "win32" or shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    return built(tmp_path_factory.mktemp("compiled"), "setup.py")


def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_is_for_every_platform_and_holds_one_package_and_a_haystack_component(wheel: Path) -> None:
    assert wheel.name.startswith("fastspan-")
    assert wheel.name.endswith("-py3-none-any.whl")
    top = {name.split("/")[0] for name in names(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"fastspan", "haystack_integrations"}
    # The namespace is other distributions' too: it holds our component, and no __init__.py above it.
    of_haystack = {name for name in names(wheel) if name.startswith("haystack_integrations/")}
    sources = (ROOT / "engine" / "adapters" / "haystack").glob("*.py")
    assert of_haystack == {f"{HAYSTACK}/{path.name}" for path in sources}


def test_every_module_and_all_data_are_in_it(wheel: Path) -> None:
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if (path.suffix == ".py" or ROOT / folder / "data" in path.parents or path.name == "py.typed")
        and not any(part.startswith(".") or part == "results" for part in path.relative_to(ROOT).parts)
        and path.is_file()
    }
    expected = {name.replace("fastspan/adapters/haystack/", f"{HAYSTACK}/") for name in expected}
    assert {"fastspan/py.typed", "fastspan/export/data/calibration.jsonl"} <= expected
    assert "fastspan/export/data/evaluation/fastspan-eval.json" in expected
    page = {f"fastspan/serving/page/static/{path.name}" for path in (ROOT / PAGE).iterdir()}
    assert "fastspan/serving/page/static/page.html" in page
    expected |= page
    assert expected <= names(wheel), sorted(expected - names(wheel))


def test_the_license_and_the_dependencies_are_in_it(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert any(name.endswith("/licenses/LICENSE") for name in names(wheel))
    needed = {
        line for line in text.splitlines() if line.startswith("Requires-Dist: ") and "extra" not in line
    }
    assert {line.split()[1].split(">")[0] for line in needed} == {"numpy", "tokenizers"}


BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


def test_the_source_distribution_holds_what_tests_and_documentation_need(tmp_path: Path) -> None:
    source = tmp_path / "source"
    leave_out = shutil.ignore_patterns("__pycache__", ".venv*", "*.egg-info", "exported", ".cache", ".git")
    for folder in (*FOLDERS, "tests", "docs", "models", ".ci", ".github"):
        shutil.copytree(ROOT / folder, source / folder, ignore=leave_out)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, source)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, tmp_path],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "warning" not in (done.stdout + done.stderr).lower()
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held >= {
        f"{folder}/{path.relative_to(source / folder).as_posix()}"
        for folder in ("tests", "docs", "models", ".ci")
        for path in (source / folder).rglob("*")
        if path.is_file() and path.name != "model.safetensors"
    }
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "pyproject.toml"} <= held
    assert "models/minilm-l6-squad2/model.safetensors" not in held
    assert built.stat().st_size < 5_000_000


USE = """
import sys
from importlib import resources
from pathlib import Path
import fastspan, fastspan.cli.main
assert Path(fastspan.__file__).is_relative_to(sys.argv[1]), fastspan.__file__
assert (resources.files("fastspan") / "py.typed").is_file()
assert any((resources.files("fastspan.export") / "data").iterdir())
with fastspan.QuestionAnswerer.load(sys.argv[2], variant=sys.argv[3]) as qa:
    assert qa.answer("who built the tower", "the norse built the tower").answers
    print(qa.info().graph)
"""


def installed(wheel: Path) -> Path:
    """The folder beside a wheel that it is installed into."""
    target = wheel.parent / "site"
    if not target.exists():
        pip("install", "--no-deps", "--no-index", "--target", target, wheel, cwd=wheel.parent)
    return target


def graph_that_answers(wheel: Path, bundle: Path, variant: str, folder: Path) -> str:
    """Answer with an installed wheel and nothing else of the project, and return what ran."""
    target = installed(wheel)
    # -S: without the environment's own packages, among them the editable installation.
    packages = os.pathsep.join({str(Path(path).resolve()) for path in sys.path if "site-packages" in path})
    done = subprocess.run(
        [sys.executable, "-S", "-c", USE, target, bundle, variant],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(target), packages])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_answers_with_the_sources_out_of_sight(wheel: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    assert graph_that_answers(wheel, tiny_bundle, "fp32", tmp_path) == "onnx/model_cpu.onnx"


def test_without_a_compiler_int8_runs_its_plain_graph(
    wheel: Path, bundled_bundle: Path, tmp_path: Path
) -> None:
    assert graph_that_answers(wheel, bundled_bundle, "int8", tmp_path) in PLAIN_INT8


def test_with_a_compiler_the_wheel_is_for_its_platform_and_any_python(wheel_with_kernels: Path) -> None:
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel_with_kernels.name.endswith(f"-py3-none-{platform}.whl")
    held = names(wheel_with_kernels)
    assert [name for name in held if "libfastspan_kernels" in name] in (
        ["fastspan/kernels/libfastspan_kernels.so"],
        ["fastspan/kernels/libfastspan_kernels.dylib"],
    )
    assert not [name for name in held if name.endswith((".cpp", ".h", ".o"))]


def test_the_kernels_of_the_wheel_answer_with_the_sources_out_of_sight(
    wheel_with_kernels: Path, bundled_bundle: Path, tmp_path: Path
) -> None:
    graph = graph_that_answers(wheel_with_kernels, bundled_bundle, "int8", tmp_path)
    assert graph == "onnx/model_int8_kernels.onnx"
