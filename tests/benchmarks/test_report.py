"""Tables and plots from fabricated files of runs: nothing is trained here."""

import io
import json
import pathlib
import re

import numpy as np
import pytest
from rich.console import Console

from benchmarks import run_log
from benchmarks.errors import UserError
from benchmarks.problems import datasets
from benchmarks.report import rendered, study_report
from benchmarks.report.figures import curves, figure_files, plots
from benchmarks.report.records import columns, results, setting, study
from benchmarks.report.tables import printed, terminal
from tests.benchmarks.runs import SETS, deltas, metrics, write_folder, write_run


def outcomes_of(folder):
    return results.outcomes(run_log.read_folder(folder).runs)


def markdown(folder):
    """The folder's table."""
    return rendered.markdown(study_report.make(study.load(folder), figures=False))


def table_rows(markdown):
    """Our columns: headings, method -> cells without marks, and with; and the paper's cells."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    paper = [heading.split("<br>")[-1].startswith(("paper", "Δp, paper")) for heading in head]

    def pick(row, theirs=False):
        return [cell for cell, mark in zip(row, paper, strict=True) if mark == theirs]

    plain = [[re.sub(r"\*\*|</?u>", "", cell) for cell in row] for row in rows]
    return (
        pick(head),
        {row[0]: pick(row)[1:] for row in plain},
        {row[0]: pick(row)[1:] for row in rows},
        {row[0]: pick(row, theirs=True) for row in plain},
    )


@pytest.mark.parametrize("dataset", SETS)
def test_figures_are_those_of_the_files(tmp_path, dataset):
    test = write_folder(tmp_path, dataset)
    outcomes = outcomes_of(tmp_path)
    assert [outcome.method for outcome in outcomes] == ["stl", "ew", "db_mtl"]
    headings, rows, _, _ = table_rows(markdown(tmp_path))
    flat = np.array([[v for task in run for v in task] for run in test["db_mtl"]])
    office = dataset.startswith("office")
    if office:
        flat = np.column_stack([flat, flat.mean(axis=1)])
    assert len(headings) == 1 + flat.shape[1] + 2
    for heading, cell, column in zip(headings[1:], rows["DB-MTL"], flat.T, strict=False):
        scaled = 100 * column if "%" in heading else column
        mean, spread = map(float, cell.split(" ± "))
        half = 0.51 * 10.0 ** -len(cell.split(" ")[0].partition(".")[2])
        np.testing.assert_allclose(mean, scaled.mean(), atol=half)
        np.testing.assert_allclose(spread, scaled.std(ddof=1), atol=half)
    expected = deltas(dataset, test["db_mtl"], test["stl"])
    np.testing.assert_allclose(outcomes[2].delta_p, expected, rtol=1e-6)
    assert rows["DB-MTL"][-2] == f"{np.mean(expected):.2f} ± {np.std(expected, ddof=1):.2f}"
    assert rows["STL"][-2].startswith("0.00 ± ")
    np.testing.assert_allclose(outcomes[2].delta_p_per_task.mean(axis=1), expected, rtol=1e-6)


@pytest.mark.parametrize("dataset", SETS)
def test_the_papers_figures_stand_in_their_columns(tmp_path, dataset):
    """Every figure of the paper's table, in its order."""
    write_folder(tmp_path, dataset)
    names = {
        "nyuv2": "table1", "cityscapes": "table2", "qm9": "table3",
        "office31": "table4_office31", "officehome": "table4_officehome",
    }  # fmt: skip
    table = printed.paper_table(names[dataset])
    headings, _, _, paper = table_rows(markdown(tmp_path))
    expected = [v for k, v in table["EW"].items() if k != "method" and not k.endswith("_std")]
    assert [cell.split(" ")[0] for cell in paper["EW"]] == expected
    if dataset == "nyuv2":
        assert headings[1:4] == ["Segmentation<br>mIoU (%) ↑", "<br>PAcc (%) ↑",
                                 "Depth<br>AErr (m) ↓"]  # fmt: skip
        assert paper["EW"][-1] == "-1.78 ± 0.45"


