"""The paper's tables and figures from fabricated files of runs: which runs, which figures."""

import itertools
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from benchmarks import step_times
from benchmarks.errors import UserError
from benchmarks.methods import DISPLAY_NAMES
from benchmarks.report import rendered
from benchmarks.report.paper import exhibits
from benchmarks.report.paper.catalogue import CATALOGUE
from benchmarks.report.tables import table_formats
from benchmarks.report.tables.printed import paper_table
from tests.benchmarks import runs
from tests.benchmarks.runs import (
    SETS,
    metrics,
    write_failure,
    write_run,
    write_settings,
)

LOGGED = ("pcgrad", "grad_vac", "imtl_g", "cagrad", "nash_mtl", "aligned_mtl")
METHODS = {
    "nyuv2-deeplab": [
        *("stl", "ew", "db_mtl", "imtl_l", "log+ew", "grad_norm", "db_mtl@log_losses=false"),
        *(f"{log}{m}" for m in LOGGED for log in ("", "log+")),
        *(f"db_mtl@scale={scale}" for scale in ("min", "mean", "median", "0.5")),
    ],
    "nyuv2-segnet_mtan": ["stl", "ew"],
    "nyuv2-mtan": ["stl", "gls", "igbv2", "db_mtl"],
    "nyuv2-cross_stitch": ["stl", "gls", "db_mtl"],
    "cityscapes-deeplab": ["stl", "ew", "db_mtl", "imtl_l", "log+ew"],
    "office31": ["stl", "ew", "uw", "db_mtl", *(f"db_mtl@beta={b}" for b in ("0", "0.1"))],
    "officehome": ["stl", "ew", "db_mtl"],
    "qm9": ["stl", "ew", "db_mtl"],
}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two seeds of each method; QM9 is real, the others are samples."""
    out = tmp_path_factory.mktemp("out")
    for k, (key, methods) in enumerate(METHODS.items()):
        dataset, _, network = key.partition("-")
        folder = out / key
        folder.mkdir()
        write_settings(folder, dataset, network or None)
        start = {"dataset": dataset, "sample_data": dataset != "qm9"} | SETS[dataset]
        for (i, method), seed in itertools.product(enumerate(methods), (0, 1)):
            values = metrics(dataset, [k, i, seed])
            write_run(folder, method, seed, start, values, cosines=method != "stl")
    return {key: out / key for key in METHODS}


def read(folder, method):
    """Seed -> test metrics, from the files."""
    lines = {s: (folder / f"{method}-seed{s}.jsonl").read_text().splitlines()[-1] for s in (0, 1)}
    return [json.loads(line)["test"] for line in lines.values()]


def deltas(folder, method):
    dataset = folder.name.partition("-")[0]
    return runs.deltas(dataset, read(folder, method), read(folder, "stl"))


def shown(values, decimals=2):
    return f"{np.mean(values):.{decimals}f} ± {np.std(values, ddof=1):.{decimals}f}"


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_exhibit_says_what_it_is_of(studies, name):
    one = exhibits.render(name, studies)
    assert one.name == name
    assert one.title.startswith(name.replace("table", "Table ").replace("figure", "Figure ") + ". ")
    assert one.caption
    assert (one.table is not None) == (name not in ("figure8", "figure9", "figure10"))
    assert list(one.figures) == [name] * name.startswith("figure")
    assert one.settings
    for line in one.settings:
        assert "preset quick: 2 epochs" in line
        assert "2 seeds" in line
        assert ("real data" in line) == line.startswith("QM9")
        assert ("rendered sample data" in line) != line.startswith("QM9")
    for figure in one.figures.values():
        assert figure.get_supxlabel() == "\n".join(one.settings)
    text = rendered.latex(one)
    assert text.isascii()
    assert bool(text) == (one.table is not None)


@pytest.mark.parametrize(("name", "key"), [("table1", "nyuv2-deeplab"), ("table3", "qm9")])
def test_a_table_has_the_figures_of_the_files_in_all_three_forms(studies, name, key):
    one = exhibits.render(name, studies)
    folder = studies[key]
    methods = [m for m in METHODS[key] if "+" not in m and "@" not in m]
    names = [DISPLAY_NAMES[m] for m in methods]
    markdown = {
        (cells := [re.sub(r"\*\*|</?u>", "", c.strip()) for c in line.split("|")[1:-1]])[0]: cells
        for line in rendered.markdown(one).splitlines()
        if line.startswith("| ")
    }
    assert sorted(set(markdown) - {"method", "---"}) == sorted(names)
    page = ET.fromstring(table_formats.html_table(one.table))
    rows = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]
    html = {row[0]: [cell.replace("−", "-") for cell in row] for row in rows}
    lines = [line.removesuffix(r" \\").split(" & ") for line in rendered.latex(one).splitlines()]
    latex = {line[0]: line for line in lines}
    for method, title in zip(methods, names, strict=True):
        expected = shown(deltas(folder, method))
        position = -2  # the paper's Δp is the last
        assert markdown[title][position] == expected
        assert html[title][position] == expected
        assert f"${expected.replace('±', chr(92) + 'pm')}$" in latex[title][position]
        first = [run[0][0] for run in read(folder, method)]
        first = shown(np.multiply(first, 100)) if key != "qm9" else shown(first, 3)
        assert (markdown[title][1], html[title][1]) == (first, first)
        assert first.split(" ")[0] in latex[title][1]
    printed = paper_table("table3" if key == "qm9" else "table1")["EW"]
    assert (
        markdown["EW"][-1] == html["EW"][-1] == f"{printed['delta_p']} ± {printed['delta_p_std']}"
    )
    if key == "qm9":
        assert markdown["EW"][2] == html["EW"][2] == printed["mu"]
        assert [h.text for h in one.table.headings].count("paper") == 12
    else:
        assert [h.text for h in one.table.headings if h.paper] == ["Δp, paper (real data)"]


def test_best_and_second_stand_out_in_all_three_forms(studies):
    one = exhibits.render("table3", studies)
    column = len(one.table.headings) - 2
    order = sorted(("stl", "ew", "db_mtl"), key=lambda m: -np.mean(deltas(studies["qm9"], m)))
    best, second = (DISPLAY_NAMES[m] for m in order[:2])
    cells = {row.name: row.cells[column] for row in one.table.rows}
    assert [name for name, cell in cells.items() if cell.style == "bold"] == [best]
    assert [name for name, cell in cells.items() if cell.style == "underline"] == [second]
    texts = {style: re.escape(cells[n].text) for style, n in (("bold", best), ("line", second))}
    assert re.search(rf"\*\*{texts['bold']}\*\*", rendered.markdown(one))
    assert re.search(rf"<u>{texts['line']}</u>", rendered.markdown(one))
    page = ET.fromstring(table_formats.html_table(one.table))
    rows = {row[0].text: row[column] for row in page.iter("tr")}
    assert (rows[best][0].tag, rows[second][0].tag) == ("b", "u")
    number = cells[best].text.replace("±", r"\pm")
    assert rf"\textbf{{\boldmath ${number}$}}" in rendered.latex(one)


def test_table_4_has_both_data_sets_side_by_side(studies):
    one = exhibits.render("table4", studies)
    groups = [group for group, _ in one.table.groups if group]
    assert groups == ["Office-31 (sample data)", "Office-Home (sample data)"]
    rows = {row.name: [cell.text for cell in row.cells] for row in one.table.rows}
    assert list(rows) == ["STL", "EW", "UW", "DB-MTL"]
    assert rows["EW"][5] == shown(deltas(studies["office31"], "ew"))
    assert rows["EW"][-2] == shown(deltas(studies["officehome"], "ew"))
    assert rows["UW"][7:] == ["–"] * 7
    assert rows["EW"][-1] == "-0.92 ± 0.59"


def test_the_ablation_has_the_papers_figures_beside_ours(studies):
    one = exhibits.render("table5", studies)
    rows = {row.name: [cell.text for cell in row.cells] for row in one.table.rows}
    assert [row[1:3] for row in rows.values()] == [["✗", "✗"], ["✓", "✗"], ["✗", "✓"], ["✓", "✓"]]
    nyuv2 = studies["nyuv2-deeplab"]
    assert rows["DB-MTL (no log)"][3] == shown(deltas(nyuv2, "db_mtl@log_losses=false"))
    assert rows["DB-MTL (no log)"][4] == "0.76 ± 0.25"
    assert rows["log + EW"][-2:] == ["–", "-74.40 ± 13.2"]
    assert any("QM9: No finished runs of log + EW" in note for note in one.notes)
    for name, table in (("nyuv2", "table1"), ("qm9", "table3")):  # the same runs in both
        for method in ("EW", "DB-MTL"):
            row = paper_table("table5")[method]
            other = paper_table(table)[method]
            assert [row[name], row[f"{name}_std"]] == [other["delta_p"], other["delta_p_std"]]


def bars(axis):
    """The heights of all bars, from left to right."""
    patches = [
        patch for container in axis.containers for patch in getattr(container, "patches", [])
    ]
    return [p.get_height() for p in sorted(patches, key=lambda p: p.get_x())]


def test_bars_are_as_high_as_the_files_say(studies):
    nyuv2 = studies["nyuv2-deeplab"]

    def means(*methods, folder=nyuv2):
        return [np.mean(deltas(folder, m)) for m in methods]

    figure = exhibits.render("figure1", studies).figures["figure1"]
    chained = itertools.chain.from_iterable((m, f"log+{m}") for m in LOGGED)
    np.testing.assert_allclose(bars(figure.axes[0]), means(*chained, "db_mtl"), rtol=1e-5)
    figure = exhibits.render("figure2", studies).figures["figure2"]
    expected = [*means("imtl_l", "log+ew")]
    expected += means("imtl_l", "log+ew", folder=studies["cityscapes-deeplab"])
    np.testing.assert_allclose(bars(figure.axes[0]), expected, rtol=1e-5)
    figure = exhibits.render("figure6", studies).figures["figure6"]
    scales = [f"db_mtl@scale={s}" for s in ("0.5", "min", "mean", "median")]
    np.testing.assert_allclose(bars(figure.axes[0]), means(*scales, "db_mtl"), rtol=1e-5)
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["constant 0.5", "min", "mean", "median", "max"]


def test_a_panel_for_each_network_and_what_is_missing(studies):
    one = exhibits.render("figure4", studies)
    titles = [axis.get_title() for axis in one.figures["figure4"].axes]
    assert titles == ["NYUv2, Cross-stitch (sample data)", "NYUv2, MTAN (sample data)"]
    assert [len(bars(axis)) for axis in one.figures["figure4"].axes] == [6, 9]
    assert "NYUv2, Cross-stitch (sample data): No finished runs of IGBv2." in one.notes
    one = exhibits.render("figure4", {"nyuv2-mtan": studies["nyuv2-mtan"]})
    assert "No runs of NYUv2 (Cross-stitch)." in one.notes


def test_the_forgetting_rates_stand_in_their_places(studies):
    figure = exhibits.render("figure5", studies).figures["figure5"]
    lines = {c.get_label(): c.lines[0].get_xydata() for c in figure.axes[0].containers}
    assert list(lines) == ["constant β", "β/√k", "β = 0: no average"]
    folder = studies["office31"]
    for line, method, beta in zip(
        lines.values(), ("db_mtl@beta=0.1", "db_mtl", "db_mtl@beta=0"), (0.1, 0.9, 0), strict=True
    ):
        np.testing.assert_allclose(line, [[beta, np.mean(deltas(folder, method))]], atol=5e-3)


def test_times_are_of_an_epoch_by_kind_and_over_ew(studies, tmp_path):
    one = exhibits.render("figure7", studies)
    rows = {row.name: [cell.text for cell in row.cells[1:]] for row in one.table.rows}
    # Five steps of a quarter of a second.
    assert rows["EW"] == ["others", "1.25", "1.00"]
    assert {m: rows[m][0] for m in ("IMTL-L", "PCGrad", "DB-MTL")} == {
        "IMTL-L": "loss balancing", "PCGrad": "gradient balancing", "DB-MTL": "hybrid balancing",
    }  # fmt: skip
    assert "the runs' own speeds" in one.caption
    for path in studies["qm9"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    # The median of the ratios of each turn, not the ratio of the medians.
    times = {"stl": (50.0, 5.1), "ew": (10.0, 1.0), "db_mtl": (42.0, 4.3)}
    methods = {m: {"milliseconds": t, "over_ew": r} for m, (t, r) in times.items()}
    step_times.write(tmp_path, methods, rounds=3, steps_per_epoch=5)
    one = exhibits.render("figure7", {"qm9": tmp_path})
    assert "all methods in turns" in one.caption
    assert [row.cells[-1].text for row in one.table.rows] == ["1.00", "4.30", "5.10"]
    assert [row.cells[-2].text for row in one.table.rows] == ["50.0", "210", "250"]


def test_cosines_of_every_pair(studies):
    figure = exhibits.render("figure10", studies).figures["figure10"]
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["Amazon and DSLR", "Amazon and Webcam", "DSLR and Webcam"]
    one = exhibits.render("figure10", {"qm9": studies["qm9"]})
    (ew, db_mtl) = one.figures["figure10"].axes
    assert ew.get_title() == "EW (55 pairs of tasks)"
    assert len([line for line in db_mtl.lines if len(line.get_xdata()) == 2]) >= 56
    assert any("The paper shows Office-31 here; this is of QM9" in note for note in one.notes)


def test_nothing_to_show_is_a_clear_error(studies):
    with pytest.raises(UserError, match=r"unknown exhibit 'table9', expected one of table1, "):
        exhibits.render("table9", studies)
    with pytest.raises(UserError, match="table1: expected runs of nyuv2-deeplab, found qm9"):
        exhibits.render("table1", {"qm9": studies["qm9"]})
    for name, wanted in (
        ("figure1", r"log\+pcgrad or .*"), ("figure2", r"imtl_l and log\+ew"),
        ("figure5", "db_mtl@beta=… with more than one rate"), ("figure6", "db_mtl and db_mtl@.*"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"qm9: expected finished runs of {wanted}, found none"):
            exhibits.render(name, {"qm9": studies["qm9"]})
    with pytest.raises(UserError, match="figure5: expected runs of office31, found none"):
        exhibits.render("figure5", {})


def test_validation_chooses_the_forgetting_rate_not_the_test_set(tmp_path):
    start = {"dataset": "cityscapes"} | SETS["cityscapes"]
    write_settings(tmp_path, "cityscapes", "deeplab")

    def values(gain):
        return [[0.5 + gain, 0.5 + gain], [0.5 - gain, 0.5 - gain]]

    write_run(tmp_path, "stl", 0, start, values(0))
    for method, validation, test in (
        ("db_mtl", 0.1, 0.1),
        ("db_mtl@beta=0.5", 0.2, 0.05),
        ("db_mtl@beta=0.1,sigma=0.5", 0.15, 0.2),
        ("db_mtl@scale=min", 0.3, 0.3),
        ("db_mtl@beta=0.3", 0.3, 0.3),  # the paper does not search it
    ):
        write_run(tmp_path, method, 0, start, values(test), validation=values(validation))
    write_failure(tmp_path, "db_mtl@beta=0.9", 0, start)
    one = exhibits.render("table2", {"cityscapes-deeplab": tmp_path})
    rows = {row.name: row for row in one.table.rows}
    assert list(rows) == ["STL", "DB-MTL"]
    assert rows["DB-MTL"].cells[-2].text == "10.00"  # 0.55 over 0.5
    (chosen, failed, *_) = one.notes
    assert "β = 0.5, of 3 forgetting rates the best mean validation Δp (40.00 %)" in chosen
    assert "DB-MTL with β = 0.9 failed: seed 0 at step 7" in failed
    # Without a validation the name alone decides.
    nothing = [[None, None], [None, None]]
    for method in ("db_mtl", "db_mtl@beta=0.5", "db_mtl@beta=0.1,sigma=0.5"):
        write_run(tmp_path, method, 0, start, values(0.1), validation=nothing)
    notes = exhibits.render("table2", {"cityscapes-deeplab": tmp_path}).notes
    assert "β = 0.9/√k: nothing was held out to choose by" in notes[0]
    for path in tmp_path.glob("db_mtl*"):
        if "beta=0.3" not in path.name:
            path.unlink()
    notes = exhibits.render("table2", {"cityscapes-deeplab": tmp_path}).notes
    assert "DB-MTL has β = 0.3." in notes[0]


def test_failed_runs_are_seen(tmp_path):
    start = {"dataset": "cityscapes"} | SETS["cityscapes"]
    write_settings(tmp_path, "cityscapes", "deeplab")
    for seed in (0, 1):
        for method in ("stl", "imtl_l"):
            write_run(tmp_path, method, seed, start, metrics("cityscapes", seed))
    write_failure(tmp_path, "imtl_l", 2, start, step=33)
    write_failure(tmp_path, "mgda", 0, start)
    folder = {"cityscapes-deeplab": tmp_path}
    one = exhibits.render("table2", folder)
    assert [row.name for row in one.table.rows if row.failed] == [
        "IMTL-L (failed: seed 2 at step 33)", "MGDA (failed: seed 0 at step 7)",
    ]  # fmt: skip
    assert "MGDA (failed: seed 0 at step 7)" in rendered.markdown(one)
    assert "MGDA (failed: seed 0 at step 7)" in rendered.latex(one)
    assert '<tr class="failed"><th scope="row">MGDA' in table_formats.html_table(one.table)
    for seed in (0, 1):
        write_run(tmp_path, "log+ew", seed, start, metrics("cityscapes", seed))
    notes = exhibits.render("figure2", folder).notes
    assert "Cityscapes, DeepLabV3+: IMTL-L failed: seed 2 at step 33." in notes
