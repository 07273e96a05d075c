"""`report` as a user runs it: files from folders of runs, without data sets or training code."""

import html.parser
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks import __main__ as command_line
from benchmarks import examples_file
from benchmarks.config import Report
from benchmarks.errors import UserError
from benchmarks.report import command, study_report, summary
from benchmarks.report.figures import figure_files
from benchmarks.report.records import study
from tests.benchmarks.runs import (
    SETS,
    metrics,
    write_failure,
    write_folder,
    write_run,
    write_settings,
)
from tests.helpers.processes import printed_by

START = {"dataset": "cityscapes", "network": "deeplab", "sample_data": True} | SETS["cityscapes"]
ENVIRONMENT = {
    "python": "3.12.1", "versions": {"jax": "0.10.2"}, "device": "a device", "device_count": 2,
    "cpu_count": 4, "commit": "abc1234",
}  # fmt: skip
RNG = np.random.default_rng(0)


def write_cityscapes(folder, epochs=2):
    """Three methods with one seed, a failure, and examples."""
    folder.mkdir(exist_ok=True)
    write_settings(folder, "cityscapes", "deeplab")
    start = START | {"environment": ENVIRONMENT}
    for k, method in enumerate(("stl", "ew", "db_mtl")):
        write_run(folder, method, 0, start, metrics("cityscapes", k), epochs=epochs)
    write_failure(folder, "mgda", 0, start)
    (folder / "uw-seed0.jsonl").write_text('{"kind": "start"}\n')
    depth = RNG.uniform(1, 3, (1, 4, 5))
    examples = (RNG.uniform(size=(1, 4, 5, 3)), {"depth": depth}, {"depth": depth})
    examples_file.write(examples_file.path(folder, "ew", 0), *examples)


def run(folder):
    output = io.StringIO()
    command.report(folder, Console(file=output, width=10_000))
    return output.getvalue()


class Page(html.parser.HTMLParser):
    """Collects what the tests ask about."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.ids, self.alternatives = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.addresses.append(value)
            self.ids += [value] * (name == "id")
            self.alternatives += [value] * (name == "alt")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The report of two studies, and what was printed."""
    out = tmp_path_factory.mktemp("out")
    write_cityscapes(out / "cityscapes-deeplab")
    (out / "office31").mkdir()
    start = {"dataset": "office31"} | SETS["office31"]
    write_run(out / "office31", "stl", 0, start, metrics("office31", 0), epochs=0)
    (out / "empty").mkdir()
    return out, run(out)


def test_the_files_are_written_and_named(reported):
    out, printed = reported
    plots = ["losses", "gradient_norms", "validation", "delta_p", "delta_p_and_time"]
    expected = {
        out: ["table2", "table4", "table5", "figure7", "figure8", "figure9"],
        out / "cityscapes-deeplab": [*plots, "table", "examples-ew"],
        out / "office31": ["table"],
    }
    for folder, stems in expected.items():
        suffixes = {".png", ".svg", ".md", ".tex", ".html"}
        found = {path for path in folder.iterdir() if path.suffix in suffixes}
        assert {path.stem for path in found} == {*stems, *["report"] * (folder == out)}
        for path in found:
            assert path.name in printed
            assert path.stat().st_size > 100
        assert {p.suffix for p in found if p.stem == stems[0]} == (
            {".md", ".tex"} if stems[0].startswith("table") else {".png", ".svg"}
        )


def test_the_page_stands_alone(reported):
    out, _ = reported
    text = (out / "report.html").read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not re.search(r"url\(|@import|https?://", text)
    assert len(page.ids) == len(set(page.ids))
    links = [address[1:] for address in page.addresses if address.startswith("#")]
    assert sorted(links) == sorted(page.ids)  # a table of contents of all sections
    assert {"table2", "figure7", "cityscapes-deeplab", "office31"} <= set(links)
    assert len(page.alternatives) == page.tags.count("img") == 3 + 6
    assert all(page.alternatives)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_says_what_its_figures_are_from(reported):
    out, _ = reported
    text = (out / "report.html").read_text()
    for said in (
        "Cityscapes (rendered sample data), DeepLabV3+, preset quick: 2 epochs; 1 seed",
        "2 × a device, 4 CPU cores, Python 3.12.1, jax 0.10.2, commit abc1234",
        "MGDA (failed: seed 0 at step 7)",
        "Not finished, and left out: uw-seed0.",
        "Quick preset: few epochs",
        "table1: expected runs of nyuv2-deeplab, found cityscapes-deeplab, office31",
        "EW: images of the test set, the truth and the prediction.",
    ):
        assert said in text, said


