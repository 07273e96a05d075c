"""Writes the pages of the site that follow from the code: methods, reference and gallery.

`docs/conf.py` calls `write`, so that the pages are as current as the build.  Git ignores them.
`python -m docs.generate FOLDER` writes them without pictures and without what examples print.
"""

import ast
import functools
import hashlib
import inspect
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

import dbmtl_jax as dbmtl
from benchmarks.methods import DISPLAY_NAMES
from dbmtl_jax import nnx, testing
from docs import figures, properties

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

# The gallery: the examples in its order, with their titles.
GALLERY = {
    "plain_pytree": "A plain tree of arrays",
    "nnx_batch_norm_dropout": "Flax NNX with BatchNorm and Dropout",
    "flax_nnx": "Flax NNX, each head differentiated once",
    "linen_train_state": "Flax Linen with a TrainState",
    "flax_linen": "Flax Linen with labels",
    "equinox_labels": "Equinox with labels and named tasks",
    "pinn": "A physics-informed network",
    "qm9_in_60_lines": "Molecules in sixty lines",
    "multi_fashion": "Two garments in one image",
    "recommender": "Recommendation, with rare labels",
    "rl_critics": "Critics of several rewards",
    "inject_hyperparams": "Options in the optimizer's state",
    "lbfgs": "L-BFGS and line searches",
    "language_model": "A language model on a mesh",
    "several_processes": "Several processes",
}
# What is run in the place of `python examples/NAME.py`.
COMMANDS = {
    "several_processes": "for id in 0 1; do"
    " python examples/several_processes.py 127.0.0.1:9127 2 $id & done; wait",
}
# These take minutes; what they print is in their docstrings.
NOT_RUN = ("pinn",)

API = {
    "engine": (
        "Per-task gradients",
        "Each function turns losses into losses and task gradients.",
        dbmtl.engine.__all__,
    ),
    "composition": (
        "Around methods",
        "What chains methods with optimizers, and what stands around them.",
        [name for name in dbmtl.composition.__all__ if not name.endswith("State")],
    ),
    "parts": (
        "Parts of chains",
        "They scale, average or sum task gradients. A loss balancer's `scale_by_…` is on its"
        " method's page.",
        [
            "scale_by_log_loss",
            "task_ema",
            "inverse_power_schedule",
            "normalize_rows",
            "clip_rows",
            "balance_magnitudes",
            "sum_tasks",
        ],
    ),
    "own_methods": (
        "Methods of your own",
        "What methods are made with, and what they see.",
        [
            "gradient_balancer",
            "loss_balancer",
            "Tasks",
            "Gramian",
            "TaskTransformation",
            "LossBalancer",
            "Labels",
            "labels_by_path",
        ],
    ),
    "measures": (
        "Measures and names",
        "What a method did, and all methods by name.",
        [
            "diagnostics",
            "Diagnostics",
            "report_skipped",
            "delta_p",
            "task_norms",
            "task_cosine_similarity",
            "METHODS",
            "PROPERTIES",
            "Properties",
        ],
    ),
    "states": (
        "States",
        "What methods keep between steps, trees of arrays. `optax.tree.get(opt_state, FIELD)` reads"
        " a field.",
        sorted(name for name in dbmtl.__all__ if name.endswith("State")),
    ),
}


def write(folder: pathlib.Path, cache: pathlib.Path | None = None) -> None:
    """Writes all pages into a folder.

    With a cache, which takes minutes when it is empty, methods are drawn and measured, and the
    examples are run for what they print.  It is keyed by the sources.
    """
    write_methods(folder / "methods", cache)
    write_api(folder / "api")
    write_gallery(folder / "gallery", cache)


def write_methods(folder: pathlib.Path, cache: pathlib.Path | None) -> None:
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
        _update(folder / f"{name}.md", "\n\n".join(parts) + "\n")
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
    _update(folder / "index.md", page)


def on_the_page_of(name: str) -> list[str]:
    """The public names that are documented on a method's page."""
    return [n for n in (name, f"scale_by_{name}", f"{name}_weights") if n in dbmtl.__all__]


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


def write_api(folder: pathlib.Path) -> None:
    """Writes the reference: every public name that has no place on a method's page."""
    folder.mkdir(parents=True, exist_ok=True)
    for page, (title, text, names) in API.items():
        summary = f"# {title}\n\n{text}\n\n"
        _update(folder / f"{page}.md", summary + rst(*map(documented, names)))
    modules = {"testing": (testing, "Testing methods"), "nnx": (nnx, "Flax NNX")}
    for page, (module, title) in modules.items():
        names = [documented(name, f"dbmtl_jax.{page}") for name in module.__all__]
        head = rst(f".. automodule:: dbmtl_jax.{page}")
        _update(folder / f"{page}.md", f"# {title}\n\n{head}\n\n{rst(*names)}")
    glossary = rst(".. automodule:: dbmtl_jax.core")
    _update(folder / "glossary.md", f"# Contract and glossary\n\n{glossary}")
    pages = [*API, *modules, "glossary"]
    page = (
        "# Reference\n\nEvery public name of `dbmtl_jax`, `dbmtl_jax.nnx` and `dbmtl_jax.testing`."
        f" The methods have [pages of their own](../methods/index.md).\n\n{toctree(pages)}"
    )
    _update(folder / "index.md", page)


