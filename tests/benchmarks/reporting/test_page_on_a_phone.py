"""The report's page in a browser: nothing but tables scrolls sideways, on a phone and wide."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from support.recorded_speed import write_recorded

pytest.importorskip("matplotlib")
pytest.importorskip("markdown_it")

from fastspan.benchmarks.speed_report.report import write_speed_reports

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# What the page measures of itself, left in it for the browser to print.
SCRIPT = """<script>addEventListener("load", () => {
  const box = (element) => element.getBoundingClientRect();
  const found = {
    inner: innerWidth, page: document.documentElement.scrollWidth,
    plots: [...document.querySelectorAll("figure svg")].map((svg) => box(svg).right),
    scrolled: [...document.querySelectorAll(".table")].map((table) => {
      table.scrollLeft = 1e6;
      const cells = [...table.querySelectorAll("td:first-child")];
      return {moved: table.scrollLeft, cells: cells.map((cell) => box(cell).left - box(table).left)};
    }),
  };
  const note = document.createElement("pre");
  note.id = "found"; note.textContent = JSON.stringify(found); document.body.append(note);
});</script>"""


def measured_in_a_browser(page, folder, width):
    """What the page measures of itself in a frame so wide, whatever windows the browser can make."""
    inner = folder / f"inner-{width}.html"
    inner.write_text(page.replace("</body>", f"{SCRIPT}</body>"), encoding="utf-8")
    outer = folder / f"outer-{width}.html"
    outer.write_text(
        f'<!doctype html><iframe id="frame" src="{inner.name}" width="{width}" height="800" '
        'style="border:0"></iframe><pre id="shown"></pre><script>frame.onload = () => '
        'setTimeout(() => { shown.textContent = frame.contentDocument.querySelector("#found").textContent; '
        "}, 0);</script>",
        encoding="utf-8",
    )
    arguments = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --allow-file-access-from-files "
        "--virtual-time-budget=5000 --window-size=1500,900 --dump-dom"
    )
    done = subprocess.run(
        [CHROMIUM, *arguments.split(), f"--user-data-dir={folder / f'profile-{width}'}", f"file://{outer}"],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return json.loads(re.search(r'<pre id="shown">(.*?)</pre>', done.stdout, re.DOTALL)[1])


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    for kind in ("amd-zen3-avx2", "intel-avx512-vnni-amx"):
        write_recorded(root / kind, per_turn=12)
    comparison, _, report, *_ = [
        path for path in write_speed_reports(root, price_per_hour=0.1) if path.suffix == ".html"
    ]
    return {"comparison": comparison.read_text("utf-8"), "report": report.read_text("utf-8")}


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium is not installed")
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", ["comparison", "report"])
def test_only_tables_scroll_sideways(pages, tmp_path, name, width):
    found = measured_in_a_browser(pages[name], tmp_path, width)
    assert found["inner"] == width
    assert found["page"] <= width
    assert found["plots"]
    assert max(found["plots"]) <= width
    # On a phone the widest tables scroll, and their first columns stay where they are.
    assert any(table["moved"] > 0 for table in found["scrolled"]) == (width == 390)
    for table in found["scrolled"]:
        assert all(abs(left) <= 2 for left in table["cells"])


@pytest.mark.parametrize("name", ["comparison", "report"])
def test_the_page_is_made_for_phones(pages, name):
    page = pages[name]
    assert 'content="width=device-width, initial-scale=1"' in page
    assert page.count("<table>") == page.count('<div class="table" tabindex="0"><table>')
    assert not re.search(r"min-width: (?:[2-9]\d|1[7-9])rem", page)
    for size in re.findall(r"<svg[^>]*viewBox=\"0 0 ([\d.]+) [\d.]+\"", page):
        # In points: so narrow that text of nine points can be read where 390 pixels are shown.
        assert float(size) < 340
