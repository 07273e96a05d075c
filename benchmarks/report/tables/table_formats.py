"""Writes tables as Markdown, LaTeX and HTML."""

import html
import re
from collections.abc import Sequence
from itertools import groupby

from benchmarks.report.tables.table import Cell, Heading, Table

_NUMBER = re.compile(r"-?[0-9][0-9.,]*( ± [0-9.,]+)?")


_MARKDOWN = re.compile(r"[\\`*\[\]<|$]")


def markdown_text(text: str) -> str:
    """Escapes a text for GitHub's Markdown; an underscore within a word means nothing there."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown; the name of a group is in the first of its headings."""
    headings, last = [], ""
    for heading in table.headings:
        new = heading.group if heading.group != last else ""
        # Within a group, the line break aligns the headings.
        text = markdown_text(heading.text)
        headings.append(f"{markdown_text(new)}<br>{text}" if heading.group else text)
        last = heading.group
    marks = {"bold": "**{}**", "underline": "<u>{}</u>"}
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    lines += [
        [marks.get(c.style, "{}").format(markdown_text(c.text)) for c in row.cells]
        for row in table.rows
    ]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


LATEX_PACKAGES = "amssymb, booktabs, graphicx, xcolor"
"""The LaTeX packages that the tables need."""


def latex(table: Table, caption: str = "", notes: Sequence[str] = ()) -> str:
    """The table as a LaTeX `table` with the rules of booktabs, shrunk to the width of the text.

    Args:
      table: the table.
      caption: caption as plain text; empty: no caption.
      notes: notes below the table as plain text, one line each.
    """
    width = len(table.headings)
    lines = [f"% needs \\usepackage{{{LATEX_PACKAGES}}}", r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{latex_text(caption)}}}"] if caption else []
    lines += [r"\smallskip"] if caption else []
    lines += [
        r"\sbox0{\begin{tabular}{l" + "r" * (width - 1) + "}",
        r"\toprule",
        *_latex_groups(table),
        " & ".join(_latex_heading(h) for h in table.headings) + r" \\",
        r"\midrule",
    ]
    for failed, rows in groupby(table.rows, key=lambda row: row.failed):
        lines += [r"\midrule"] if failed else []
        for row in rows:
            cells = zip(row.cells, table.headings, strict=True)
            lines.append(" & ".join(_latex_cell(*pair) for pair in cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}%"]
    lines += [r"\ifdim\wd0>\textwidth\resizebox{\textwidth}{!}{\usebox0}\else\usebox0\fi"]
    if notes:
        small = r" \\ ".join(map(latex_text, notes))
        lines.append(rf"\par\smallskip\parbox{{\textwidth}}{{\footnotesize {small}}}")
    return "\n".join([*lines, r"\end{table}", ""])


def _latex_groups(table: Table) -> list[str]:
    """The lines with the groups and the rules below them; empty if there are no groups."""
    if not any(heading.group for heading in table.headings):
        return []
    cells, rules, column = [], [], 1
    for group, span in table.groups:
        cells.append(rf"\multicolumn{{{span}}}{{c}}{{{latex_text(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{column}-{column + span - 1}}}")
        column += span
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _latex_heading(heading: Heading) -> str:
    text = latex_text(heading.text)
    return rf"\textcolor{{gray}}{{{text}}}" if heading.paper else text


def _latex_cell(cell: Cell, heading: Heading) -> str:
    number = _NUMBER.fullmatch(cell.text)
    text = f"${cell.text.replace('±', chr(92) + 'pm')}$" if number else latex_text(cell.text)
    if heading.paper:
        return rf"\textcolor{{gray}}{{{text}}}"
    if cell.style == "bold":  # \textbf does not affect formulas
        return rf"\textbf{{\boldmath {text}}}"
    return rf"\underline{{{text}}}" if cell.style == "underline" else text


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"$<$", ">": r"$>$", "|": r"$|$", '"': "''",
    "Δp": r"$\Delta_p$", "Δ": r"$\Delta$", "α": r"$\alpha$", "β": r"$\beta$", "ε": r"$\varepsilon$",
    "μ": r"$\mu$", "σ": r"$\sigma$", "⟨R²⟩": r"$\langle R^2\rangle$", "√k": r"$\sqrt{k}$",
    "√": r"$\surd$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "−": "$-$", "°": r"$^\circ$",
    "²": "$^2$", "³": "$^3$", "₀": "$_0$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "✓": r"$\checkmark$", "✗": r"$\times$", "–": "--", "—": "---", "…": r"\ldots{}", "’": "'",
    "→": r"$\to$", "≥": r"$\geq$", "≤": r"$\leq$", "‖": r"$\|$",
}  # fmt: skip
_LATEX_PATTERN = re.compile("|".join(sorted(map(re.escape, _LATEX), key=len, reverse=True)))


