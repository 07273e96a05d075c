"""A page for each method, and the page that lists them."""

import pathlib
import shutil

import jax
import jax.numpy as jnp

import dbmtl_jax as dbmtl
from benchmarks.methods import DISPLAY_NAMES
from docs import figures, properties
from docs.generated.cache import kept_text, key
from docs.generated.names import documented, on_the_page_of
from docs.generated.pages import ROOT, rst, toctree, update


def write(folder: pathlib.Path, cache: pathlib.Path | None) -> None:
    """Writes a page for each method, and the page that lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    if cache:
        cache.mkdir(parents=True, exist_ok=True)
    entries = []
    for name in dbmtl.METHODS:
        documentation = rst(*map(documented, on_the_page_of(name)))
        parts = [f"# {DISPLAY_NAMES[name]}", documentation, "## Properties", row(name)]
        if cache:
            parts.insert(1, picture(name))
        update(folder / f"{name}.md", "\n\n".join(parts) + "\n")
        entries.append(f"{DISPLAY_NAMES[name]} <{name}>")
        if cache and name not in figures.NOT_DRAWN:
            kept = cache / f"{name}-{key(ROOT / 'docs' / 'figures.py')}.png"
            if not kept.exists():
                figures.draw_method(name, kept)
            shutil.copyfile(kept, folder / kept.with_stem(name).name)
    families = {
        "baseline": "The baseline",
        "loss": "Loss balancing",
        "gradient": "Gradient balancing",
        "hybrid": "Both",
    }
    listing = "\n\n".join(
        f"**{title}.** "
        + " · ".join(
            f"[{DISPLAY_NAMES[name]}]({name}.md)"
            for name in dbmtl.METHODS
            if dbmtl.PROPERTIES[name].family == family
        )
        for family, title in families.items()
    )
    table = kept_text(cache, f"lengths-{key(pathlib.Path(__file__))}", lengths) if cache else ""
    page = (
        "# Methods\n\nEvery method is a factory `name(num_tasks, *, …, labels=None)` in"
        " `dbmtl_jax.METHODS`. [Which method?](../which_method.md) helps to choose one;"
        " [properties](../properties.md) compares what they promise, read and keep.\n\n"
        f"{listing}\n\n{table}\n\n{toctree(entries, hidden=True)}"
    )
    update(folder / "index.md", page)


def picture(name: str) -> str:
    """The picture of a method in two dimensions, with its caption."""
    if name in figures.NOT_DRAWN:
        return f"There is no picture of a single step. {figures.NOT_DRAWN[name]}"
    options = figures.OPTIONS.get(name, {})
    given = "".join(f", {key}={value}" for key, value in options.items())
    return (
        f":::{{figure}} {name}.png\n"
        f":alt: The update of {DISPLAY_NAMES[name]} next to two gradients and their sum\n\n"
        f"The first update of `{name}(2{given})` for two gradients, of tasks whose losses are 1 and"
        " 2. Directions that conflict with neither task are shaded.\n:::"
    )


def row(name: str) -> str:
    """A method's row of the table of properties, with the columns below each other."""
    columns = [(c, v) for c, v in zip(properties.COLUMNS, properties.row(name), strict=True)]
    lines = [f"| {column} | {value or '–'} |" for column, value in columns[1:]]
    head = "| [property](../properties.md) | |\n|---|---|\n"
    return head + "\n".join(lines)


def lengths() -> str:
    """A table of how long first updates are, which decides about learning rates."""

    def norms(name: str, num_tasks: int, cases) -> list[str]:
        options = {"db_mtl": {"beta": 0.0}, "constant": {"weights": [1.0] * num_tasks}}
        options["stch"] = {"mu": 1.0}
        method = dbmtl.METHODS[name](num_tasks, **options.get(name, {}))

        @jax.jit
        def norm(grads):
            others = {"other_grads": [grads]} if name == "modo" else {}
            params, losses = grads[0], jnp.ones(num_tasks)
            update, _ = method.update(grads, method.init(params), params, losses=losses, **others)
            return jnp.linalg.norm(update)

        return [f"{float(norm(grads)):.2f}" for grads in cases]

    def cells(name: str) -> list[str]:
        few, many = (
            norms(name, n, [jnp.zeros((n, 10)).at[:, 0].set(1), jnp.eye(n, 10)]) for n in (2, 10)
        )
        return [few[0], many[0], few[1], many[1]]

    random = ("rlw", "igbv2", "grad_drop")
    lines = [
        f"| [{DISPLAY_NAMES[name]}]({name}.md) | {' | '.join(cells(name))} |"
        for name in dbmtl.METHODS
        if name not in random
    ]
    return (
        "## Sums and means\n\n"
        "The length of the first update for T gradients of length 1, of tasks whose losses are 1:"
        " all equal, and all at right angles. Where it grows with T the update is like a sum, where"
        " it does not like a mean, and under SGD the latter takes a learning rate about T times as"
        " large. In front of Adam, which divides by the length, it makes no difference. (MTAdam"
        " takes the place of Adam. `db_mtl` is shown with `beta=0.0`, `stch` with `mu=1.0`. Methods"
        " that draw at random are left out.)\n\n"
        "| method | T = 2, equal | T = 10, equal | T = 2, orthogonal | T = 10, orthogonal |\n"
        "|---|---:|---:|---:|---:|\n" + "\n".join(lines)
    )