def names_on_pages() -> list[str]:
    """The public names of `dbmtl_jax` that the pages document, for a test that all are there."""
    on_methods = [shown for name in dbmtl.METHODS for shown in on_the_page_of(name)]
    return on_methods + [name for _, _, names in API.values() for name in names]


def documented(name: str, module: str = "dbmtl_jax") -> str:
    """The directive that shows a public name."""
    if name == "scale_by_mtadam":  # a second name of the same function
        return f".. py:data:: {module}.{name}\n\n   {_said_below(name)}"
    found = getattr(sys.modules[module], name)
    function = inspect.isroutine(found) or hasattr(found, "__wrapped__")
    if not function and not isinstance(found, type):
        return f".. py:data:: {module}.{name}\n\n   {_said_below(name)}"
    if isinstance(found, type):
        return f".. autoclass:: {module}.{name}\n   :members:\n   :undoc-members:"
    return f".. autofunction:: {module}.{name}"


def _said_below(name: str) -> str:
    """The string below the definition of a name in the library's source."""
    for path in sorted((ROOT / "dbmtl_jax").rglob("*.py")):
        body = ast.parse(path.read_text("utf-8")).body
        for statement, below in itertools.pairwise(body):
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            if (
                isinstance(statement, ast.Assign | ast.AnnAssign)
                and getattr(targets[0], "id", None) == name
                and isinstance(below, ast.Expr)
            ):
                return with_shapes_as_code(" ".join(ast.literal_eval(below.value).split()))
    raise LookupError(f"{name} is not described below its definition")


def with_shapes_as_code(text: str) -> str:
    """Text of a docstring in which [T, *shape], whose star begins an emphasis, is code."""
    code_or_shape = r"``.*?``|`[^`]*`|(\[[^][`]*\*\w[^][`]*\])"
    return re.sub(code_or_shape, lambda m: f"``{m[1]}``" if m[1] else m[0], text)


def write_gallery(folder: pathlib.Path, cache: pathlib.Path | None) -> None:
    """Writes a page for each example: what it is about, what it prints, and its source."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, title in GALLERY.items():
        module = ast.parse((EXAMPLES / f"{name}.py").read_text("utf-8"))
        text = ast.get_docstring(module) or ""
        printed = ""
        if cache and name not in NOT_RUN:
            kept = f"{name}-{key(EXAMPLES / f'{name}.py')}"
            printed = kept_text(cache, kept, functools.partial(output, name))
        result = f"It prints\n\n```text\n{printed}```\n\n" if printed else ""
        command = COMMANDS.get(name, f"python examples/{name}.py")
        source = f"```{{literalinclude}} ../../examples/{name}.py\n:language: python\n"
        source += f":lines: {module.body[1].lineno}-\n```"
        page = f"# {title}\n\n{text}\n\n```bash\n{command}\n```\n\n{result}## Source\n\n{source}\n"
        _update(folder / f"{name}.md", page)
        lines.append(f"- [{title}]({name}.md): {text.splitlines()[0]}")
    page = (
        "# Gallery\n\nScripts to copy from, each in one file of `examples/`. All run in the tests."
        " Data are made in the scripts unless a page says otherwise; what a page shows as printed"
        " is from the machine that built it.\n\n"
    )
    _update(folder / "index.md", page + "\n".join(lines) + "\n\n" + toctree(GALLERY, hidden=True))


def output(name: str) -> str:
    """What an example prints."""
    command = COMMANDS.get(name, f"python examples/{name}.py").replace("python", sys.executable)
    done = subprocess.run(
        command,
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    if done.returncode or not done.stdout:
        raise RuntimeError(f"{command} failed:\n{done.stderr}")
    return "".join(line for line in done.stdout.splitlines(True) if not line.startswith("[Gloo]"))


@functools.cache
def key(*sources: pathlib.Path) -> str:
    """A name for the present sources of the library and some files."""
    paths = [*sources, *sorted((ROOT / "dbmtl_jax").rglob("*.py"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def kept_text(cache: pathlib.Path, name: str, make: Callable[[], str]) -> str:
    """A text from the cache, or made now and kept there."""
    kept = cache / f"{name}.txt"
    if not kept.exists():
        kept.write_text(make(), "utf-8")
    return kept.read_text("utf-8")


def rst(*directives: str) -> str:
    """Directives of reStructuredText, which docstrings are written in, in a page of Markdown."""
    return "```{eval-rst}\n" + "\n\n".join(directives) + "\n```\n"


def toctree(pages: Iterable[str], *, hidden: bool = False) -> str:
    """The directive that lists pages."""
    options = ":hidden:\n" if hidden else ":maxdepth: 1\n"
    return "```{toctree}\n" + options + "\n" + "\n".join(pages) + "\n```\n"


def _update(path: pathlib.Path, text: str) -> None:
    """Writes a file if that changes it: Sphinx reads changed files again."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
