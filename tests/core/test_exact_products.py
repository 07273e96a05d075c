"""Accelerators round what they multiply: the network's products as asked, the methods' never."""

import jax
import jax.numpy as jnp
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import gradient_balancing

T = 3
EXACT = (jax.lax.Precision.HIGHEST,) * 2
ENGINES = ["values", "encoder"]


def products(jaxpr):
    """The precision of every product in a jaxpr and what it calls."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from products(getattr(inner, "jaxpr", inner))


def inputs(num_tasks=T):
    grads = jax.random.normal(jax.random.key(0), (num_tasks, 5))
    return grads, jnp.arange(1.0, num_tasks + 1)


@pytest.mark.parametrize("name", sorted(dbmtl.METHODS))
def test_methods_products_are_exact(name):
    tx = dbmtl.METHODS[name](T)
    grads, losses = inputs()
    extra = {"other_grads": [-grads]} if name == "modo" else {}

    def update(grads, state, losses):
        return tx.update(grads, state, losses=losses, **extra)

    jaxpr = jax.make_jaxpr(update)(grads, tx.init(grads[0]), losses)
    assert set(products(jaxpr.jaxpr)) <= {EXACT}


@pytest.mark.parametrize(
    "name", sorted(name for name in dir(gradient_balancing) if name.endswith("_weights"))
)
def test_products_of_weights_alone_are_exact(name):
    arguments = {
        "grad_vac_weights": (jnp.zeros((T, T)), jax.random.key(0)),
        "pcgrad_weights": (jax.random.key(0),),
    }
    weights = getattr(dbmtl, name)
    jaxpr = jax.make_jaxpr(lambda matrix: weights(matrix, *arguments.get(name, ())))(jnp.eye(T))
    assert set(products(jaxpr.jaxpr)) <= {EXACT}


@pytest.mark.parametrize("num_tasks", [2, 9])
@pytest.mark.parametrize("size", [10, 100_000])
def test_products_of_statistics_are_exact(size, num_tasks):
    rows = jax.ShapeDtypeStruct((num_tasks, size), jnp.float32)
    jaxpr = jax.make_jaxpr(dbmtl.task_cosine_similarity)(rows)
    assert set(products(jaxpr.jaxpr)) == {EXACT}


def test_products_of_a_users_method_are_exact():
    def weigh(tasks, memory):
        return tasks.cosines @ tasks.norms, memory

    tx = dbmtl.gradient_balancer(T, weigh, reads="gramian")
    grads, _ = inputs()
    jaxpr = jax.make_jaxpr(tx.update)(grads, tx.init(grads[0]))
    found = list(products(jaxpr.jaxpr))
    assert len(found) == 2
    assert set(found) == {EXACT}


def losses_of(engine, w, x, **options):
    """Losses and task gradients of T losses with one product, x w, and pullbacks of it."""
    if engine == "values":
        fun = dbmtl.value_and_task_grads(
            lambda w: [jnp.sum((x @ w) ** (t + 2)) for t in range(T)], **options
        )
        return fun(w)
    heads = [lambda own, z, t=t: jnp.sum(own * z ** (t + 2)) for t in range(T)]
    fun = dbmtl.encoder_value_and_task_grads(lambda w: x @ w, heads, **options)
    losses, grads = fun((w, [jnp.ones(())] * T))
    return losses, grads if options["stream"] else grads[0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", [None, "bfloat16", "highest"])
def test_the_networks_products_are_as_precise_as_where_they_were_asked_for(
    engine, precision, stream
):
    w, x = jnp.ones((4, 2)), jnp.ones((3, 4))
    params = (w, [jnp.ones(())] * T) if engine == "encoder" and stream else w
    tx = dbmtl.pcgrad(T, labels=("shared", list(range(T))) if params is not w else None)

    def step(w, state):
        with jax.default_matmul_precision(precision):
            losses, grads = losses_of(engine, w, x, stream=stream)
        with jax.default_matmul_precision("tensorfloat32"):
            return tx.update(grads, state, params, losses=jnp.stack(losses))

    jaxpr = jax.make_jaxpr(step)(w, tx.init(params))
    with jax.default_matmul_precision(precision):
        (asked,) = products(jax.make_jaxpr(lambda w: x @ w)(w).jaxpr)
    found = set(products(jaxpr.jaxpr))
    assert asked in found
    assert found <= {asked, EXACT}
