"""The gallery: a page for each example, with what it is about, what it prints, and its source."""

import ast
import functools
import os
import pathlib
import subprocess
import sys

from docs.generated.cache import kept_text, key
from docs.generated.pages import ROOT, toctree, update

EXAMPLES = ROOT / "examples"

# The examples in the order of the gallery, with their titles.
GALLERY = {
    "plain_pytree": "A plain tree of arrays",
    "nnx_batch_norm_dropout": "Flax NNX with BatchNorm and Dropout",
    "nnx_scenes": "Flax NNX, losses of several kinds",
    "flax_nnx": "Flax NNX, each head differentiated once",
    "linen_train_state": "Flax Linen with a TrainState",
    "flax_linen": "Flax Linen with labels",
    "equinox_labels": "Equinox with labels and named tasks",
    "equinox_resume": "Equinox, stopped and resumed",
    "pinn": "A physics-informed network",
    "burgers": "Burgers' equation",
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


def write(folder: pathlib.Path, cache: pathlib.Path | None) -> None:
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
        update(folder / f"{name}.md", page)
        lines.append(f"- [{title}]({name}.md): {text.splitlines()[0]}")
    page = (
        "# Gallery\n\nScripts to copy from, each in one file of `examples/`. All run in the tests."
        " Data are made in the scripts unless a page says otherwise; what a page shows as printed"
        " is from the machine that built it.\n\n"
    )
    update(folder / "index.md", page + "\n".join(lines) + "\n\n" + toctree(GALLERY, hidden=True))


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
