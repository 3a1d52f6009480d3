"""How a report's page looks: one column that fits a phone, tables that scroll beside their first column."""

from __future__ import annotations

__all__ = ["PAGE_STYLE"]

PAGE_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6775; --line: #d9dfe5; --back: #fff;
  --band: #f4f6f8; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --soft: #a3aeba; --line: #36414c;
  --back: #12181f; --band: #1b232c; --accent: #6cb7e6; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1, h2, h3, h4 { overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
h4 { font-size: .95rem; margin: 1.25rem 0 .25rem; color: var(--soft); }
p { max-width: 46rem; margin: .75rem 0; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .9rem; margin: 1rem 0; }
a { color: var(--accent); }
code { font: .9em ui-monospace, monospace; background: var(--band); padding: .1em .3em; border-radius: 3px; }
pre { overflow-x: auto; background: var(--band); padding: .75rem 1rem; border-radius: 6px; }
pre code { padding: 0; background: none; }
.table { overflow-x: auto; margin: .75rem 0 1rem; border: 1px solid var(--line); border-radius: 6px;
  width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-size: .82rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; text-align: left; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid var(--line); background: var(--back); }
th { background: var(--band); font-weight: 600; }
tbody tr:nth-child(even) td { background: var(--band); }
tbody tr:last-child td { border-bottom: 0; }
tr.ours td { font-weight: 600; }
tr.below td { color: var(--soft); }
td.long { white-space: normal; min-width: 16rem; overflow-wrap: anywhere; }
th:first-child, td:first-child { position: sticky; left: 0; z-index: 1;
  border-right: 1px solid var(--line); }
figure { margin: 1.25rem 0; max-width: 34rem; }
figure svg { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; }
figcaption { font-size: .85rem; color: var(--soft); margin-top: .35rem; }
@media (max-width: 40rem) { main { padding: 1rem 1rem 3rem; } h1 { font-size: 1.5rem; }
  th:first-child, td:first-child { white-space: normal; overflow-wrap: break-word; max-width: 9rem;
    min-width: 6.5rem; } }
@media print { body { font-size: 10pt; } main { max-width: none; padding: 0; } nav { display: none; }
  .table { overflow: visible; border: 0; } table { font-size: 6.5pt; }
  th, td { padding: .15rem .25rem; white-space: normal; } tr, figure { break-inside: avoid; }
  th:first-child, td:first-child { position: static; }
  h2, h3, h4 { break-after: avoid; } pre { white-space: pre-wrap; } }
"""
"""The page's style sheet."""
