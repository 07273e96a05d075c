"""Two towers for recommendation, with labels for every row, for few, and for very few.

The data are simulated, and so are the label rates: a click is seen in every row, a purchase where
there was a click, and a rating in a tenth of the rows with a purchase. A task's loss is the mean
over its own labels in the batch, and `task_mask` leaves a task out of a batch that has none.

Printed are errors on new data on a scale from 0, the truth of the simulation, to 1, the best
constant. DB-MTL is the wrong method for the ratings here: their gradient is that of one row
or two, if any, and the common norm gives it the same say as the clicks' mean of 64 rows. Methods
that weigh by the losses, or not at all, do well.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dbmtl_jax as dbmtl

TASKS = ("click", "purchase", "rating")
LABELS = {"user": "shared", "item": "shared", "heads": {name: name for name in TASKS}}
SIZE = 8  # of the vectors that describe users and items


def simulate(seed, rows):
    """Users, items, the three targets, and which of them are known."""
    world, random = np.random.default_rng(0), np.random.default_rng(seed)
    # What users click, buy and like is half the same and half its own.
    common, own = world.normal(size=(1, SIZE, SIZE)), world.normal(size=(3, SIZE, SIZE))
    mix = (common + own) / SIZE
    user, item = random.normal(size=(2, rows, SIZE))
    taste = np.einsum("nu,tui,ni->tn", user, mix, item)
    logits = 3 * taste[:2] - np.array([[1.0], [1.5]])
    click, purchase = random.random((2, rows)) < 1 / (1 + np.exp(-logits))
    y = {"click": click, "purchase": purchase, "rating": 3 + 2 * np.tanh(taste[2])}
    truth = {"click": logits[0], "purchase": logits[1], "rating": y["rating"]}
    known = {"click": np.ones(rows, bool), "purchase": click}
    known["rating"] = click & purchase & (random.random(rows) < 0.1)
    return jax.tree.map(np.float32, (user, item, y, truth)), known


def init(key, width=32):
    """Two towers, and for each task a matrix between their outputs and a bias."""
    keys = iter(jax.random.split(key, 2 + len(TASKS)))

    def dense(n, m):
        return jax.random.normal(next(keys), (n, m)) / n**0.5

    towers = {name: dense(SIZE, width) for name in ("user", "item")}
    begin = {"click": 0.0, "purchase": 0.0, "rating": 3.0}
    return towers | {"heads": {n: [dense(width, width), jnp.array(begin[n])] for n in TASKS}}


def predict(params, user, item):
    """A logit for clicks and purchases, and a rating, by name."""
    u, v = jnp.tanh(user @ params["user"]), jnp.tanh(item @ params["item"])
    heads = params["heads"].items()
    return {n: jnp.sum((u @ w) * v, axis=1) / len(w) ** 0.5 + b for n, (w, b) in heads}


def errors_of(outputs, y):
    """The error of every row, by name of the task."""
    of_logits = optax.losses.sigmoid_binary_cross_entropy
    errors = {n: of_logits(outputs[n], y[n]) for n in ("click", "purchase")}
    return errors | {"rating": (outputs["rating"] - y["rating"]) ** 2}


def losses_of(params, user, item, y, known):
    """The mean error of each task over the rows where its label is known."""
    errors = errors_of(predict(params, user, item), y)
    # A task without labels has the loss 0/1, not 0/0, and is masked.
    return {n: jnp.sum(errors[n], where=known[n]) / jnp.maximum(known[n].sum(), 1) for n in TASKS}


def train(method, steps, batch=64):
    tx = dbmtl.chain(method(TASKS, labels=LABELS), optax.adam(3e-3))
    params = init(jax.random.key(0))
    opt_state = tx.init(params)

    @jax.jit
    def step(params, opt_state, user, item, y, known):
        fun = dbmtl.value_and_task_grads(losses_of, labels=LABELS, stream=True)
        losses, grads = fun(params, user, item, y, known)
        present = {name: jnp.any(known[name]) for name in TASKS}
        updates, opt_state = tx.update(grads, opt_state, params, losses=losses, task_mask=present)
        return optax.apply_updates(params, updates), opt_state

    for k in range(steps):
        (user, item, y, _), known = simulate(k + 1, batch)
        params, opt_state = step(params, opt_state, user, item, y, known)
    return params


def main(steps=1000):
    """Returns each method's errors on new data by task."""
    (user, item, y, truth), known = simulate(0, 20_000)
    print("labels known:", {name: f"{known[name].mean():.1%}" for name in TASKS})
    mean = {n: jnp.mean(y[n]) for n in TASKS}
    guess = {n: mean[n] if n == "rating" else jax.scipy.special.logit(mean[n]) for n in TASKS}
    best, worst = (jax.tree.map(jnp.mean, errors_of(outputs, y)) for outputs in (truth, guess))
    methods = {"ew": dbmtl.ew, "uw": dbmtl.uw, "db_mtl": dbmtl.db_mtl}
    found = {}
    for name, method in methods.items():
        outputs = predict(train(method, steps), user, item)
        errors = jax.tree.map(jnp.mean, errors_of(outputs, y))
        found[name] = {n: float((errors[n] - best[n]) / (worst[n] - best[n])) for n in TASKS}
        print(f"{name:6}", *(f"{n} {found[name][n]:.2f}" for n in TASKS))
    return found


if __name__ == "__main__":
    main()
