"""Draws the pictures of the documentation: the idea, and every method in two dimensions.

Run with `python docs/figures.py` for docs/images/idea.png, which README and the site show, and with
`python docs/figures.py FOLDER` to have a picture of each method in a folder, too.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

import dbmtl_jax as dbmtl

mpl.use("Agg")
import matplotlib.pyplot as plt

IDEA = pathlib.Path(__file__).with_name("images") / "idea.png"
FIRST, SECOND, SUM, UPDATE = "tab:blue", "tab:green", "0.6", "tab:red"
CASES = {
    "conflict, equal lengths": ((-0.34, 0.94), (1.0, 0.0)),
    "conflict, one longer": ((-1.37, 3.76), (1.0, 0.0)),
    "agreement, one longer": ((1.37, 3.76), (1.0, 0.0)),
}
# The left and lower edge of the axes, and their width.
FRAMES = ((-1.0, -0.8, 2.8), (-2.2, -1.6, 8.0), (-2.2, -1.6, 8.0))
LOSSES = jnp.array([1.0, 2.0])
# What the pictures need besides the defaults.
OPTIONS = {"db_mtl": {"beta": 0.0}, "constant": {"weights": [1.0, 2.0]}, "stch": {"mu": 1.0}}
# The update of the first step is random, or says nothing of what is learnt later.
NOT_DRAWN = {
    "rlw": "The weights are drawn at random in every step.",
    "igbv2": "The weights are drawn at random until the agent has learnt from the losses.",
    "grad_drop": "The sign that each entry keeps is drawn at random in every step.",
    "modo": "The update is that of equal weighting until the weights have moved.",
}


def updates(name: str) -> np.ndarray:
    """The first updates [3, 2] that a method makes of the three cases' gradients."""
    method = dbmtl.METHODS[name](2, **OPTIONS.get(name, {}))
    params = jnp.zeros(2)

    @jax.jit
    def update(grads):
        return method.update(grads, method.init(params), params, losses=LOSSES)[0]

    return np.stack([update(jnp.array(grads)) for grads in CASES.values()])


def arrow(ax, vector, colour, label, *, dashed=False):
    """Draws a vector from the origin."""
    style = {"linestyle": (0, (4, 2))} if dashed else {}
    ax.annotate(
        "",
        xy=vector,
        xytext=(0, 0),
        arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0}
        | style,
    )
    ax.plot([], [], color=colour, lw=2, label=label, **style)


def plane(ax, title, grads, frame):
    """Draws axes with the directions that conflict with none of the gradients shaded."""
    angles = np.linspace(0, 2 * np.pi, 721)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    agree = np.all(np.asarray(grads) @ directions >= 0, axis=0)
    left, low, width = frame
    cone = 3 * width * directions[:, agree]
    # The cone may contain the angle 0: begin the polygon at its gap.
    gap = np.flatnonzero(np.diff(np.flatnonzero(agree)) > 1)
    cone = np.roll(cone, -(gap[0] + 1), axis=1) if len(gap) else cone
    ax.fill([0, *cone[0]], [0, *cone[1]], color="0.93", zorder=0)
    ax.set(xlim=(left, left + width), ylim=(low, low + width), aspect="equal")
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
    for side in ax.spines.values():
        side.set_color("0.8")


def draw_method(name: str, path: pathlib.Path) -> None:
    """Draws the update of one method in three cases."""
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.2), layout="constrained")
    cases = zip(axes, FRAMES, CASES.items(), updates(name), strict=True)
    for ax, frame, (title, grads), update in cases:
        plane(ax, title, grads, frame)
        arrow(ax, np.sum(grads, axis=0), SUM, "their sum", dashed=True)
        arrow(ax, grads[0], FIRST, "gradient of task 0")
        arrow(ax, grads[1], SECOND, "gradient of task 1")
        arrow(ax, update, UPDATE, f"update of {name}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_idea(path: pathlib.Path = IDEA) -> None:
    """Draws two gradients of different scale, their sum, and what DB-MTL makes of them."""
    grads, losses = jnp.array([[0.6, 0.8], [10.0, -4.0]]), jnp.array([0.5, 20.0])
    logs = grads / losses[:, None]
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.5), layout="constrained")
    steps = (
        ("the losses' gradients", grads, grads.sum(axis=0), (-2, -8, 15)),
        ("the logarithms' gradients", logs, logs.sum(axis=0), (-0.6, -1.6, 4.2)),
        ("DB-MTL: all as long as the longest", None, None, (-0.6, -1.6, 4.2)),
    )
    for ax, (title, rows, merged, frame) in zip(axes, steps, strict=True):
        if rows is None:
            norms = jnp.linalg.norm(logs, axis=1, keepdims=True)
            rows = logs / norms * norms.max()
            method = dbmtl.db_mtl(2, beta=0.0)
            merged, _ = method.update(grads, method.init(grads[0]), grads[0], losses=losses)
            np.testing.assert_allclose(merged, rows.sum(axis=0), rtol=1e-5)
        plane(ax, title, rows, frame)
        arrow(ax, merged, UPDATE, "their sum")
        arrow(ax, rows[0], FIRST, "task with the loss 0.5")
        arrow(ax, rows[1], SECOND, "task with the loss 20")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_methods(folder: pathlib.Path) -> None:
    """Draws every method for which it makes sense into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in dbmtl.METHODS:
        if name not in NOT_DRAWN:
            draw_method(name, folder / f"{name}.png")


if __name__ == "__main__":
    draw_idea()
    for folder in sys.argv[1:]:
        draw_methods(pathlib.Path(folder))
