"""Compiles the kernels into the package. Everything else about the project is in pyproject.toml.

The library uses no Python API, so one build serves every Python: the wheel is ``py3-none-<platform>``.
Without a compiler the package is pure Python, and the plain graphs run.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

# What to compile stands beside what is compiled, and that is no package yet.
sys.path.insert(0, str(Path(__file__).parent / "engine" / "kernels"))

from build_kernels import flags, headers, is_path, sources

# What was compiled is kept here, by its content, for the next build.
OBJECTS = Path("build", "kernels", "objects")


class BuildKernels(build_ext):
    """Compiles each file with its own flags, two at a time."""

    def build_extension(self, extension: Extension) -> None:
        """Compile and link; leave the package without kernels where that does not work."""
        target, folder = Path(self.get_ext_fullpath(extension.name)), OBJECTS
        compiler = [*(getattr(self.compiler, "compiler_cxx", None) or ["c++"])][:1]
        try:
            if sys.platform == "win32":
                raise OSError("they are not built on Windows")
            folder.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            objects = self._objects(compiler, folder)
            shared = "-dynamiclib" if sys.platform == "darwin" else "-shared"
            _run([*compiler, shared, *objects, "-o", str(target), "-lpthread"])
        except OSError as error:
            target.unlink(missing_ok=True)
            self.warn(f"fastspan is installed without its int8 kernels, so its plain graphs run: {error}")

    def _objects(self, compiler: list[str], folder: Path) -> list[str]:
        """Compile what was not yet, for this machine. A path that the compiler is too old for is left out."""
        machine = platform.machine().lower()
        made_with = _run([*compiler, "--version"]) + "".join(header.read_text() for header in headers())
        here = [source for source in sources() if flags(source, machine) is not None]
        left_out: list[str] = []

        def compiled(source: Path) -> str | None:
            chosen = [*(flags(source, machine) or []), *(f"-DFS_WITHOUT_{name}" for name in left_out)]
            # Where the sources lie makes no difference, nor when they were written.
            same = [made_with, source.read_text(), *(flag for flag in chosen if not flag.startswith("-I"))]
            digest = hashlib.sha256("\n".join(same).encode()).hexdigest()[:16]
            made = folder / f"{source.stem}-{digest}.o"
            if made.exists():
                return str(made)
            for old in folder.glob(f"{source.stem}-*.o"):
                old.unlink()
            try:
                _run([*compiler, *chosen, "-c", str(source), "-o", str(made.with_suffix(".part"))])
                made.with_suffix(".part").replace(made)
            except OSError as error:
                if not is_path(source):
                    raise
                self.warn(f"fastspan's int8 kernels go without {source.stem}: {error}")
                left_out.append(source.stem)
                return None
            return str(made)

        with ThreadPoolExecutor(2) as pool:
            # The table of paths comes last, when it is known which there are.
            last = next(source for source in here if source.name == "paths.cpp")
            others = list(pool.map(compiled, [s for s in here if not is_path(s) and s != last]))
            paths = list(pool.map(compiled, filter(is_path, here)))
            return [made for made in [*others, *paths, compiled(last)] if made is not None]

    def get_ext_filename(self, ext_name: str) -> str:
        """A plain shared library, without the tag of a Python."""
        suffix = ".dylib" if sys.platform == "darwin" else ".so"
        return str(Path(*ext_name.split(".")).with_suffix(suffix))


class PlatformWheel(bdist_wheel):
    """A wheel for any Python of one platform, or of every platform where nothing was compiled."""

    def get_tag(self) -> tuple[str, str, str]:
        """The tag that the wheel's name ends with."""
        _, _, system = super().get_tag()
        built = any(Path(self.bdist_dir or ".").rglob("libfastspan_kernels.*"))
        return "py3", "none", system if built else "any"


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise OSError(f"{command[0]} failed: {errors[0] if errors else done.returncode}")
    return done.stdout


setup(
    ext_modules=[Extension("fastspan.kernels.libfastspan_kernels", sources=[], optional=True)],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": PlatformWheel},
)
