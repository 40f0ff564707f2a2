"""A statement as one HTML file, to read and to print on A4 or letter."""

from collections.abc import Iterator
from html import escape

from sublet.cli.paper.layout import COLUMNS, Paper

_STYLE = """
:root { color-scheme: light }
body { font: 10pt/1.45 system-ui, "Helvetica Neue", Arial, sans-serif; color: #1a1a1a;
  margin: 2rem auto; padding: 0 1.5rem; max-width: 62rem }
h1 { font-size: 20pt; font-weight: 600; margin: 0 }
.number { color: #666; margin: 0 0 1.5rem }
dl { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem 2rem;
  margin: 0 0 1.5rem }
dt { color: #666; font-size: 8pt; text-transform: uppercase; letter-spacing: .05em }
dd { margin: 0; overflow-wrap: anywhere }
table { width: 100%; border-collapse: collapse; font-size: 8.5pt }
th { text-align: left; border-bottom: 1.5pt solid #1a1a1a; padding: .3rem .4rem }
td { border-bottom: .5pt solid #ddd; padding: .3rem .4rem; vertical-align: top;
  overflow-wrap: anywhere }
td:first-child { color: #666; width: 11% }
th:nth-child(n+5), td:nth-child(n+5) { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums }
td:nth-child(2) { width: 12% }
.totals { width: auto; margin: 1rem 0 0 auto; font-size: 10pt }
.totals td { text-align: right; white-space: nowrap; width: auto; color: inherit }
.totals tr:last-child td { font-weight: 600; border-bottom: 0 }
footer { color: #666; font-size: 8pt; margin-top: 2rem }
@page { margin: 16mm 14mm }
@media print {
  body { margin: 0; padding: 0; max-width: none }
  thead { display: table-header-group }
  tr, dl > div, .totals, footer { break-inside: avoid }
}
"""


def write_html(paper: Paper) -> Iterator[str]:
    """Give the lines of the page. It loads nothing and runs nothing."""
    title = escape(f"{paper.title} {paper.number}")
    yield '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">'
    yield (
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>"
    yield f'<h1>{escape(paper.title)}</h1>\n<p class="number">{escape(paper.number)}</p>'
    yield "<dl>"
    for label, lines in paper.heads:
        text = "<br>".join(map(escape, lines))
        yield f"<div><dt>{escape(label)}</dt><dd>{text}</dd></div>"
    yield "</dl>\n<table>\n<thead><tr>"
    yield "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    yield "</tr></thead>\n<tbody>"
    for row in paper.rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield '</tbody>\n</table>\n<table class="totals">'
    for name, amount in paper.totals:
        yield f"<tr><td>{escape(name)}</td><td>{escape(amount)}</td></tr>"
    yield "</table>\n<footer>"
    yield "\n".join(f"<p>{escape(note)}</p>" for note in paper.notes)
    yield "</footer>\n</html>"
