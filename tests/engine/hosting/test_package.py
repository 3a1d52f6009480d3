"""A package is whole or absent, replaces its like alone, and holds what its platform is promised to find."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import fastspan
from fastspan import BundleError, InputError
from fastspan.bundle.folder import Bundle
from fastspan.cli.commands.bundles import package as command
from fastspan.cli.main import build_parser, main
from fastspan.hosting.own_folder import MARKER, files_of
from fastspan.hosting.package import PLATFORMS, package
from support.paths import ROOT

yaml = pytest.importorskip("yaml")


def test_the_command_offers_every_platform() -> None:
    assert command._PLATFORMS == PLATFORMS


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_package_is_whole_and_can_be_written_again(
    tiny_bundle: Path, tmp_path: Path, platform: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert main(["package", str(tiny_bundle), str(out), "--for", platform, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    assert sorted([*found["files"], MARKER]) == files_of(out)
    assert found["bytes"] == sum((out / path).stat().st_size for path in found["files"])
    # Nothing is left of the templates' placeholders, and nothing beside the package.
    for path in found["files"]:
        if Path(path).suffix in {".py", ".md", ".yml", ".yaml", ".txt", ".pbtxt"} or path == "Containerfile":
            assert not re.search(r"@[A-Z_]+@", (out / path).read_text()), path
    assert list(tmp_path.iterdir()) == [out]
    for manifest in out.rglob("fastspan.json"):
        if platform != "triton":
            Bundle.open(manifest.parent).verify_all()
    assert json.loads((out / MARKER).read_bytes())["platform"] == platform


def test_a_bundle_with_some_variants(tiny_bundle: Path, tmp_path: Path) -> None:
    written = package(tiny_bundle, tmp_path / "out", "container", variants=["int8"])
    held = Bundle.open(written.folder / "bundle").manifest.variants
    assert list(held) == ["int8"]
    for variants in ([], ["fp64"], ["fp16"]):
        with pytest.raises(InputError, match="variants must be some of fp32, int8"):
            package(tiny_bundle, tmp_path / "other", "container", variants=variants)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="platform must be one of"):
        package(tiny_bundle, tmp_path / "other", "mars")  # type: ignore[arg-type]
    assert not (tmp_path / "other").exists()


class TestPlace:
    def refused(self, bundle: Path, out: Path, message: str) -> None:
        before = {path: (out / path).read_bytes() for path in files_of(out)} if out.is_dir() else None
        with pytest.raises(InputError, match=message):
            package(bundle, out, "sagemaker")
        if before is not None:
            assert {path: (out / path).read_bytes() for path in files_of(out)} == before
        assert not list(out.parent.glob(".*package*"))

    def test_somebody_elses_folder(self, tiny_bundle: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "letters.txt").write_text("mine")
        self.refused(tiny_bundle, out, "is a folder that is no package of FastSpan")

    def test_a_file(self, tiny_bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        self.refused(tiny_bundle, tmp_path / "out", "is a file")

    def test_a_file_that_somebody_added(self, tiny_bundle: Path, tmp_path: Path) -> None:
        out = package(tiny_bundle, tmp_path / "out", "sagemaker").folder
        (out / "code" / "more.py").write_text("mine")
        self.refused(tiny_bundle, out, r"holds code/more.py, which no package put there")

    def test_a_file_that_somebody_changed(self, tiny_bundle: Path, tmp_path: Path) -> None:
        out = package(tiny_bundle, tmp_path / "out", "sagemaker").folder
        (out / "code" / "inference.py").write_text("mine")
        self.refused(tiny_bundle, out, r"code/inference.py was changed since it was packaged")

    @pytest.mark.parametrize("marker", ["", "[]", "{}", '{"files": 3}', '{"files": [1]}'])
    def test_a_damaged_marker(self, tiny_bundle: Path, tmp_path: Path, marker: str) -> None:
        out = package(tiny_bundle, tmp_path / "out", "sagemaker").folder
        (out / MARKER).write_text(marker)
        self.refused(tiny_bundle, out, "is a folder that is no package of FastSpan")

    def test_an_empty_folder_is_taken(self, tiny_bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        package(tiny_bundle, tmp_path / "out", "sagemaker")

    def test_another_platforms_package_gives_way(self, tiny_bundle: Path, tmp_path: Path) -> None:
        package(tiny_bundle, tmp_path / "out", "sagemaker")
        package(tiny_bundle, tmp_path / "out", "container")
        assert not (tmp_path / "out" / "code").exists()

    def test_a_disk_that_refuses_leaves_the_former_one(
        self, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = package(tiny_bundle, tmp_path / "out", "sagemaker").folder
        before = files_of(out)

        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(BundleError, match=r"could not be written .*No space left"):
            package(tiny_bundle, out, "container")
        assert files_of(out) == before
        assert list(tmp_path.iterdir()) == [out]

    def test_a_damaged_bundle_writes_nothing(self, tiny_bundle: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken"
        shutil.copytree(tiny_bundle, broken)
        weights = broken / "onnx" / "model.onnx_data"
        data = bytearray(weights.read_bytes())
        data[100] ^= 1
        weights.write_bytes(data)
        for platform in PLATFORMS:
            with pytest.raises(BundleError, match=r"is not the file that was exported"):
                package(broken, tmp_path / "out", platform)
        assert list(tmp_path.iterdir()) == [broken]


class TestWheel:
    NAME = f"fastspan-{fastspan.__version__}-py3-none-any.whl"

    def wheel(self, folder: Path, name: str = NAME) -> Path:
        (folder / name).write_bytes(b"a wheel")
        return folder / name

    @pytest.mark.parametrize("platform", [name for name in PLATFORMS if name != "azureml"])
    def test_it_goes_along_where_pip_looks_for_it(
        self, tiny_bundle: Path, tmp_path: Path, platform: Any
    ) -> None:
        out = package(tiny_bundle, tmp_path / "out", platform, wheel=self.wheel(tmp_path)).folder
        (requirements,) = out.rglob("requirements.txt")
        assert requirements.read_text().splitlines()[0] == "--find-links wheels"
        assert (requirements.parent / "wheels" / self.NAME).read_bytes() == b"a wheel"
        recipe = out / "Containerfile"
        assert not recipe.exists() or re.search(r"^COPY wheels \S+$", recipe.read_text(), re.MULTILINE)

    def test_without_one_this_version_comes_from_the_index(self, tiny_bundle: Path, tmp_path: Path) -> None:
        out = package(tiny_bundle, tmp_path / "out", "container").folder
        assert (out / "requirements.txt").read_text() == f"fastspan[cpu,serve]=={fastspan.__version__}\n"
        assert "COPY wheels" not in (out / "Containerfile").read_text()

    def test_what_is_no_wheel_of_this_version(self, tiny_bundle: Path, tmp_path: Path) -> None:
        for name in ("fastspan-9.9-py3-none-any.whl", "other-0.1.0-py3-none-any.whl", "fastspan.tar.gz"):
            with pytest.raises(InputError, match=r"holds version 9.9|is no wheel of FastSpan"):
                package(tiny_bundle, tmp_path / "out", "container", wheel=self.wheel(tmp_path, name))
        with pytest.raises(InputError, match="is no wheel of FastSpan"):
            package(tiny_bundle, tmp_path / "out", "container", wheel=tmp_path / "no" / self.NAME)
        with pytest.raises(InputError, match="takes no wheel along"):
            package(tiny_bundle, tmp_path / "out", "azureml", wheel=self.wheel(tmp_path))


class TestContainers:
    def stages(self, out: Path) -> list[list[str]]:
        """The instructions of each stage, continued lines joined."""
        text = (out / "Containerfile").read_text().replace("\\\n", " ")
        lines = [re.sub(r"\s+", " ", line) for line in text.splitlines() if line and not line.startswith("#")]
        found: list[list[str]] = []
        for line in lines:
            if line.startswith("FROM "):
                found.append([])
            if found:
                found[-1].append(line)
        return found

    @pytest.mark.parametrize("platform", ["container", "kserve", "vertex", "triton"])
    def test_images_run_without_rights_from_a_pinned_base(
        self, tiny_bundle: Path, tmp_path: Path, platform: Any
    ) -> None:
        out = package(tiny_bundle, tmp_path / "out", platform).folder
        *_, last = self.stages(out)
        base = re.search(r"^ARG BASE=(\S+)$", (out / "Containerfile").read_text(), re.MULTILINE)
        assert base is not None
        assert re.search(r":\d+\.\d+[\w.-]*$", base[1]), base[1]
        (user,) = [line.split()[1] for line in last if line.startswith("USER ")]
        assert user not in {"0", "root"}
        assert not any(tool in " ".join(last) for tool in ("g++", "gcc", "build-essential"))
        # What is copied from beside the recipe is there.
        for line in (line for stage in self.stages(out) for line in stage if line.startswith("COPY ")):
            if "--from=" not in line:
                assert (out / line.split()[1]).exists(), line

    @pytest.mark.parametrize("platform", ["container", "triton"])
    def test_they_have_a_health_check(self, tiny_bundle: Path, tmp_path: Path, platform: Any) -> None:
        *_, last = self.stages(package(tiny_bundle, tmp_path / "out", platform).folder)
        assert any(line.startswith("HEALTHCHECK ") for line in last)

    def test_the_entry_point_is_a_command_of_ours(self, tiny_bundle: Path, tmp_path: Path) -> None:
        *_, last = self.stages(package(tiny_bundle, tmp_path / "out", "container").folder)
        (entry,) = [json.loads(line.partition(" ")[2]) for line in last if line.startswith("ENTRYPOINT ")]
        arguments = build_parser().parse_args(entry[1:])
        (health,) = [line for line in last if line.startswith("HEALTHCHECK ")]
        assert (entry[0], arguments.bundles, arguments.host) == ("fastspan", ["/opt/bundle"], "0.0.0.0")
        assert f"127.0.0.1:{arguments.port}/ready" in health

    def test_vertex_entry_point_serves(self, tiny_bundle: Path, tmp_path: Path) -> None:
        pytest.importorskip("uvicorn")
        out = package(tiny_bundle, tmp_path / "out", "vertex").folder
        *_, last = self.stages(out)
        (entry,) = [json.loads(line.partition(" ")[2]) for line in last if line.startswith("ENTRYPOINT ")]
        assert entry == ["fastspan", "serve", "/opt/bundle"]
        port = _free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", *entry[:-1], str(out / "bundle")],
            env={
                **os.environ,
                "AIP_HTTP_PORT": str(port),
                "AIP_PREDICT_ROUTE": "/ask",
                "AIP_HEALTH_ROUTE": "/alive",
            },
            stderr=subprocess.PIPE,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/alive", process)
            body = json.dumps({"instances": [{"question": "who?", "context": "the norse built it"}]}).encode()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ask", body, timeout=30) as response:
                assert len(json.loads(response.read())["predictions"]) == 1
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        finally:
            process.kill()
            process.communicate()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, process.communicate()[1]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{url} never answered")


class TestSettings:
    def test_azure_names_what_lies_there(self, tiny_bundle: Path, tmp_path: Path) -> None:
        out = package(tiny_bundle, tmp_path / "out", "azureml").folder
        deployment = yaml.safe_load((out / "deployment.yml").read_text())
        environment = out / deployment["environment"].removeprefix("file:")
        code = deployment["code_configuration"]
        assert (out / code["code"] / code["scoring_script"]).is_file()
        assert Bundle.open(out / deployment["model"]["path"]).manifest.name == "tiny-qa"
        conda = environment.parent / yaml.safe_load(environment.read_text())["conda_file"]
        *_, pip = yaml.safe_load(conda.read_text())["dependencies"]
        assert f"fastspan[cpu]=={fastspan.__version__}" in pip["pip"]

    def test_kserve_probes_routes_that_the_service_has(self, tiny_bundle: Path, tmp_path: Path) -> None:
        out = package(tiny_bundle, tmp_path / "out", "kserve").folder
        service = yaml.safe_load((out / "inference-service.yaml").read_text())
        assert (service["kind"], service["metadata"]["name"]) == ("InferenceService", "tiny-qa")
        (container,) = service["spec"]["predictor"]["containers"]
        served = (ROOT / "docs" / "serving.md").read_text()
        for probe in ("readinessProbe", "livenessProbe"):
            assert f"`GET {container[probe]['httpGet']['path']}`" in served
        assert container["securityContext"]["runAsNonRoot"]
        assert container["image"] == f"tiny-qa:{fastspan.__version__}"


def test_the_readmes_commands_name_files_that_are_there(tiny_bundle: Path, tmp_path: Path) -> None:
    for platform in ("sagemaker", "azureml", "container", "vertex", "kserve", "triton"):
        out = package(tiny_bundle, tmp_path / platform, platform).folder  # type: ignore[arg-type]
        for block in re.findall(r"```sh\n(.*?)```", (out / "README.md").read_text(), re.DOTALL):
            words = shlex.split(block.replace("\\\n", " "))
            for flag, word in pairwise(words):
                if flag in {"--file", "--filename"}:
                    assert (out / word).is_file(), (platform, word)
