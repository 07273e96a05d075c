"""What streaming saves: backward passes, and arrays [T, *shape]."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

import dbmtl_jax as dbmtl
from tests.engine.streaming import METHODS, T, encode, head, init, losses_fn


def backward_passes(tx, num_tasks=T):
    """How many pullbacks of the encoder a step runs."""
    ran = []

    @jax.custom_vjp
    def marked(z):
        return z

    def backward(_, cotangent):
        jax.debug.callback(lambda: ran.append(1))
        return (cotangent,)

    marked.defvjp(lambda z: (z, None), backward)

    def fun(p):
        z = marked(jnp.tanh(p))
        return [jnp.sum((t + 1) * z**2) + 1 for t in range(num_tasks)]

    @jax.jit
    def step(state, p):
        losses, grads = dbmtl.value_and_task_grads(fun, stream=True)(p)
        return tx.update(grads, state, p, losses=losses)

    jax.block_until_ready(step(tx.init(jnp.ones(3)), jnp.ones(3)))
    jax.effects_barrier()
    return len(ran)


@pytest.mark.parametrize("name", dbmtl.PROPERTIES)
def test_the_backward_passes_of_a_method(name):
    expected = {"1": 1, "T": T, "T + 1": T + 1}[dbmtl.PROPERTIES[name].passes]
    if name == "modo":  # of two batches
        expected *= 2
    assert backward_passes(METHODS[name](T)) == expected


def test_the_backward_passes_of_chains_and_of_no_average():
    assert backward_passes(dbmtl.db_mtl(T, 0.0)) == T + 1
    assert backward_passes(optax.chain(dbmtl.scale_by_log_loss(T), dbmtl.sum_tasks(T))) == 1


def products_of(jaxpr):
    return str(jaxpr).count("dot_general")


@pytest.mark.parametrize("has_heads", [True, False])
def test_a_loss_balancers_program_is_equal_weightings(has_heads):
    """With heads as well, which are pulled back once."""
    params = init()
    batch = (jnp.ones((6, 4)), jnp.zeros(T))

    def equal_weighting(p):
        return jax.grad(lambda p: sum(losses_fn(p, *batch)))(p)

    def step(p):
        tx = dbmtl.uw(T, labels=("shared", list(range(T))))
        p = (p["encoder"], p["heads"])
        fun = dbmtl.encoder_value_and_task_grads(encode, [head(t) for t in range(T)], stream=True)
        losses, grads = fun(p, *batch)
        return tx.update(grads, tx.init(p), p, losses=losses)[0]

    if not has_heads:

        def equal_weighting(p):
            return jax.grad(lambda e: sum(losses_fn({**p, "encoder": e}, *batch)))(p["encoder"])

        def step(p):
            tx = dbmtl.uw(T)
            losses, grads = dbmtl.value_and_task_grads(
                lambda e: losses_fn({**p, "encoder": e}, *batch), stream=True
            )(p["encoder"])
            return tx.update(grads, tx.init(p["encoder"]), losses=losses)[0]

    expected = products_of(jax.make_jaxpr(equal_weighting)(params))
    assert products_of(jax.make_jaxpr(step)(params)) == expected


def test_what_finds_the_culprit_is_a_small_program():
    """It hardly ever runs, and does not grow with the number of tasks."""

    def products(num_tasks):
        tx = dbmtl.mgda(num_tasks, measured={"v": True, "w": False})

        def losses_of(p):
            z = jnp.tanh(jnp.ones((2, 3)) @ p["v"] @ p["w"])
            return [jnp.sum((t + 1) * z**2) for t in range(num_tasks)]

        def step(p):
            losses, grads = dbmtl.value_and_task_grads(losses_of, stream=True, mode="unroll")(p)
            return tx.update(grads, tx.init(p), p, losses=losses)[0]

        jaxpr = jax.make_jaxpr(step)({"v": jnp.ones((3, 4)), "w": jnp.ones((4, 4))}).jaxpr
        branches = [
            branch
            for equation in jaxpr.eqns
            if equation.primitive.name == "cond"
            for branch in equation.params["branches"]
        ]
        return sum(map(products_of, branches))

    assert products(2) == products(5) > 0


@pytest.mark.parametrize("mode", ["unroll", "loop"])
@pytest.mark.parametrize("name", ["db_mtl, beta 0", "pcgrad", "mgda", "grad_norm", "uw"])
def test_no_stacked_array_exists(name, mode):
    """A weight of 7 by 11 of three tasks would be [3, 7, 11], or [3, 77]."""
    tx = METHODS[name](T)

    def step(stream, state, p):
        losses, grads = dbmtl.value_and_task_grads(
            lambda p: [jnp.sum(jnp.sin(p * t)) + 9 for t in range(1, 4)], stream=stream, mode=mode
        )(p)
        return tx.update(grads, state, p, losses=losses)

    p = jnp.ones((7, 11))
    texts = [
        jax.jit(functools.partial(step, stream)).lower(tx.init(p), p).compile().as_text()
        for stream in (True, False)
    ]
    found = [any(shape in text for shape in ("[3,7,11]", "[3,77]")) for text in texts]
    assert found == [False, True]


@pytest.mark.parametrize("mode", ["unroll", "loop"])
def test_an_average_is_written_in_place(mode):
    """Beside the donated average there is room for a row or two, not for T."""
    num_tasks, size = 16, 64
    tx = dbmtl.db_mtl(num_tasks)

    def step(state, p, x):
        def fun(p):
            return jnp.mean(jnp.tanh(x @ p), 0)[:num_tasks] + 2

        losses, grads = dbmtl.value_and_task_grads(fun, stream=True, mode=mode)(p)
        return tx.update(grads, state, p, losses=losses)

    p, x = jnp.ones((size, size)), jnp.ones((8, size))
    compiled = jax.jit(step, donate_argnums=0).lower(tx.init(p), p, x).compile()
    row = 4 * size * size
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * row
