"""A run as one HTML page that needs no other file."""

import io
import re
from html import escape
from pathlib import Path
from string import Template

import matplotlib

from ..files import replacing
from .columns import is_ahead
from .plot import figures
from .report import LEFT, OURS, describe, notes, tables

AHEAD = "Underlined, in a row with a bar at its left: someone is faster than numfuse."
READABLE = 72  # pixels an inch: a picture that has not as many is scrolled
NO_METADATA = dict.fromkeys(["Creator", "Date", "Format", "Type"])  # which names a web site


def write(path, run):
    """Write the page into a file."""
    with replacing(path) as file:
        file.write(page(run).encode())


def page(run):
    """The text of the page: machine, method, command, tables, legend and pictures."""
    command = run["command"]
    shown = "\n".join(_table(*pair) for pair in tables(run))
    pictures = "\n".join(_picture(*pair) for pair in figures(run))
    return Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8")).substitute(
        cpu=escape(run["machine"]["cpu"]),
        about="\n".join(f"<p>{escape(line.removesuffix(command))}</p>" for line in describe(run)),
        command=" ".join(f"<span>{escape(word)}</span>" for word in command.split(" ")),
        tables=shown,
        notes="\n".join(f"<li>{escape(note)}</li>" for note in [AHEAD] * ("<mark>" in shown) + notes(run)),
        pictures=f"<h2>Pictures</h2>\n{pictures}" if pictures else "",
    )


def _table(title, columns):
    head = "".join(f'<th scope="col"{_class(heading)}>{escape(heading)}</th>' for heading in columns)
    lines = [_line([*zip(columns, cells)]) for cells in zip(*columns.values())]
    return "\n".join([
        f'<section>\n<h2>{escape(title)}</h2>\n<div class="scroll" role="region" aria-label="{escape(title)}" '
        f'tabindex="0">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>', *lines,
        "</tbody>\n</table>\n</div>\n</section>"])


def _line(row):
    cells = [f"<td{_class(heading)}>{_marked(heading, cell)}</td>" for heading, cell in row[1:]]
    case = escape(row[0][1]).replace("_", "_<wbr/>")  # where a narrow window may break it
    start = '<tr class="ahead">' if any(is_ahead(*pair) for pair in row) else "<tr>"
    return f'{start}<th scope="row" class="words">{case}</th>{"".join(cells)}</tr>'


def _marked(heading, cell):
    return f"<mark>{escape(cell)}</mark>" if is_ahead(heading, cell) else escape(cell)


def _class(heading):
    return ' class="words"' if heading in LEFT else ' class="ours"' if heading == OURS else ""


def _picture(name, figure):
    """The figure as SVG, with ids that no other figure of the page has."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # the same bytes each time
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    svg = file.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r'(\bid="|href="#|url\(#)', lambda match: f"{match[0]}{name}.", svg)
    style = f"min-width: {figure.get_figwidth() * READABLE:.0f}px"
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(name)}" style="{style}"', 1)
    return f'<figure class="scroll">\n{svg}</figure>'
