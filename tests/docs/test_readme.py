"""The README's examples run, and the commands that the documentation names exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from support.paths import MINILM, ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_first_example_prints_what_stands_below_it(bundled_bundle, capsys):
    example, _ = blocks(README, "python")
    exec(example.replace("models/exported/minilm-l6-squad2", str(bundled_bundle)), {})
    (printed,) = capsys.readouterr().out.splitlines()
    shown = blocks(README, "text")[0].strip()
    assert printed.partition("score=")[0] == shown.partition("score=")[0]


def test_the_first_commands_answer(bundled_bundle, tmp_path):
    """Here the bundle is there already; ``make test-packaging`` begins with an empty environment."""
    install, export, ask = blocks(README, "sh")[0].splitlines()
    assert install == "pip install '.[cpu,export]'"
    assert export == f"fastspan export {MINILM.relative_to(ROOT).as_posix()}"
    folder = tmp_path / "models" / "exported" / "minilm-l6-squad2"
    folder.parent.mkdir(parents=True)
    folder.symlink_to(bundled_bundle)
    done = subprocess.run(
        ask.replace("fastspan", f"'{sys.executable}' -m fastspan"),
        shell=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "FASTSPAN_BUNDLE"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "**Rollo**" in done.stdout


def test_the_python_example_runs_and_prints_what_it_says(bundled_bundle, monkeypatch, capsys):
    _, example = blocks(README, "python")
    # The example names the bundle relative to the repository; here it may lie elsewhere.
    exec(example.replace("models/exported/minilm-l6-squad2", str(bundled_bundle)), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Rollo 65 70 ")
    assert printed[2] == "Charles III"
    assert printed[3] == "no answer"


def test_the_shell_example_makes_the_file_that_it_reads(bundled_bundle, tmp_path):
    (example,) = (block for block in blocks(README, "sh") if "passage.txt" in block)
    lines = [line for line in example.splitlines() if "passage.txt" in line]
    command = "\n".join(lines).replace(".venv/bin/fastspan", f"'{sys.executable}' -m fastspan")
    done = subprocess.run(
        command.replace("models/exported/minilm-l6-squad2", f"'{bundled_bundle}'"),
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "**Rollo**" in done.stdout


def test_make_targets_named_in_the_documentation_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        shell = "\n".join(blocks(page.read_text(encoding="utf-8"), "sh"))
        named = re.findall(r"\bmake ([a-z][a-z-]*)", shell)
        assert set(named) <= targets, f"{page.name} names {set(named) - targets}"
    assert {"help", "setup", "export", "demo", "test", "lint", "bench", "serve", "clean"} <= targets


def test_commands_named_in_the_documentation_exist():
    from fastspan.cli.commands import modules

    known = {module.NAME for module in modules()}
    for page in PAGES:
        shell = "\n".join(blocks(page.read_text(encoding="utf-8"), "sh"))
        named = set(re.findall(r"\bfastspan ([a-z]+)", shell))
        assert named <= known, f"{page.name} names {named - known}"
