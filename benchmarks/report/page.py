"""A self-contained HTML page with all tables and figures."""

import html
import importlib.resources
import itertools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import run_log
from benchmarks.report.figures import figure_files
from benchmarks.report.rendered import Rendered
from benchmarks.report.tables import table_formats


class Section(NamedTuple):
    """A section of the page, with an exhibit whose files are written."""

    rendered: Rendered
    folder: pathlib.Path
    """folder of the files of the exhibit"""
    key: str
    """unique id of the section"""
    group: str = ""
    """heading above the section in the table of contents"""


def write(
    path: pathlib.Path, title: str, sections: Sequence[Section], absent: Sequence[str] = ()
) -> pathlib.Path:
    """Writes the page and returns its path.

    Args:
      path: path of the page.
      title: title of the page.
      sections: sections in the order of the page.
      absent: messages on exhibits that are not shown.
    """
    style = (importlib.resources.files("benchmarks.report") / "page.css").read_text("utf-8")
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{style}</style></head>",
        f"<body><main><h1>{html.escape(title)}</h1>",
        *[_contents(sections)] * (len(sections) > 1),
        *(_section(section, titled=len(sections) > 1) for section in sections),
        *[_details("Not shown", absent)] * bool(absent),
        "</main></body></html>",
        "",
    ]
    run_log.write_file(path, "\n".join(parts))
    return path


def _contents(sections: Sequence[Section]) -> str:
    parts = []
    for group, members in itertools.groupby(sections, key=lambda section: section.group):
        entries = (
            f'<li><a href="#{_id(s)}">{html.escape(s.rendered.title)}</a></li>' for s in members
        )
        parts.append(f"<h2>{html.escape(group)}</h2><ul>{''.join(entries)}</ul>")
    return f"<nav>{''.join(parts)}</nav>"


def _section(section: Section, *, titled: bool) -> str:
    shown = section.rendered
    settings = [f'<p class="setting">{html.escape(line)}</p>' for line in shown.settings]
    caption = [f"<p>{html.escape(shown.caption)}</p>"]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in shown.notes)
    caption += [f'<ul class="notes">{notes}</ul>'] * bool(notes)
    figures = [_figure(section, stem) for stem in shown.figures]
    table = []
    if shown.table is not None:
        text = table_formats.html_table(table_formats.ranked(shown.table))
        table = [f'<div class="table" tabindex="0">{text}</div>']
    # The values of a figure are also in a table, which is folded.
    if shown.name.startswith("figure"):
        folded = ["<details><summary>As a table</summary>", *table, "</details>"]
        body = [*figures, *caption, *folded * bool(table)]
    else:
        body = [*table, *caption, *figures]
    heading = [f"<h2>{html.escape(shown.title)}</h2>"] * titled
    environment = _details("Environment", shown.environment or ("not recorded",))
    return "\n".join(
        [f'<section id="{_id(section)}">', *heading, *settings, *body, environment, "</section>"]
    )


def _figure(section: Section, stem: str) -> str:
    own = section.rendered.figure_captions.get(stem, "")
    text = html.escape(own or section.rendered.caption, quote=True)
    caption = f"<figcaption>{text}</figcaption>" if own else ""
    uri = figure_files.data_uri(section.folder, stem)
    return f'<figure><img src="{uri}" alt="{text}">{caption}</figure>'


def _details(summary: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<details><summary>{summary}</summary><ul>{items}</ul></details>"


def _id(section: Section) -> str:
    return html.escape(section.key, quote=True)
