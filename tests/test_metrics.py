"""Δp reproduces the paper's own tables from their rows."""

import csv
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl

PAPER = pathlib.Path(__file__).parent.parent / "benchmarks" / "report" / "tables" / "printed_tables"
NYUV2 = {
    "mIoU": (0, True), "PAcc": (0, True), "AErr": (1, False), "RErr": (1, False),
    "mean": (2, False), "median": (2, False),
    "11.25": (2, True), "22.5": (2, True), "30": (2, True),
}  # fmt: skip
TABLES = {
    "table1": NYUV2,
    "table2": {name: NYUV2[name] for name in ("mIoU", "PAcc", "AErr", "RErr")},
    "table3": {
        name: (task, False)
        for task, name in enumerate(
            "mu alpha eps_HOMO eps_LUMO R2 ZPVE U0 U H G c_v".split()  # noqa: SIM905
        )
    },
    "table4_office31": {name: (t, True) for t, name in enumerate(("Amazon", "DSLR", "Webcam"))},
    "table4_officehome": {
        name: (t, True) for t, name in enumerate(("Artistic", "Clipart", "Product", "Real"))
    },
    "table6": NYUV2,
}
"""For every metric of a table: the task it belongs to, and whether higher is better."""

# Rows of which the printed average is not that of the printed accuracies either.
INCONSISTENT = {("table4_officehome", "IMTL-G"), ("table4_officehome", "CAGrad")}


def rows(table):
    with (PAPER / f"{table}.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def half_unit(text):
    """Half a unit in the last printed digit: what rounding may have hidden."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def by_task(table, values):
    tasks = [task for task, _ in TABLES[table].values()]
    return [
        [v for v, t in zip(values, tasks, strict=True) if t == task] for task in sorted(set(tasks))
    ]


CASES = [(table, method) for table in TABLES for method in rows(table)]


@pytest.mark.parametrize(("table", "method"), CASES)
def test_delta_p_of_the_papers_tables(table, method):
    row, baseline = rows(table)[method], rows(table)["STL"]
    if not row["delta_p"]:
        pytest.skip("the paper gives no Δp")
    if (table, method) in INCONSISTENT:
        pytest.skip("the paper's row contradicts itself")
    names = list(TABLES[table])
    values, reference = ([float(r[n]) for n in names] for r in (row, baseline))
    higher = [TABLES[table][n][1] for n in names]
    computed = dbmtl.delta_p(*(by_task(table, x) for x in (values, reference, higher)))

    # How far rounding of every printed figure can have moved Δp, to first order.
    tasks = [TABLES[table][n][0] for n in names]
    slack = half_unit(row["delta_p"])
    for name, task, value, ref in zip(names, tasks, values, reference, strict=True):
        share = 100 / (tasks.count(task) * len(set(tasks)))
        # Table 2 pads some absolute errors with a zero.
        printed = [r[name].rstrip("0") if name == "AErr" else r[name] for r in (row, baseline)]
        slack += share * half_unit(printed[0]) / ref
        slack += share * half_unit(printed[1]) * value / ref**2
    # A tenth more: the printed Δp is a mean over seeds, rounded once more than its row.
    assert abs(computed - float(row["delta_p"])) <= 1.1 * slack, (computed, slack)


def test_arrays_trace():
    values, baseline = jnp.array([[1.1], [0.9]]), jnp.array([[1.0], [1.0]])
    got = jax.jit(lambda v, b: dbmtl.delta_p(v, b, [[True], [False]]))(values, baseline)
    np.testing.assert_allclose(got, 10.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], [[1.0], [2.0]], [[True]]), r"found \[1\], \[1, 1\] and \[1\]"),
        (([], [], []), "at least one task"),
        (([[]], [[]], [[]]), "at least one task"),
        (([1.0], [1.0], [True]), "values: expected a sequence over tasks of sequences"),
        (([[1.0]], [[0.0]], [[True]]), r"baseline\[0\]\[0\]: expected a nonzero metric"),
    ],
)
def test_bad_tables_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        dbmtl.delta_p(*arguments)