def test_segnet_stands_beside_table_6_and_other_networks_alone():
    def name(network, dataset="nyuv2"):
        return datasets.describe(dataset).printed_table(network)

    assert [name(n) for n in ("", "deeplab")] == ["table1"] * 2
    assert [name(n) for n in ("segnet", "segnet_mtan")] == ["table6"] * 2
    assert [name(n) for n in ("cross_stitch", "mtan")] == [None] * 2
    assert name("segnet", "cityscapes") is None


def test_best_and_second_follow_the_direction(tmp_path):
    values = {"stl": [[0.5, 0.5], [0.2, 0.2]], "ew": [[0.6, 0.4], [0.3, 0.1]],
              "db_mtl": [[0.4, 0.6], [0.1, 0.3]]}  # fmt: skip
    for method, test in values.items():
        write_run(tmp_path, method, 0, {"dataset": "cityscapes"} | SETS["cityscapes"], test)
    _, _, rows, _ = table_rows(markdown(tmp_path))
    assert rows["EW"][:4] == ["**60.00**", "40.00", "0.3000", "**0.1000**"]
    assert rows["STL"][:4] == [f"<u>{x}</u>" for x in ("50.00", "50.00", "0.2000", "0.2000")]
    # mIoU +20, PAcc -20; AErr -50, RErr +50; and the reverse.
    assert rows["EW"][4] == "**0.00**"
    assert outcomes_of(tmp_path)[1].delta_p_per_task[0] == pytest.approx([0, 0])


def test_sample_data_are_marked_everywhere(tmp_path, monkeypatch):
    write_folder(tmp_path, "nyuv2", sample_data=True)
    outcomes = outcomes_of(tmp_path)
    title = "NYUv2, preset quick"
    _, _, _, paper = table_rows(markdown(tmp_path))
    assert markdown(tmp_path).startswith("## NYUv2 (sample data)\n")
    assert paper["EW"] == ["-1.78 ± 0.45"]
    assert "Δp, paper (real data)" in markdown(tmp_path)
    assert outcomes[0].columns.title == "NYUv2 (sample data)"
    for some in (outcomes, outcomes * 2):  # both forms of the table
        console = Console(width=150)
        with console.capture() as capture:
            console.print(terminal.table(some, title))
        assert "(sample data)" in capture.get()
        assert "paper" not in capture.get()
    notes = []
    monkeypatch.setattr(plots.Figure, "supxlabel", lambda self, text, **_: notes.append(text))
    assert len(study_report.make(study.load(tmp_path)).figures) == 5
    assert len(notes) == 5
    assert all("sample data" in note for note in notes)
    assert columns.marked("Sample data of NYUv2", outcomes[0].columns) == "Sample data of NYUv2"


def test_a_run_without_the_name_of_its_network_agrees_with_others(tmp_path):
    start = {"dataset": "qm9", "sample_data": False} | SETS["qm9"]
    for method, network in (("stl", {}), ("ew", {}), ("uw", {"network": "mpnn"})):
        write_run(tmp_path, method, 0, start | network, [[1.0]] * 11)
    assert outcomes_of(tmp_path)[0].columns.network == "mpnn"


def test_runs_that_disagree_are_named(tmp_path):
    write_folder(tmp_path, "cityscapes", seeds=1)
    start = {"dataset": "cityscapes"} | SETS["cityscapes"]
    write_run(tmp_path, "uw", 3, start | {"sample_data": True}, metrics("cityscapes", 0))
    with pytest.raises(
        UserError,
        match=r"uw-seed3.jsonl: sample_data is True there and False in stl-seed0.jsonl",
    ):
        outcomes_of(tmp_path)
    for seed, network in enumerate([None, "deeplab", "segnet"]):
        write_run(tmp_path, "uw", seed + 1, start | {"network": network}, metrics("cityscapes", 0))
    (tmp_path / "uw-seed3.jsonl").rename(tmp_path / "uw-seed4.jsonl")
    with pytest.raises(
        UserError, match=r"uw-seed4.jsonl: network is 'segnet' there and 'deeplab' in uw-seed2"
    ):
        outcomes_of(tmp_path)
    (tmp_path / "uw-seed4.jsonl").unlink()
    write_run(tmp_path, "uw", 3, start, [[0.5], [0.5, 0.5]])
    with pytest.raises(UserError, match=r"uw-seed3.jsonl: expected \[2, 2\] metrics .*\[1, 2\]"):
        outcomes_of(tmp_path)
    write_run(tmp_path, "uw", 3, {"dataset": "cityscapes"}, metrics("cityscapes", 0))
    with pytest.raises(UserError, match=r"uw-seed3.jsonl: expected tasks, found"):
        outcomes_of(tmp_path)
    write_run(tmp_path, "uw", 3, start | {"higher_is_better": [[True], [False, False]]}, [[1.0]])
    with pytest.raises(UserError, match=r"uw-seed3.jsonl: expected a metric and its direction"):
        outcomes_of(tmp_path)


