"""Writes docs/properties.md, a table of what every method reads, keeps, costs and promises.

    python docs/properties.py

The promises are those of `dbmtl_jax.PROPERTIES`, which the tests assert; everything else is read
from the methods themselves.
"""

import inspect
import pathlib
import re

import jax
import jax.numpy as jnp

import dbmtl_jax as dbmtl
from benchmarks.methods import DISPLAY_NAMES

PAGE = pathlib.Path(__file__).with_name("properties.md")
T, SHAPE = 3, (7, 11)

INTRODUCTION = """\
# Properties of the methods

Every method of `dbmtl_jax.METHODS`, the paper's first, as `python docs/properties.py` writes it.
The tests assert what is promised here, with the functions of `dbmtl_jax.testing`, for the first
step and default options.

- **reads**: what weights are made of; the Gramian is that of the gradients' inner products.
- **passes**: backward passes of a step with `stream=True`. T + 1 is one for each task and one for
  the weighted sum, so that gradients need not be stored; stacked gradients take T. A method that
  reads another batch's gradients needs as many for that. One that reads norms or the Gramian has
  the [cheap forms](guides/streaming.md), with about one pass.
- **any order**: the update does not depend on the order of the tasks.
- **any scale**: multiplying a task's loss by a number does not change the update.
- **no conflict**: the update has a nonnegative inner product with the gradient of every task.
- **linear**: with gradients c_t g_t, c_t > 0, the update is linear in c.
- **preference**: takes `preference=`, a user's priorities.
- **own parameters**: what multiplies the gradient of a task's own parameters.
- **keeps**: arrays of the size of the shared parameters P, between steps; numbers for each task are
  not counted.
"""
MARKS = ("any order", "any scale", "no conflict", "linear", "preference")
COLUMNS = ("method", "family", "reads", "passes", *MARKS, "own parameters", "keeps")


def page() -> str:
    """The text of the page."""
    rules = [":---:" if column in MARKS else "---" for column in COLUMNS]
    rows = [COLUMNS, rules, *map(row, dbmtl.METHODS)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    sources = "\n".join(
        f"- **{DISPLAY_NAMES[name]}** (`{name}`): {source(name)}" for name in dbmtl.METHODS
    )
    return f"{INTRODUCTION}\n{table}\n\n## Sources\n\n{sources}\n"


def row(name: str) -> list[str]:
    """The cells of a method."""
    method, promises = dbmtl.METHODS[name], dbmtl.PROPERTIES[name]
    marks = (
        promises.permutation_equivariant,
        promises.scale_invariant,
        promises.non_conflicting,
        promises.linear_under_scaling,
        "preference" in inspect.signature(method).parameters,
    )
    return [
        f"`{name}`",
        promises.family,
        reads(name),
        promises.passes,
        *("✓" if mark else "" for mark in marks),
        promises.heads,
        keeps(name),
    ]


def reads(name: str) -> str:
    """What the weights of a method are made of."""
    tx = dbmtl.METHODS[name](T)
    words = {"sum": "", "norms": "norms", "gramian": "Gramian", "rows": "gradients"}
    found = [words[tx.aggregator.reads]] if tx.aggregator else []
    rows = jnp.ones((T, *SHAPE))
    given = {"losses": jnp.ones(T), "other_grads": [rows]}
    called = {"losses": "losses", "other_grads": "another batch's gradients"}
    for left_out, what in called.items():
        try:
            rest = {key: value for key, value in given.items() if key != left_out}
            tx.update(rows, tx.init(rows[0]), rows[0], **rest)
        except TypeError:  # it misses them
            found.append(what)
    return ", ".join(filter(None, found)) or "–"


def keeps(name: str) -> str:
    """The large arrays of a method's state, in units of the shared parameters P."""
    state = jax.eval_shape(dbmtl.METHODS[name](T).init, jnp.ones(SHAPE))
    large = [leaf.shape for leaf in jax.tree.leaves(state) if leaf.shape[-2:] == SHAPE]
    stacked, single = sum(len(s) == 3 for s in large), sum(len(s) == 2 for s in large)
    parts = [(stacked, "T P"), (single, "P")]
    return " + ".join(f"{'' if n == 1 else n} {unit}".strip() for n, unit in parts if n) or "–"


def source(name: str) -> str:
    """The paper that a method's docstring names."""
    found = re.search(r"Sources?: (.*?)(?:\n\n|\Z)", inspect.getdoc(dbmtl.METHODS[name]), re.DOTALL)
    return " ".join(found[1].split()) if found else "the sum of the gradients."


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
