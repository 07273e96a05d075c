"""DB-MTL next to equal weighting on a decoder whose tasks are the mixtures of its data (Flax NNX).

Each sequence of a batch comes from one of eight mixtures, and a mixture's loss is the mean over its
own sequences. Parameters are float32, the arithmetic is bfloat16; the layers are one scan, and are
computed again in the backward pass. Parameters and all that has their shape (the moments of AdamW,
the averages of DB-MTL) are divided over the mesh's axis "fsdp", the batch over "data" and "fsdp".
One device is a mesh of 1 x 1.

The data are synthetic and made here: eight Markov chains, from nearly certain to nearly random. The
entropy of a chain is the lowest loss that there is.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dbmtl_jax as dbmtl
from dbmtl_jax import nnx as mtl

NOISE = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.9])  # how often a token is any token
NUM_TASKS = len(NOISE)
BATCH = P(("data", "fsdp"))  # the first axis is divided over all devices


class Config(NamedTuple):
    vocabulary: int = 16
    width: int = 32
    layers: int = 2
    heads: int = 2
    length: int = 16  # of a sequence, in tokens
    batch: int = 32  # sequences in a step


TINY = Config()
SMALL = Config(vocabulary=32768, width=768, layers=12, heads=12, length=1024, batch=64)


class Block(nnx.Module):
    """Causal self-attention and an MLP, each added to its input."""

    def __init__(self, config, rngs):
        width, self.heads = config.width, config.heads
        linear = functools.partial(nnx.Linear, use_bias=False, dtype=jnp.bfloat16, rngs=rngs)
        norm = functools.partial(nnx.RMSNorm, width, dtype=jnp.bfloat16, rngs=rngs)
        self.before_attention, self.before_mlp = norm(), norm()
        self.qkv, self.mixed = linear(width, 3 * width), linear(width, width)
        self.wide, self.narrow = linear(width, 4 * width), linear(4 * width, width)

    def __call__(self, x):
        x = jax.lax.with_sharding_constraint(x, BATCH)
        qkv = self.qkv(self.before_attention(x))
        q, k, v = jnp.split(qkv.reshape(*x.shape[:2], 3 * self.heads, -1), 3, axis=2)
        heads = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mixed(heads.reshape(x.shape))
        return x + self.narrow(nnx.gelu(self.wide(self.before_mlp(x))))


class Decoder(nnx.Module):
    def __init__(self, config, rngs):
        embed = functools.partial(nnx.Embed, features=config.width, dtype=jnp.bfloat16, rngs=rngs)
        self.tokens, self.positions = embed(config.vocabulary), embed(config.length)

        @nnx.split_rngs(splits=config.layers)
        @nnx.vmap
        def stacked(rngs):
            return Block(config, rngs)

        self.blocks = stacked(rngs)  # every parameter is [layers, ...]
        self.norm = nnx.RMSNorm(config.width, dtype=jnp.bfloat16, rngs=rngs)
        self.logits = nnx.Linear(
            config.width, config.vocabulary, use_bias=False, dtype=jnp.bfloat16, rngs=rngs
        )

    def __call__(self, tokens, targets):
        """The mean loss of each sequence [B], of tokens [B, length] and those that follow them."""

        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        @nnx.remat
        def layer(x, block):
            return block(x)

        # The logits are the largest array of all, so they are not kept either.
        @nnx.remat
        def loss(norm, logits, x):
            logits = logits(norm(x)).astype(jnp.float32)
            each = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
            return jnp.mean(each, axis=1)

        x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))[None]
        return loss(self.norm, self.logits, layer(x, self.blocks))


def losses_of(model, sequences, mixtures):
    """The losses of the mixtures [T]; that of one without sequences is 0."""
    losses = model(sequences[:, :-1], sequences[:, 1:])
    own = jax.nn.one_hot(mixtures, NUM_TASKS, axis=0)  # [T, B]
    return jnp.sum(own * losses[None], axis=1) / jnp.maximum(jnp.sum(own, axis=1), 1)


def loss_of_one(model, sequences):
    """The loss of a mixture, of its own sequences."""
    return jnp.mean(model(sequences[:, :-1], sequences[:, 1:]))


class Training(NamedTuple):
    """A training run as functions of arrays, and where these lie on a mesh."""

    init: Callable  # key -> state of model and optimizer
    step: Callable  # state, (sequences, mixtures) -> state, losses [T]
    losses: Callable  # state, (sequences, mixtures) -> losses [T]
    state: Any  # shapes with their places
    batch: Any  # likewise


def training(config, method, mesh, learning_rate=3e-3, in_order=False):
    """Joins decoder, method and AdamW. Nothing is computed yet, so the model may be of any size.

    With `in_order` every batch has as many sequences of each mixture, those of the first mixture
    first. A mixture's gradient then takes a pass over its own sequences instead of all.
    """
    tx = dbmtl.chain(method(NUM_TASKS), optax.adamw(learning_rate))
    of_all = mtl.value_and_task_grads(losses_of, stream=True)
    of_each = mtl.per_task_value_and_grads(loss_of_one, stream=True, mode="loop")

    def build(key):
        model = Decoder(config, nnx.Rngs(key))
        return model, nnx.Optimizer(model, tx, wrt=nnx.Param)

    graph, shapes = nnx.split(nnx.eval_shape(build, jax.random.key(0)))
    state = jax.tree.map(lambda leaf: placed(leaf, mesh), shapes)
    places = jax.tree.map(lambda leaf: leaf.sharding, state)

    @functools.partial(jax.jit, out_shardings=places)
    def init(key):
        return nnx.state(build(key))

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=(places, None))
    def step(state, batch):
        model, optimizer = nnx.merge(graph, state)
        sequences, mixtures = batch
        if in_order:
            losses, grads = of_each(model, sequences.reshape(NUM_TASKS, -1, config.length + 1))
        else:
            losses, grads = of_all(model, sequences, mixtures)
        # A mixture without a sequence in the batch takes no part in this step.
        present = jnp.bincount(mixtures, length=NUM_TASKS) > 0
        optimizer.update(model, grads, losses=losses, task_mask=present)
        return nnx.state((model, optimizer)), losses

    @jax.jit
    def losses(state, batch):
        return losses_of(nnx.merge(graph, state)[0], *batch)

    batch = tuple(
        jax.ShapeDtypeStruct(shape, jnp.int32, sharding=NamedSharding(mesh, BATCH))
        for shape in ((config.batch, config.length + 1), (config.batch,))
    )
    return Training(init, step, losses, state, batch)


def placed(leaf, mesh):
    """A shape with its place: the largest axis is divided, never that of the tasks or layers."""
    largest = max(leaf.shape, default=1)
    spec = P()
    if largest > NUM_TASKS and largest % mesh.shape["fsdp"] == 0:
        spec = P(*[None] * leaf.shape.index(largest), "fsdp")
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))


class Mixtures:
    """Markov chains: a token is followed by its successor, or with a chain's own noise by any.

    A sequence begins with the number of its mixture, which says how to read the rest.
    """

    def __init__(self, config):
        self.config = config
        rng = np.random.default_rng(0)
        tokens = config.vocabulary
        self.successors = np.stack([rng.permutation(tokens) for _ in range(NUM_TASKS)])
        usual, other = 1 - NOISE + NOISE / tokens, NOISE / tokens
        self.entropies = -usual * np.log(usual) - (tokens - 1) * other * np.log(other)

    def draw(self, rng, mixtures):
        """Sequences [B, length + 1] of these mixtures [B], with the mixtures."""
        sequences = [mixtures]
        for _ in range(self.config.length):
            usual = self.successors[mixtures, sequences[-1]]
            any_token = rng.integers(self.config.vocabulary, size=len(mixtures))
            is_noise = rng.random(len(mixtures)) < NOISE[mixtures]
            sequences.append(np.where(is_noise, any_token, usual))
        return np.stack(sequences, axis=1).astype(np.int32), mixtures.astype(np.int32)


def train(method, steps, config, mesh):
    """Trains a new decoder; its state, and its losses on the same test batch before and after."""
    rng, data = np.random.default_rng(1), Mixtures(config)
    test = data.draw(rng, np.arange(32 * NUM_TASKS) % NUM_TASKS)
    run = training(config, method, mesh, optax.cosine_decay_schedule(1e-2, steps))
    with jax.set_mesh(mesh):
        state = run.init(jax.random.key(0))
        before = run.losses(state, test)
        for _ in range(steps):
            mixtures = rng.integers(NUM_TASKS, size=config.batch)
            batch = jax.device_put(data.draw(rng, mixtures), NamedSharding(mesh, BATCH))
            state, _ = run.step(state, batch)
        return state, np.array(before), np.array(run.losses(state, test))


def main(steps=200):
    """Trains with each method, all devices along "fsdp"; the losses [T] before and after."""
    axes = (1, jax.device_count()), ("data", "fsdp")
    mesh = jax.make_mesh(*axes, axis_types=(AxisType.Auto,) * 2)
    methods = {"ew": dbmtl.ew, "db_mtl": dbmtl.db_mtl}
    found = {name: train(method, steps, TINY, mesh)[1:] for name, method in methods.items()}
    print("mixture  entropy   start" + "".join(f"{name:>8}" for name in found))
    for t, entropy in enumerate(Mixtures(TINY).entropies):
        ends = "".join(f"{after[t]:8.3f}" for _, after in found.values())
        print(f"{t:7}  {entropy:7.3f}{found['ew'][0][t]:8.3f}{ends}")
    return found


if __name__ == "__main__":
    main()