def test_a_baseline_of_zero_counts_as_in_validation_and_nulls_leave_dashes(tmp_path):
    start = {"dataset": "office31"} | SETS["office31"]
    write_run(tmp_path, "stl", 0, start, [[0.0], [0.5], [0.5]])
    write_run(tmp_path, "ew", 0, start, [[0.1], [None], [0.6]])
    outcome = outcomes_of(tmp_path)[1]
    np.testing.assert_allclose(outcome.delta_p_per_task[0], [10, np.nan, 20], rtol=1e-6)
    _, rows, _, _ = table_rows(markdown(tmp_path))
    assert rows["EW"] == ["10.00", "–", "60.00", "–", "–", "4.0"]
    drawn = plots.draw(outcomes_of(tmp_path))
    assert set(drawn) == {"losses", "gradient_norms", "validation"}


@pytest.mark.parametrize(
    ("count", "shape"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (9, (2, 5)),
                         (11, (3, 4))]
)  # fmt: skip
def test_panels_and_legend_stand_apart(tmp_path, count, shape):
    write_folder(tmp_path, "qm9", seeds=1)
    titles = [str(k) for k in range(count)]
    panels = curves.Panels("what", titles, [True] * count, lambda _: np.arange(1.0, count + 1))
    figure = curves.draw(outcomes_of(tmp_path), panels)
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == shape
    shown = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in shown] == titles
    figure.draw_without_rendering()
    legend = [*figure.legends, *[a.get_legend() for a in figure.axes if a.get_legend()]]
    assert len(legend) == 1
    box = legend[0].get_window_extent()
    assert not any(box.overlaps(axis.get_window_extent()) for axis in shown)


@pytest.mark.parametrize("losses", [(0, 0), (-1, -1), (-1, 1), (None, -1), (1, 1e-90)])
def test_curves_without_a_logarithm_are_drawn(tmp_path, losses):
    for seed, loss in enumerate(losses):
        for method in ("stl", "ew"):
            start = {"dataset": "cityscapes"} | SETS["cityscapes"]
            write_run(tmp_path, method, seed, start, metrics("cityscapes", seed))
            path = tmp_path / f"{method}-seed{seed}.jsonl"
            path.write_text(path.read_text().replace("[0.5, 0.5]", json.dumps([loss] * 2)))
    figure = plots.draw(outcomes_of(tmp_path))["losses"]
    figure_files.as_it_is(figure).savefig(io.BytesIO(), format="svg", bbox_inches="tight")


def test_what_was_not_recorded_is_left_out(tmp_path):
    write_folder(tmp_path, "cityscapes", seeds=1)
    for path in pathlib.Path(tmp_path).glob("*.jsonl"):
        path.write_text(path.read_text().replace('"gradient_norms"', '"other"'))
    drawn = plots.draw(outcomes_of(tmp_path))
    assert set(drawn) == {"losses", "validation", "delta_p", "delta_p_and_time"}


@pytest.mark.parametrize(
    ("size", "train", "expected"),
    [
        (None, {"epochs": 200, "last_epochs": 10}, "held out and chooses the epoch"),
        (0, {"epochs": 200, "last_epochs": 10}, "are the mean of the last 10 epochs"),
        (0, {"epochs": 3, "last_epochs": 10}, "are the mean of the last 3 epochs"),
        (0, {"epochs": 200}, "are of the last epoch"),  # folders older than the option
    ],
)
def test_notes_say_which_epoch_is_tested(size, train, expected):
    settings = {"dataset": "nyuv2", "data": {"validation_size": size}, "train": train}
    (note,) = setting.notes(settings)
    assert expected in note
