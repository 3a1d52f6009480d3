"""The files for deployments: of valid form, and no metric, option, variable or route that does not exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT

pytest.importorskip("yaml")
pytest.importorskip("prometheus_client")
pytest.importorskip("starlette")

import yaml
from prometheus_client import CollectorRegistry

from fastspan.cli.commands.answering import serve
from fastspan.cli.main import build_parser
from fastspan.serving.observing.metrics import Metrics
from fastspan.serving.scheduling.limits import variable_of

DEPLOY = ROOT / "docs" / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus-alerts.yaml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def series() -> set[str]:
    """The names of all series that the service has."""
    registry = CollectorRegistry()
    Metrics(registry)
    endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    return {metric.name + ending for metric in registry.collect() for ending in endings[metric.type]}


def labels() -> dict[str, set[str]]:
    """The labels of each metric, as the page about serving is held to have them."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    found = {}
    for metric in (value for value in vars(metrics).values() if hasattr(value, "_labelnames")):
        for described in metric.describe():
            found[described.name] = set(metric._labelnames)
    for histogram in metrics._stages.values():
        found[histogram.describe()[0].name] = set(histogram._labelnames)
    return found


def expressions() -> list[str]:
    queries = [variable["query"] for variable in DASHBOARD["templating"]["list"]]
    return [
        *(rule["expr"] for rule in RULES),
        *(target["expr"] for panel in PANELS for target in panel["targets"]),
        *(query for query in queries if "fastspan" in query),
    ]


@pytest.mark.parametrize("expression", expressions())
def test_every_series_that_is_asked_for_exists(expression: str) -> None:
    names = set(re.findall(r"\bfastspan_\w+", expression))
    assert names <= series() or not names
    for one, other in ("()", "{}", "[]"):
        assert expression.count(one) == expression.count(other)
    known = labels()
    for name, matchers in re.findall(r"\b(fastspan_\w+)\{([^}]*)\}", expression):
        base = re.sub(r"_(total|bucket|sum|count)$", "", name)
        used = set(re.findall(r"(\w+)=", matchers)) - {"instance"}
        assert used <= known[base], (name, used)


def test_the_dashboard_shows_every_metric() -> None:
    shown = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    missing = {name for name in labels() if name not in shown}
    assert missing == set()


def test_the_dashboards_panels_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells


def test_every_alert_has_its_line_of_the_run_book() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    book = text[text.index("## Run book") :]
    sections = dict(re.findall(r"^### (\w+)\n\n(.+?)(?=\n### |\Z)", book, re.M | re.S))
    assert set(sections) == {rule["alert"] for rule in RULES}
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/deploy/README.md#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in {"page", "warn"}
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert sections[rule["alert"]].strip()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_alerts() -> None:
    subprocess.run(["promtool", "check", "rules", DEPLOY / "prometheus-alerts.yaml"], check=True)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_kubernetes_takes_the_manifests(manifest: dict[str, Any], version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    validator.validate(manifest, version, strict=True)


def test_the_schema_check_finds_faults() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    wrong = json.loads(json.dumps(MANIFESTS[0]))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(validator.ValidationError):
        validator.validate(wrong, "1.34", strict=True)


def test_the_manifests_fit_together() -> None:
    by_kind = {manifest["kind"]: manifest for manifest in MANIFESTS}
    deployment = by_kind["Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    labelled = deployment["spec"]["template"]["metadata"]["labels"]
    assert by_kind["Service"]["spec"]["selector"].items() <= labelled.items()
    assert (
        by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    )
    (metric,) = by_kind["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in series()
    (rule,) = yaml.safe_load(by_kind["ConfigMap"]["data"]["config.yaml"])["rules"]
    assert rule["seriesQuery"].startswith(metric["pods"]["metric"]["name"])
    probes = {
        container[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert probes == {"/ready", "/health"}
    assert "replicas" not in deployment["spec"]


def test_every_platform_waits_longer_than_the_service_takes_to_stop() -> None:
    from fastspan.serving.scheduling.limits import Limits

    grace = Limits().grace_seconds
    pod = MANIFESTS[0]["spec"]["template"]["spec"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > grace + before
    assert int(COMPOSE["services"]["fastspan"]["stop_grace_period"].removesuffix("s")) > grace
    unit = (DEPLOY / "fastspan.service").read_text(encoding="utf-8")
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M)[1]) > grace


def test_every_option_and_variable_exists() -> None:
    commands = build_parser()._subparsers._group_actions[0].choices
    flags = {flag for action in commands[serve.NAME]._actions for flag in action.option_strings}
    variables = {variable_of(flag) for flag in flags if flag.startswith("--")}
    texts = {path.name: path.read_text(encoding="utf-8") for path in DEPLOY.iterdir() if path.is_file()}
    for name, text in texts.items():
        assert set(re.findall(r"\bFASTSPAN_[A-Z_]+\b", text)) <= variables, name
    used = re.findall(
        r"(?<![\w-])--[a-z][a-z-]+", re.search(r"^ExecStart=.*$", texts["fastspan.service"], re.M)[0]
    )
    used += [word for word in COMPOSE["services"]["fastspan"]["command"] if word.startswith("--")]
    used += [
        word for word in MANIFESTS[0]["spec"]["template"]["spec"]["containers"][0]["args"] if word[:2] == "--"
    ]
    assert used
    assert set(used) <= flags


def test_compose_names_files_that_are_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).is_file()
    scraped = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text(encoding="utf-8"))
    assert scraped["rule_files"] == ["prometheus-alerts.yaml"]
    (job,) = scraped["scrape_configs"]
    assert job["job_name"] in RULES[0]["expr"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "fastspan.service"
    text = (DEPLOY / "fastspan.service").read_text(encoding="utf-8")
    # The command is installed where the unit runs, not here.
    unit.write_text(text.replace("/opt/fastspan/bin/fastspan", "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(text.replace("Restart=on-failure", "Restart=sometimes"), encoding="utf-8")
    wrong = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert "sometimes" in wrong.stderr


def test_the_page_names_every_file() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([\w.-]+)\)", text))
    assert linked == {path.name for path in DEPLOY.iterdir() if path.is_file()} - {"README.md"}
    assert all(len(line) <= 120 or line.startswith("|") for line in text.splitlines())
    headings = [len(mark) for mark in re.findall(r"^(#+) ", text, re.M)]
    assert all(after - before <= 1 for before, after in pairwise(headings))
