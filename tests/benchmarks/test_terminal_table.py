"""Tables as they are seen."""

import io

from rich.console import Console
from rich.text import Text

from benchmarks.terminal_table import Column, table


def printed(*arguments, width=60):
    console = Console(file=io.StringIO(), width=width)
    console.print(table(*arguments))
    return console.file.getvalue().splitlines()


def test_names_are_at_the_left_and_numbers_at_the_right():
    lines = printed("a title", ("", "T", Column("mode")), [[("mlp", "11", "vmap")]])
    assert lines[0].strip() == "a title"
    assert not lines[0].startswith(" ")
    lines = printed("", ("name", "number", Column("text")), [[("a", "1", "b")]])
    assert "│ a    │      1 │ b    │" in lines


def test_sections_are_parted_by_lines_and_a_caption_is_below():
    rows = [[("a", "1"), ("b", "2")], [("c", "3")]]
    lines = printed("", ("name", "x"), rows, "below")
    cells = [line[2] for line in lines if line.startswith("│")]
    assert cells == ["a", "b", "c"]
    assert [line for line in lines if line.startswith("├")] == ["├──────┼───┤"]
    assert lines[-1].strip() == "below"


def test_brackets_are_text_and_not_markup():
    mark = Column("[x]")
    for _ in range(2):  # what a column has been drawn with does not stay in it
        lines = printed("in [runs]", ("[red]", mark), [[("[bold]a", Text("[b]", style="bold"))]])
        assert lines[0].rstrip() == "in [runs]"
        assert [line.split()[1::2] for line in lines if "bold" in line] == [["[bold]a", "[b]"]]
        assert any("[red]" in line and "[x]" in line for line in lines)


def test_lines_that_do_not_fit_are_broken_where_a_column_allows_it():
    lines = printed("", ("name", Column("words")), [[("whole", "so many words")]], width=20)
    assert sum("whole" in line for line in lines) == 1
    assert not any("so many words" in line for line in lines)
    assert not any("…" in line for line in lines)