def latex_text(text: str) -> str:
    """Escapes a text for LaTeX, and replaces symbols by commands."""
    return _LATEX_PATTERN.sub(lambda match: _LATEX[match[0]], text)


def ranked(table: Table) -> Table:
    """The table with what decides in front: the columns of Δp, and the rank of each row by them.

    A table without such a column stays as it is.
    """
    columns = [
        (heading, [row.cells[k] for row in table.rows]) for k, heading in enumerate(table.headings)
    ]
    own = [k for k, heading in enumerate(table.headings) if heading.text.startswith("Δp (%)")]
    if not own:
        return table
    front, moved = [columns[0]], {0}
    for k in own:
        beside = [k + 1] if k + 1 < len(columns) and table.headings[k + 1].paper else []
        heading, cells = columns[k]
        ranks = [Cell(rank) for rank in _ranks([cell.text for cell in cells])]
        front += [(heading, cells), (Heading("rank", heading.group), ranks)]
        front += [columns[i] for i in beside]
        moved |= {k, *beside}
    front += [column for k, column in enumerate(columns) if k not in moved]
    rows = zip(table.rows, zip(*(cells for _, cells in front), strict=True), strict=True)
    return Table(
        tuple(heading for heading, _ in front), tuple(row._replace(cells=own) for row, own in rows)
    )


def _ranks(texts: Sequence[str]) -> list[str]:
    """The ranks of numbers by their means, the largest first; those that look alike share one."""
    means = [float(text.split(" ")[0]) if _NUMBER.fullmatch(text) else None for text in texts]
    known = sorted((mean for mean in means if mean is not None), reverse=True)
    return ["–" if mean is None else str(1 + known.index(mean)) for mean in means]


def html_table(table: Table) -> str:
    """The table as HTML; columns of the paper and failed rows have CSS classes."""
    lines = ["<table>", "<thead>"]
    if any(heading.group for heading in table.headings):
        groups = (
            f'<th colspan="{span}" scope="colgroup"{_class("group" if group else "")}>'
            f"{html.escape(group)}</th>"
            for group, span in table.groups
        )
        lines.append(f"<tr>{''.join(groups)}</tr>")
    headings = (
        f'<th scope="col"{_class("paper" if h.paper else "")}>{html.escape(h.text)}</th>'
        for h in table.headings
    )
    lines += [f"<tr>{''.join(headings)}</tr>", "</thead>", "<tbody>"]
    for row in table.rows:
        cells = zip(row.cells[1:], table.headings[1:], strict=True)
        text = "".join(_html_cell(*pair) for pair in cells)
        name = f'<th scope="row">{html.escape(row.name)}</th>'
        lines.append(f"<tr{_class('failed' if row.failed else '')}>{name}{text}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>", ""])


def _html_cell(cell: Cell, heading: Heading) -> str:
    text = html.escape(cell.text)
    if _NUMBER.fullmatch(cell.text):
        mean, plus_minus, spread = text.replace("-", "−").partition(" ± ")
        text = f'{mean} <span class="spread">± {spread}</span>' if plus_minus else mean
    tag = {"bold": "b", "underline": "u"}.get(cell.style)
    text = f"<{tag}>{text}</{tag}>" if tag else text
    return f"<td{_class('paper' if heading.paper else '')}>{text}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
