"""The page of a comparison, below its header."""

COMPARISON = """{% macro grid(table, id) %}
<h3>{{ table.title }}</h3>
<div class="card scroll" tabindex="0">
<table id="{{ id }}" class="cells{% if table.keys > 1 %} many{% endif %}">
<thead><tr>{% for label in table.head %}
<th scope="col"{% if loop.index <= table.keys %} class="key"{% endif %}>{{ label }}</th>
{%- endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr>{% for cell in row %}
{% if loop.index <= table.keys %}<th scope="row" class="key">{{ cell }}</th>
{%- else %}<td>{{ cell }}</td>{% endif %}
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}
<main>
<h2>Results</h2>
{% if figures %}
<div class="pair">
{% for figure in figures[:2] %}{{ show(figure) }}{% endfor %}
</div>
{% endif %}
{{ grid(tables[0], "table-1") }}
{% if figures[2:] %}
<h2>More figures</h2>
<div class="pair">
{% for figure in figures[2:] %}{{ show(figure) }}{% endfor %}
</div>
{% endif %}
{% if without_courses %}
<p class="soft">Curves and clients are not drawn: the run directories are not here.</p>
{% endif %}
{% if tables | length > 1 %}
<h2>Differences</h2>
<div class="pair">
{% for table in tables[1:] %}
<section{% if table.keys > 1 %} class="wide"{% endif %}>
{{- grid(table, "table-" ~ (loop.index + 1)) }}</section>
{% endfor %}
</div>
{% endif %}
{% if gains %}
<h2>Client by client</h2>
{% for table in gains %}{{ grid(table, "gains-" ~ loop.index) }}{% endfor %}
{% endif %}
<h2>How to read the tables</h2>
<ul class="soft notes">{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
<h2>Trials</h2>
<details{% if trials.rows | length <= 20 %} open{% endif %}>
<summary>{{ trials.rows | length }} trials</summary>
<div class="card scroll" tabindex="0"><table id="trials" class="cells">
<thead><tr>{% for label in trials.head %}
<th scope="col"{% if loop.first %} class="key"{% endif %}>{{ label }}</th>
{%- endfor %}</tr></thead>
<tbody>
{% for row in trials.rows %}
<tr><th scope="row" class="key">
{%- if row.link %}<a href="{{ row.link }}">{{ row.name }}</a>{% else %}{{ row.name }}{% endif %}
</th>{% for cell in row.cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
</details>
<h2>What all trials have in common</h2>
<details><summary>{{ config | length }} keys</summary>
{{ facts(config) }}
</details>
<h2>Do it again</h2>
<div class="card scroll" tabindex="0"><pre>{% for line in commands %}{{ line }}
{% endfor %}</pre></div>
</main>
</body>
</html>
"""
