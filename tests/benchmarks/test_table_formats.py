"""Tables of text in Markdown, LaTeX and HTML, whatever the text."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.report.tables import table_formats
from benchmarks.report.tables.table import Cell, Heading, Row, Table, beside, plain


def test_latex_prints_text_as_it_is():
    assert table_formats.latex_text("a_b & 5 % {x} $1 #2 ~ ^ \\") == (
        r"a\_b \& 5 \% \{x\} \$1 \#2 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert table_formats.latex_text("Δp ↑ ± ⟨R²⟩ (a₀²), β = 0.9/√k") == (
        r"$\Delta_p$ $\uparrow$ $\pm$ $\langle R^2\rangle$ (a$_0$$^2$), $\beta$ = 0.9/$\sqrt{k}$"
    )
    one = Table(
        (Heading("method"), Heading("x_1", "50 %")),
        (Row((Cell("A & B"), Cell("-1.50 ± 0.20", "underline"))),),
    )
    text = table_formats.latex(one, "C_1", ["n & m"])
    for line in (
        r"\caption{C\_1}", r"\multicolumn{1}{c}{} & \multicolumn{1}{c}{50 \%} \\",
        r"\cmidrule(lr){2-2}", r"A \& B & \underline{$-1.50 \pm 0.20$} \\",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert r"n \& m" in text


def test_html_escapes_text():
    one = Table((Heading("<a>"), Heading("&")), (Row((Cell("a<b"), Cell("x > y"))),))
    cells = [cell.text for cell in ET.fromstring(table_formats.html_table(one)).iter("td")]
    assert cells == ["x > y"]
    assert "a&lt;b" in table_formats.html_table(one)


def test_tables_are_rectangular():
    with pytest.raises(ValueError, match="expected 2 cells in 'a', found 1"):
        Table((Heading("x"), Heading("y")), (Row((Cell("a"),)),))
    left = Table((Heading("m"), Heading("x")), (Row((Cell("a"), Cell("1"))),))
    right = Table((Heading("m"), Heading("y")), (Row((Cell("b"), Cell("2"))),))
    both = beside(left, right)
    assert [[c.text for c in row.cells] for row in both.rows] == [["a", "1", "–"], ["b", "–", "2"]]


def test_what_decides_comes_first_with_ranks():
    paper = Heading("paper", "", True)
    headings = (Heading("method"), Heading("MAE ↓"), Heading("Δp (%) ↑"), paper)
    rows = [("A", "1", "-3.00 ± 1.00", "2"), ("B", "2", "5.00", "–"), ("C", "3", "–", "7"),
            ("D", "4", "5.00 ± 0.10", "8")]  # fmt: skip
    cells = tuple(Row(tuple(map(Cell, row))) for row in rows)
    ranked = table_formats.ranked(Table(headings, cells))
    assert [h.text for h in ranked.headings] == ["method", "Δp (%) ↑", "rank", "paper", "MAE ↓"]
    assert [[cell.text for cell in row.cells] for row in ranked.rows] == [
        ["A", "-3.00 ± 1.00", "3", "2", "1"],
        ["B", "5.00", "1", "–", "2"],
        ["C", "–", "–", "7", "3"],
        ["D", "5.00 ± 0.10", "1", "8", "4"],
    ]
    other = plain(["method", "time"], [["A", "1"]])
    assert table_formats.ranked(other) is other
