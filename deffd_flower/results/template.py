"""The page of a run. Strings, because Flower's app bundle carries Python files but no HTML."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #ffffff; --ink: #1b1d22; --soft: #5c6370; --line: #dfe2e8;
  --bar: #cfe3f3; --accent: #0072b2; --bad: #b34700; --fair: #8a5a00;
  --warn-page: #fdf1dc; --warn-line: #e69f00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121418; --card: #1b1e24; --ink: #e8eaee; --soft: #a2a9b5; --line: #333842;
    --bar: #1f4662; --accent: #56b4e9; --bad: #ff8c42; --fair: #e6b450;
    --warn-page: #33290f; --warn-line: #e69f00;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 78rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { margin: 0; font-size: clamp(1.6rem, 5vw, 2.4rem); line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.2rem 0 .8rem; font-size: 1.25rem; }
.soft { margin: .3rem 0 0; color: var(--soft); overflow-wrap: anywhere; }
.card {
  margin: 0; padding: 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .7rem; min-width: 0;
}
.warn { margin-top: 1rem; background: var(--warn-page); border-color: var(--warn-line); }
.tiles { display: grid; gap: .8rem; margin-top: 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.tiles dt { color: var(--soft); font-weight: 600; }
.tiles dd { margin: 0; }
.tiles strong { font-size: 2.3rem; line-height: 1.15; font-weight: 650; color: var(--accent);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles small { display: block; color: var(--soft); line-height: 1.35; }
.pair { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
@media (max-width: 34rem) { figure.card { padding: .6rem; } }
figure svg { display: block; width: 100%; height: auto; max-width: 40rem; margin: 0 auto; }
@media (min-width: 66rem) {
  .pair > figure:last-child:nth-child(odd) { grid-column: 1 / -1; display: grid; gap: 2rem;
    grid-template-columns: 1fr 1fr; align-items: center; }
}
figcaption { margin-top: .6rem; color: var(--soft); font-size: .92rem; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
.scroll { overflow: auto; padding: 0; }
details .scroll { max-height: 36rem; }
table { width: 100%; border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
tr:last-child > * { border-bottom: 0; }
thead th { position: sticky; top: 0; background: var(--card); box-shadow: 0 1px var(--line);
  vertical-align: bottom; }
th { font-weight: 600; }
#client-table th:first-child, .cells th:first-child { position: sticky; left: 0;
  background: var(--card); }
#client-table thead th:first-child, .cells thead th:first-child { z-index: 1; }
.cells td { white-space: nowrap; }
.pair > .wide { grid-column: 1 / -1; }
.many .key { white-space: nowrap; }
.pair .cells { font-size: .84rem; }
.pair .cells th, .pair .cells td { padding: .35rem .45rem; }
@media (max-width: 34rem) {
  .cells { font-size: .84rem; }
  .cells th, .cells td { padding: .35rem .45rem; }
}
h3 { margin: 1rem 0 .5rem; font-size: 1rem; }
.cells .key { text-align: left; }
.notes { padding-left: 1.2rem; font-size: .92rem; }
a { color: var(--accent); }
tbody th, .facts td:first-child { text-align: left; }
.facts th { width: 42%; color: var(--soft); }
.facts td { text-align: left; overflow-wrap: anywhere; }
.worst th::after { content: " ▾"; color: #d55e00; }
.bar { background: linear-gradient(to right, var(--bar) calc(var(--part) * 1%), transparent 0)
  no-repeat; }
.numbers { display: grid; gap: .6rem 1.2rem; margin-bottom: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
.numbers dt { color: var(--soft); font-size: .92rem; }
.numbers dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.numbers .wide { grid-column: 1 / -1; order: 1; }
.beside { display: grid; gap: 1rem; align-items: start; margin-bottom: 1rem; }
@media (min-width: 66rem) {
  .beside { grid-template-columns: 1fr 1fr; }
  #keys { grid-row: 1 / span 3; }
}
.soft + .card { margin-top: .7rem; }
.holds { display: inline-block; padding: .05rem .55rem; border: 1.5px solid; border-radius: 1rem;
  font-weight: 600; color: var(--accent); }
.holds.no { color: var(--bad); }
.holds.simulated { color: var(--fair); border-style: dashed; }
#claims th, #claims td { text-align: left; min-width: 9rem; }
@media (max-width: 44rem) {
  #claims thead { display: none; }
  #claims tr { display: block; padding: .6rem .9rem; border-bottom: 1px solid var(--line); }
  #claims tr > * { display: block; padding: .15rem 0; border: 0; }
  #claims td[data-head]::before { content: attr(data-head) ": "; color: var(--soft); }
}
pre { margin: 0; padding: .9rem 1rem; overflow-x: auto; font: .9rem/1.6 ui-monospace, Menlo,
  Consolas, monospace; }
summary { cursor: pointer; margin: 1rem 0 .6rem; font-weight: 600; }
@media print { body { background: none; max-width: none; } details .scroll { max-height: none; } }
"""

