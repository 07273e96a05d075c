"""The message-passing network for the QM9 benchmark, with one linear head per task.

The architecture is that of the Nash-MTL benchmark, after Gilmer et al., "Neural message passing for
quantum chemistry", 2017. With width 64 and 11 tasks it has 617,675 parameters. Molecules are
padded to a common number of atoms; padding does not affect the results.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.molecule_features import (
    EDGE_FEATURES,
    NODE_FEATURES,
    featurize,
    pair_mask,
)


class QM9Network(nnx.Module):
    """A network with a shared encoder and a linear head per task, which predicts one number each.

    All parameters of `encoder` are shared; `heads[t]` belongs to task t.

    Args:
      num_tasks: number of tasks (heads) T; 1 for a single-task model.
      width: size of the state vectors and of the representation (64 in the benchmark).
      edge_width: hidden units of the network that converts an edge to a message matrix.
      message_steps: number of message-passing steps, all with the same parameters.
      message_dtype: dtype of the messages, which are most of the work; None: that of the
        parameters.
      rngs: source of the initial parameters.
    """

    def __init__(
        self,
        num_tasks: int = 11,
        *,
        width: int = 64,
        edge_width: int = 128,
        message_steps: int = 3,
        message_dtype: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        if num_tasks < 1:
            raise ValueError(f"num_tasks must be at least 1, got {num_tasks}")
        self.encoder = MoleculeEncoder(
            width=width,
            edge_width=edge_width,
            message_steps=message_steps,
            message_dtype=message_dtype,
            rngs=rngs,
        )
        self.heads = nnx.List([_linear(width, 1, rngs=rngs) for _ in range(num_tasks)])

    def __call__(self, charges: jax.Array, positions: jax.Array) -> jax.Array:
        """Predictions of the normalised targets of all tasks, `[B, T]`.

        Args:
          charges: atomic numbers `[B, A]`, integers; 0 marks padding.
          positions: coordinates in Å `[B, A, 3]`.
        """
        return self.decode(self.encoder(charges, positions))

    def decode(self, representation: jax.Array) -> jax.Array:
        """Applies the heads to the output of the encoder: `[B, width]` to predictions `[B, T]`."""
        return jnp.concatenate([head(representation) for head in self.heads], axis=-1)


class MoleculeEncoder(nnx.Module):
    """Molecules to representations; the arguments are those of `QM9Network`."""

    def __init__(
        self,
        *,
        width: int = 64,
        edge_width: int = 128,
        message_steps: int = 3,
        message_dtype: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        for name, value in (
            ("width", width),
            ("edge_width", edge_width),
            ("message_steps", message_steps),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.message_steps = message_steps
        self.embed = _linear(NODE_FEATURES, width, rngs=rngs)
        self.convolution = EdgeConditionedConvolution(
            width,
            edge_features=EDGE_FEATURES,
            edge_width=edge_width,
            dtype=message_dtype,
            rngs=rngs,
        )
        self.update = GRUCell(width, width, rngs=rngs)
        self.readout = Set2Set(width, steps=3, rngs=rngs)
        self.project = _linear(2 * width, width, rngs=rngs)

    def __call__(self, charges: jax.Array, positions: jax.Array) -> jax.Array:
        """`charges` `[B, A]` and `positions` `[B, A, 3]` to a representation `[B, width]`."""
        nodes, edges, mask = featurize(charges, positions)
        # Not earlier, as distances need the full precision.
        nodes, edges = (x.astype(self.embed.kernel.dtype) for x in (nodes, edges))
        state = nnx.relu(self.embed(nodes))
        edge_weights = self.convolution.edge_weights(edges, pair_mask(mask))
        for _ in range(self.message_steps):
            state = self.update(nnx.relu(self.convolution(state, edge_weights)), state)
        return nnx.relu(self.project(self.readout(state, mask)))


class EdgeConditionedConvolution(nnx.Module):
    """Mean over neighbours j of x_j Θ(e_ji), plus x_i R + b (NNConv of PyTorch Geometric).

    Θ(e) = Σ_k h_k(e) W_k + W_0 is a matrix `[d, d]` for every edge; h(e), of size K, is the hidden
    layer of the edge network. These matrices are never computed: Σ_j Σ_k h_k(e_ji) (x_j W_k) gives
    the same sum with a fraction of the memory and arithmetic.

    The sum is computed in `dtype`; distances and states keep the dtype of the parameters.
    """

    def __init__(
        self,
        width: int,
        *,
        edge_features: int,
        edge_width: int,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.dtype = dtype
        self.edge_hidden = _linear(edge_features, edge_width, rngs=rngs)
        # The second layer of the edge network, stored as the matrices W_k and W_0.
        init = _uniform(1 / math.sqrt(edge_width))
        self.matrices = nnx.Param(init(rngs.params(), (edge_width, width, width), jnp.float32))
        self.matrix_bias = nnx.Param(init(rngs.params(), (width, width), jnp.float32))
        root_init = _uniform(1 / math.sqrt(width))
        self.root = nnx.Param(root_init(rngs.params(), (width, width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width, jnp.float32))

    def edge_weights(self, edges: jax.Array, pairs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The edge weights, which are the same in all message-passing steps.

        Args:
          edges: features `[B, A, A, F]` of the edge from atom `[:, j, :]` to atom `[:, :, i]`.
          pairs: the edges that exist, `[B, A, A]`.

        Returns:
          h(e_ji) / n_i as `[B, i, j, K]`, and 1 / n_i as `[B, i, j]`; both 0 where there is no
          edge. n_i is the number of edges to atom i.
        """
        neighbours = jnp.maximum(jnp.sum(pairs, axis=1, keepdims=True), 1)
        mean = pairs / neighbours.astype(edges.dtype)
        hidden = nnx.relu(self.edge_hidden(edges)) * mean[..., None]
        return self._rounded(hidden.transpose(0, 2, 1, 3)), mean.transpose(0, 2, 1)

    def __call__(self, state: jax.Array, edge_weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        """New states `[B, A, d]` from the states `[B, A, d]` and the result of `edge_weights`."""
        hidden, mean = edge_weights
        messages = jax.lax.platform_dependent(
            hidden,
            self._rounded(state),
            self._rounded(self.matrices[...]),
            tpu=neighbours_first,
            default=matrices_first,
        ).astype(state.dtype)
        messages += (mean @ state) @ self.matrix_bias[...]
        return messages + state @ self.root[...] + self.bias[None, None]

    def _rounded(self, x: jax.Array) -> jax.Array:
        return x if self.dtype is None else x.astype(self.dtype)


def matrices_first(hidden: jax.Array, state: jax.Array, matrices: jax.Array) -> jax.Array:
    """Σ_j Σ_k h_ijk (x_j W_k): the order that is fastest on CPUs, with and without gradients."""
    batch, atoms, _, k = hidden.shape
    d = state.shape[-1]
    states = state.reshape(batch * atoms, d)
    flat = matrices.transpose(1, 0, 2).reshape(d, k * d)
    transformed = (states @ flat).reshape(batch, atoms * k, d)
    return hidden.reshape(batch, atoms, atoms * k) @ transformed


def neighbours_first(hidden: jax.Array, state: jax.Array, matrices: jax.Array) -> jax.Array:
    """Σ_k (Σ_j h_ijk x_j) W_k: the order for which XLA counts fewer cycles on TPUs."""
    summed = jnp.einsum("bijk,bjd->bikd", hidden, state)
    return jnp.einsum("bikd,kde->bie", summed, matrices)


class GRUCell(nnx.Module):
    """A gated recurrent unit with the two biases and the gate order of PyTorch."""

    def __init__(self, in_features: int, width: int, *, rngs: nnx.Rngs) -> None:
        bound = 1 / math.sqrt(width)
        self.input = _linear(in_features, 3 * width, bound=bound, rngs=rngs)
        self.hidden = _linear(width, 3 * width, bound=bound, rngs=rngs)

    def __call__(self, inputs: jax.Array, state: jax.Array) -> jax.Array:
        """The next state `[..., width]` from `inputs` `[..., in_features]` and `state`."""
        input_reset, input_update, input_new = jnp.split(self.input(inputs), 3, axis=-1)
        state_reset, state_update, state_new = jnp.split(self.hidden(state), 3, axis=-1)
        reset = nnx.sigmoid(input_reset + state_reset)
        update = nnx.sigmoid(input_update + state_update)
        new = jnp.tanh(input_new + reset * state_new)
        return (1 - update) * new + update * state


class LSTMCell(nnx.Module):
    """A long short-term memory cell with the two biases and the gate order of PyTorch."""

    def __init__(self, in_features: int, width: int, *, rngs: nnx.Rngs) -> None:
        bound = 1 / math.sqrt(width)
        self.input = _linear(in_features, 4 * width, bound=bound, rngs=rngs)
        self.hidden = _linear(width, 4 * width, bound=bound, rngs=rngs)

    def __call__(
        self, inputs: jax.Array, state: jax.Array, cell: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The next state and the next cell `[..., width]` from the inputs `[..., in_features]`."""
        gates = self.input(inputs) + self.hidden(state)
        write, forget, candidate, output = jnp.split(gates, 4, axis=-1)
        cell = nnx.sigmoid(forget) * cell + nnx.sigmoid(write) * jnp.tanh(candidate)
        return nnx.sigmoid(output) * jnp.tanh(cell), cell


class Set2Set(nnx.Module):
    """An order-invariant summary of a set, which an LSTM reads `steps` times by attention.

    See Vinyals et al., "Order matters: sequence to sequence for sets", 2016.
    """

    def __init__(self, width: int, *, steps: int, rngs: nnx.Rngs) -> None:
        self.width = width
        self.steps = steps
        self.cell = LSTMCell(2 * width, width, rngs=rngs)

    def __call__(self, items: jax.Array, mask: jax.Array) -> jax.Array:
        """The last query and its attention readout, `[B, 2 width]`.

        Args:
          items: items of the set `[B, A, width]`.
          mask: `[B, A]`, false for padding.
        """
        query = jnp.zeros((items.shape[0], self.width), items.dtype)
        cell = query
        summary = jnp.concatenate([query, query], axis=-1)
        for _ in range(self.steps):
            query, cell = self.cell(summary, query, cell)
            scores = jnp.einsum("bac,bc->ba", items, query)
            attention = jax.nn.softmax(scores, axis=-1, where=mask)
            read = jnp.einsum("ba,bac->bc", attention, items)
            summary = jnp.concatenate([query, read], axis=-1)
        return summary


def _uniform(bound: float) -> nnx.initializers.Initializer:
    """Initial values from U(-bound, bound)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def _linear(
    in_features: int, out_features: int, *, bound: float | None = None, rngs: nnx.Rngs
) -> nnx.Linear:
    """A linear layer with weight and bias from U(±bound), by default 1/√fan_in as in PyTorch."""
    init = _uniform(1 / math.sqrt(in_features) if bound is None else bound)
    return nnx.Linear(in_features, out_features, kernel_init=init, bias_init=init, rngs=rngs)