def test_one_study_is_a_report_of_its_own(tmp_path):
    write_cityscapes(tmp_path, epochs=0)
    run(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "<h1>Cityscapes, DeepLabV3+, preset quick: 2 epochs (sample data)</h1>" in text
    assert "<nav>" not in text


def test_the_same_figure_gives_the_same_files(tmp_path):
    files = []
    for name in ("a", "b"):
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([1, 2], marker="o", clip_on=True)
        (tmp_path / name).mkdir()
        files.append([p.read_bytes() for p in figure_files.write(figure, tmp_path / name, "x")])
    assert files[0] == files[1]


def test_nothing_to_report_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"expected runs \(\{method\}-seed.*found neither"):
        run(tmp_path)
    with pytest.raises(UserError, match=r"nowhere: .*found no such folder"):
        run(tmp_path / "nowhere")
    (tmp_path / "ew-seed0.jsonl").write_text('{"kind": "start"}\n')
    with pytest.raises(UserError, match=r"no run has come to an end: ew-seed0"):
        run(tmp_path)


def test_it_is_a_command(tmp_path):
    assert command_line.parse(["report", str(tmp_path)]) == Report(tmp_path)


def test_a_report_needs_no_data_sets_and_no_training_code(tmp_path):
    write_cityscapes(tmp_path, epochs=0)
    blocked = (
        "flax", "orbax", "tensorflow_datasets", "tensorflow", "array_record", "qm9pack", "pandas",
        "safetensors", "benchmarks.training", "benchmarks.networks", "benchmarks.problems.problem",
    )  # fmt: skip
    program = f"""
import sys
sys.modules.update(dict.fromkeys({blocked!r}))
sys.argv = ["benchmarks", "report", {str(tmp_path)!r}]
from benchmarks.__main__ import main
main()
"""
    printed_by("-c", program)
    assert (tmp_path / "report.html").exists()


def test_more_methods_than_lines_can_show_are_those_of_the_tables(tmp_path):
    methods = ["stl", "ew", *(f"db_mtl@beta=0.{k}" for k in range(1, 10))]
    methods += [f"log+cagrad@c=0.{k}" for k in range(1, 16)]
    write_folder(tmp_path, "cityscapes", methods=methods, seeds=1)
    losses = study_report.make(study.load(tmp_path)).figures["losses"]
    lines = [line.get_label() for line in losses.axes[0].lines]
    assert lines == ["STL", "EW", "DB-MTL"]


def test_examples_come_back_as_they_were(tmp_path):
    path = examples_file.path(tmp_path, "db_mtl@beta=0.1", 2)
    assert path.name == "db_mtl@beta=0.1-seed2.examples.npz"
    image = RNG.uniform(size=(2, 3, 4, 3))
    target, prediction = {"depth": np.ones((2, 3, 4))}, {"depth": np.zeros((2, 3, 4))}
    examples_file.write(path, image, target, prediction, ["bed", "sofa"])
    found = examples_file.read(path)
    np.testing.assert_allclose(found.image, image, atol=0.5 / 255 + 1e-9)
    np.testing.assert_array_equal(found.targets["depth"], target["depth"])
    np.testing.assert_array_equal(found.predictions["depth"], prediction["depth"])
    assert found.class_names == ("bed", "sofa")
    examples_file.write(path, {"amazon": image}, {"amazon": [0, 1]}, {"amazon": [1, 1]})
    found = examples_file.read(path)
    np.testing.assert_allclose(found.image["amazon"], image, atol=0.5 / 255 + 1e-9)
    assert found.class_names is None
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_examples_that_do_not_fit_are_refused(tmp_path):
    path = examples_file.path(tmp_path, "ew", 0)
    with pytest.raises(ValueError, match=r"same tasks everywhere, found .*'a'.*'b'"):
        examples_file.write(path, np.zeros((1, 2, 2, 3)), {"a": [0]}, {"b": [0]})
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"ew-seed0.examples.npz: damaged, or not an .npz file"):
        examples_file.read(path)
    np.savez(path, image=np.zeros(3))
    with pytest.raises(UserError, match=r"target.<task> and prediction.<task>, found image"):
        examples_file.read(path)
    with pytest.raises(UserError, match="cannot write"):
        examples_file.write(tmp_path / "no" / "x.npz", np.zeros((1, 1, 1, 3)), {}, {})


