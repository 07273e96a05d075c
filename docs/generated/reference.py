"""The reference: every public name that has no place on a method's page."""

import pathlib

import dbmtl_jax as dbmtl
from dbmtl_jax import nnx, testing
from docs.generated.names import documented, on_the_page_of
from docs.generated.pages import rst, toctree, update

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


def write(folder: pathlib.Path) -> None:
    """Writes the reference: every public name that has no place on a method's page."""
    folder.mkdir(parents=True, exist_ok=True)
    for page, (title, text, names) in API.items():
        summary = f"# {title}\n\n{text}\n\n"
        update(folder / f"{page}.md", summary + rst(*map(documented, names)))
    modules = {"testing": (testing, "Testing methods"), "nnx": (nnx, "Flax NNX")}
    for page, (module, title) in modules.items():
        names = [documented(name, f"dbmtl_jax.{page}") for name in module.__all__]
        head = rst(f".. automodule:: dbmtl_jax.{page}")
        update(folder / f"{page}.md", f"# {title}\n\n{head}\n\n{rst(*names)}")
    glossary = rst(".. automodule:: dbmtl_jax.core")
    update(folder / "glossary.md", f"# Contract and glossary\n\n{glossary}")
    pages = [*API, *modules, "glossary"]
    page = (
        "# Reference\n\nEvery public name of `dbmtl_jax`, `dbmtl_jax.nnx` and `dbmtl_jax.testing`."
        f" The methods have [pages of their own](../methods/index.md).\n\n{toctree(pages)}"
    )
    update(folder / "index.md", page)


def names_on_pages() -> list[str]:
    """The public names of `dbmtl_jax` that the pages document, for a test that all are there."""
    on_methods = [shown for name in dbmtl.METHODS for shown in on_the_page_of(name)]
    return on_methods + [name for _, _, names in API.values() for name in names]
