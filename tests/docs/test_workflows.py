"""The workflows run what there is: targets of the Makefile, scripts, and every folder of integrations."""

from __future__ import annotations

import re

import pytest

from support.paths import ROOT

yaml = pytest.importorskip("yaml")

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
INTEGRATIONS = {each.parent.name for each in (ROOT / "tests" / "integrations").glob("*/requirements.txt")}


def jobs(name):
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))["jobs"]


def commands(text):
    """The shell's lines of a workflow or a script, without comments."""
    return re.sub(r"(^|\s)#.*$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("file", [*WORKFLOWS, ROOT / ".ci" / "run"], ids=lambda file: file.name)
def test_targets_scripts_and_workflows_that_they_name_are_there(file):
    text = commands(file.read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", text)) <= targets
    for path in re.findall(r"(?<![\w/$.])\.(?:/\.)?(?:ci|github)/[\w./-]+", text):
        assert (ROOT / path).is_file(), path
    for name in re.findall(r'\bONLY="?([\w ]+)', text):
        assert set(name.split()) <= INTEGRATIONS, name


def test_every_folder_of_integrations_runs_in_its_own_environment():
    job = jobs("ci.yml")["integrations"]
    assert set(job["strategy"]["matrix"]["name"]) == INTEGRATIONS
    assert any("make test-integrations" in step.get("run", "") for step in job["steps"])


def test_every_job_checks_out_what_it_runs_and_ends():
    for file in WORKFLOWS:
        for name, job in jobs(file.name).items():
            if "uses" in job:
                continue
            assert job["timeout-minutes"] <= 60, f"{file.name}: {name}"
            if any(
                re.search(r"\bmake\b|\.ci/|python -m build", step.get("run", "")) for step in job["steps"]
            ):
                assert job["steps"][0]["uses"].startswith("actions/checkout@"), f"{file.name}: {name}"


def test_packaging_resolves_every_extra():
    """As ``.ci/packaging`` asks the built wheel; here it is found before anything is built."""
    script = (ROOT / ".ci" / "packaging").read_text(encoding="utf-8")
    (sets,) = re.findall(r"^  sets=\((.*)\)$", script, re.MULTILINE)
    (within_dev,) = re.findall(r'",\$covered,([\w,]+),"', script)
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = pyproject.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    declared = set(re.findall(r"^(\w+) = \[", extras, re.MULTILINE))
    (dev,) = re.findall(r'^dev = \[\n  "fastspan\[([\w,]+)\]"', extras, re.MULTILINE)
    assert set(within_dev.split(",")) <= set(dev.split(","))
    assert declared == set(re.split(r"[ ,]", sets)) | set(within_dev.split(","))