def test_office_examples_are_drawn_by_task(tmp_path):
    write_folder(tmp_path, "office31", methods=("stl", "ew"), seeds=1)
    tasks = SETS["office31"]["tasks"]
    images = {task: RNG.uniform(size=(2, 4, 4, 3)) for task in tasks}
    right, said = {task: [0, 1] for task in tasks}, {task: [0, 0] for task in tasks}
    examples_file.write(examples_file.path(tmp_path, "ew", 0), images, right, said, ["mug", "pen"])
    figure = study_report.make(study.load(tmp_path)).figures["examples-ew"]
    texts = [axis.get_xlabel() for axis in figure.axes if axis.images]
    assert texts == ["✓ mug", "✗ mug\n(true: pen)"] * 3
    assert figure.get_suptitle().startswith("EW: Office-31 (real data)")


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"ew": [0.4]}, ["Best is DB-MTL: on average over the tasks, its test metrics are 20.0 % "
                         "better than those of single-task networks (Δp).",
                         "EW is 40.0 points behind; with one seed each that can be chance: more "
                         "--seeds tell.",
                         "A training step of DB-MTL takes 1.0 times as long as one of EW."]),
        ({"uw": [0.7]}, ["Best is UW: on average over the tasks, its test metrics are 40.0 %"]),
        ({}, ["Best is DB-MTL"]),
    ],
)  # fmt: skip
def test_a_comparison_ends_in_words(tmp_path, others, said):
    start = {"dataset": "office31"} | SETS["office31"]
    for method, values in {"stl": [0.5], "db_mtl": [0.6], **others}.items():
        for seed, value in enumerate(values):
            write_run(tmp_path, method, seed, start, [[value]] * 3)
    found = summary.lines(study.load(tmp_path))
    assert len(found) == {0: 1, 1: 3}[len(others)]
    for line, beginning in zip(found, said, strict=False):
        assert line.startswith(beginning)


@pytest.mark.parametrize(("ew", "said"), [((0.4, 0.41), "more than"), ((0.3, 0.7), "no more than")])
def test_a_comparison_of_several_seeds_tells_how_sure_it_is(tmp_path, ew, said):
    start = {"dataset": "office31"} | SETS["office31"]
    for method, values in {"stl": (0.5, 0.5), "ew": ew, "db_mtl": (0.6, 0.61)}.items():
        for seed, value in enumerate(values):
            write_run(tmp_path, method, seed, start, [[value]] * 3)
    _, line, _ = summary.lines(study.load(tmp_path))
    assert f"(standard error): {said} chance" in line


def test_without_a_baseline_there_are_no_words(tmp_path):
    write_run(tmp_path, "ew", 0, {"dataset": "office31"} | SETS["office31"], [[0.5]] * 3)
    assert summary.lines(study.load(tmp_path)) == []


def test_of_many_methods_three_have_colours(tmp_path):
    start = {"dataset": "office31"} | SETS["office31"]
    methods = ["stl", "ew", "uw", "dwa", "mgda", "pcgrad", "cagrad", "db_mtl"]
    for k, method in enumerate(methods):
        write_run(tmp_path, method, 0, start, [[0.9 if method == "dwa" else 0.5 + k / 100]] * 3)
    axis = study_report.make(study.load(tmp_path)).figures["losses"].axes[0]
    labels = [line.get_label() for line in axis.lines]
    assert sorted(set(labels)) == ["DB-MTL", "DWA", "EW", "other methods"]
    assert labels.count("other methods") == 5


def test_one_epoch_is_a_point(tmp_path):
    start = {"dataset": "office31"} | SETS["office31"]
    write_run(tmp_path, "stl", 0, start, [[0.5]] * 3, epochs=1)
    axis = study_report.make(study.load(tmp_path)).figures["losses"].axes[0]
    assert list(axis.get_xticks()) == [1]