HEAD = """{% macro show(figure) %}
<figure class="card" id="{{ figure.name }}">
{{ figure.svg }}
<figcaption><b>{{ figure.title }}.</b> {{ figure.caption }}</figcaption>
</figure>
{% endmacro %}
{% macro facts(entries) %}
<div class="card scroll" tabindex="0"><table class="facts"><tbody>
{% for label, text in entries %}
<tr><th scope="row">{{ label }}</th><td>{{ text }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
<p class="soft">{{ subtitle }}</p>
{% if notice %}<p class="card warn" role="status">{{ notice }}</p>{% endif %}
</header>
"""
"""Macros for figures and tables, and a page up to where its content begins."""

PAGE = """<main>
{% if tiles %}
<dl class="tiles">
{% for tile in tiles %}
<div class="card"><dt>{{ tile.label }}</dt>
<dd><strong>{{ tile.value }} %</strong><small>{{ tile.meaning }}</small></dd></div>
{% endfor %}
</dl>
{% endif %}
{% if basis %}<p class="soft" id="basis">{{ basis }}</p>{% endif %}
{% if figures %}
<h2>Figures</h2>
<div class="pair">
{% for figure in figures %}{{ show(figure) }}{% endfor %}
</div>
{% endif %}
{% if keys or key_figures %}
<h2>Keys and security</h2>
{% if keys and keys.numbers %}
<dl class="card numbers">
{% for label, text in keys.numbers %}
<div{% if text | length > 24 %} class="wide"{% endif %}>
<dt>{{ label }}</dt><dd>{{ text }}</dd></div>
{% endfor %}
</dl>
{% endif %}
<div class="beside">
{% for figure in key_figures %}{{ show(figure) }}{% endfor %}
</div>
{% endif %}
{% if keys and keys.claims %}
<p class="soft">{{ keys.notice }}</p>
<div class="card scroll" tabindex="0"><table id="claims">
<thead><tr><th scope="col">Guarantee</th><th scope="col">Holds</th><th scope="col">From what</th>
<th scope="col">What breaks it</th></tr></thead>
<tbody>
{% for claim in keys.claims %}
<tr><th scope="row">{{ claim.guarantee }}</th>
<td data-head="Holds"><span class="holds {{ claim.holds }}">{{ claim.holds }}</span></td>
<td data-head="From what">{{ claim.source }}</td>
<td data-head="What breaks it">{{ claim.breaks }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% if keys and keys.links %}
<details open><summary>{{ keys.links | length }} quantum links, totals from keys.csv</summary>
<div class="card scroll" tabindex="0"><table id="link-table">
<thead><tr>{% for label in keys.link_labels %}<th scope="col">{{ label }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in keys.links %}
<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
</details>
{% elif keys and keys.more_links %}
<p class="soft">{{ keys.more_links }} quantum links were used; keys.csv has the totals of each.</p>
{% endif %}
{% if clients %}
<h2>Clients after round {{ last_round }}</h2>
{% if models %}
<div class="card scroll" tabindex="0"><table id="model-table">
<thead><tr>{% for label in model_labels %}<th scope="col">{{ label }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in models %}
<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
<details{% if clients | length <= 20 %} open{% endif %}>
<summary>{{ clients | length }} clients, the worst tenth by global accuracy marked ▾</summary>
<div class="card scroll" tabindex="0"><table id="client-table">
<thead><tr>{% for label in client_labels %}<th scope="col">{{ label }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in clients %}
<tr{% if row.worst %} class="worst"{% endif %}><th scope="row">{{ row.client }}</th>
{%- for cell in row.cells -%}
<td{% if cell.part is not none %} class="bar" style="--part:{{ cell.part }}"{% endif %}>
{{- cell.text }}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody></table></div>
</details>
{% endif %}
<div class="pair">
<section><h2>Summary</h2>
<details open><summary>{{ summary | length }} numbers, from summary.json</summary>
{{ facts(summary) }}</details></section>
<section><h2>Configuration</h2>
<details open><summary>{{ config | length }} keys, from config.yaml</summary>
{{ facts(config) }}</details></section>
</div>
<h2>Run it again</h2>
<p class="soft">From inside this run's directory:</p>
<div class="card scroll"><pre>{% for line in commands %}{{ line }}
{% endfor %}</pre></div>
{% if versions %}<p class="soft">Made with {{ versions }}</p>{% endif %}
</main>
</body>
</html>
"""
