"""What reports say beyond the paper: learning rates, cheap forms, and whose order of methods."""

import math

import numpy as np
import pytest
import scipy.stats

from benchmarks.problems import datasets
from benchmarks.report.paper import exhibits
from benchmarks.report.records import agreement
from benchmarks.settings import Comparison
from benchmarks.training import runs as training_runs
from tests.benchmarks import runs
from tests.benchmarks.runs import SETS, write_run, write_settings


@pytest.fixture
def folder(tmp_path):
    write_settings(tmp_path, "qm9")
    return tmp_path


def write(folder, method, test, validation=None, seeds=2):
    """Runs of QM9 with the same error for all tasks; Δp is against STL's."""
    start = {"dataset": "qm9", **SETS["qm9"]}
    for seed in range(seeds):
        values = [
            [[value + 0.01 * seed] for _ in range(11)] for value in (test, validation or test)
        ]
        write_run(folder, method, seed, start, values[0], validation=values[1])


def rows_of(one):
    return {row.cells[0].text: [cell.text for cell in row.cells[1:]] for row in one.table.rows}


def test_the_learning_rate_is_chosen_by_validation(folder):
    """×3 is best on the test set, ×1/3 in validation."""
    write(folder, "stl", 1.0)
    for rate, test, validation in (
        ("", 1.2, 1.2),
        ("@rate=0.333", 1.3, 1.0),
        ("@rate=3", 1.1, 1.1),
    ):
        write(folder, f"mtadam{rate}", test, validation)
    one = exhibits.render("learning_rates", {"qm9": folder})
    stl = 1.005
    by_rate = {r: -100 * (v + 0.005 - stl) / stl for r, v in ((0, 1.3), (1, 1.2), (2, 1.1))}
    row = rows_of(one)["MTAdam"]
    for k, delta_p in by_rate.items():
        assert row[k].startswith(f"{delta_p:.2f} ")
    assert row[3] == "× 1/3"
    assert row[4] == row[0]
    assert one.title == "Methods at several learning rates: QM9"


def test_one_rate_alone_was_not_chosen(folder):
    for name in ("stl", "gls", "gls@rate=3", "pcgrad@rate=3"):
        write(folder, name, 1.0)
    rows = rows_of(exhibits.render("learning_rates", {"qm9": folder}))
    assert rows["PCGrad"][3:] == ["–", "–"]
    assert rows["GLS"][3] in ("× 1", "× 3")
    assert rows["DB-MTL, its best β"][3:] == ["–", "–"]


def test_what_is_missing_is_said_of_runs_that_show_nothing(folder):
    for name in ("stl", "ew", "ew@rate=3"):
        write(folder, name, math.nan)
    with pytest.raises(exhibits.UserError, match=r"needs single-task runs \(stl\) with finite"):
        exhibits.render("learning_rates", {"qm9": folder})


def test_whose_figures_are_missing_is_said(folder):
    for name, value in (("stl", 1.0), ("gls", 1.0), ("gls@rate=3", 1.0), ("ew", math.nan)):
        write(folder, name, value)
    notes = exhibits.render("learning_rates", {"qm9": folder}).notes
    assert any("EW has no Δp: it needs finite figures of its own" in note for note in notes)


def test_forms_stand_beside_the_method(folder):
    for name, value in (("stl", 1.0), ("ew", 1.4), ("db_mtl", 1.1), ("db_mtl@measured=last", 1.2)):
        write(folder, name, value)
    one = exhibits.render("cheap_forms", {"qm9": folder})
    cells = [[cell.text for cell in row.cells] for row in one.table.rows]
    assert [row[:2] for row in cells] == [
        ["EW", "–"],
        ["DB-MTL", "all gradients"],
        ["DB-MTL", "of the last shared layer"],
    ]
    assert [row[3] for row in cells] == ["1.00"] * 3
    assert list(one.figures) == ["cheap_forms"]


@pytest.mark.parametrize("name", ["cheap_forms", "learning_rates"])
def test_there_is_nothing_to_say_without_them(folder, name):
    for method in ("stl", "ew", "db_mtl"):
        write(folder, method, 1.0)
    with pytest.raises(exhibits.UserError, match="expected finished runs of"):
        exhibits.render(name, {"qm9": folder})


def test_spearmans_interval():
    """ρ is SciPy's, and the interval holds it; it narrows with the number of methods."""
    rng = np.random.default_rng(0)
    ours = rng.normal(size=21)
    theirs = ours + rng.normal(size=21)
    found = agreement.spearman(ours, theirs)
    ranks = [scipy.stats.rankdata(values) for values in (ours, theirs)]
    np.testing.assert_allclose(found.rho, np.corrcoef(*ranks)[0, 1], rtol=1e-12)
    assert -1 < found.low < found.rho < found.high < 1
    error = math.atanh(found.high) - math.atanh(found.rho)
    np.testing.assert_allclose(error, 1.96 * math.sqrt((1 + found.rho**2 / 2) / 18), rtol=1e-4)
    assert agreement.spearman(range(9), range(9)).rho == pytest.approx(1)


def test_a_report_says_how_far_the_order_is_the_papers(folder):
    methods = ("stl", "ew", "gls", "uw", "dwa", "mgda")
    runs.write_folder(folder, "qm9", methods)
    notes = exhibits.render("table3", {"qm9": folder}).notes
    assert sum("Spearman" in note and "5 methods" in note for note in notes) == 1
    (folder / "mgda-seed0.jsonl").unlink()
    (folder / "mgda-seed1.jsonl").unlink()
    assert not any("Spearman" in n for n in exhibits.render("table3", {"qm9": folder}).notes)


def test_methods_that_are_all_alike_have_no_order(folder):
    for method in ("stl", "ew", "gls", "uw", "dwa", "mgda"):
        write(folder, method, 1.0)
    assert not any("Spearman" in n for n in exhibits.render("table3", {"qm9": folder}).notes)


@pytest.mark.parametrize(
    ("name", "rate"), [("mtadam@rate=3", 3e-3), ("ew@rate=0.5", 5e-4), ("db_mtl", 1e-3)]
)
def test_a_methods_runs_have_its_learning_rate(problem, name, rate):
    data, train = datasets.find("qm9").setting("quick", "")
    config = Comparison("qm9", data, train, methods=(name,))
    programs = training_runs.programs_of(name, problem, config)
    assert programs.config.learning_rate == pytest.approx(rate)
    assert programs.has_method == (not name.startswith("ew"))
