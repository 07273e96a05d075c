"""The message-passing network for the QM9 benchmark, with one linear head per task.

The architecture is the one of the Nash-MTL benchmark (itself the QM9 example of Gilmer et al.,
"Neural message passing for quantum chemistry", 2017): with width 64 and 11 tasks it has exactly
617,675 parameters. Molecules are padded to a common number of atoms; padding takes no part.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.models.molecule_features import (
    EDGE_FEATURES,
    NODE_FEATURES,
    featurize,
    pair_mask,
)


class QM9Network(nnx.Module):
    """Molecules to one prediction per task: a shared encoder and linear heads.

    Everything under `encoder` is shared, `heads[t]` belongs to task t.

    Args:
      num_tasks: number of heads T; 1 for a single-task model.
      width: size of the atoms' states and of the representation (64 in the benchmark).
      edge_width: hidden units of the network that turns an edge into a message matrix.
      message_steps: rounds of message passing, all with the same parameters.
      message_dtype: that messages are computed in, nearly all of the work; None: the parameters'.
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
        """Predictions of all tasks `[B, T]`, in the units of the normalised targets.

        Args:
          charges: atomic numbers `[B, A]`, integers; 0 marks padding.
          positions: coordinates in Å `[B, A, 3]`.
        """
        return self.decode(self.encoder(charges, positions))

    def decode(self, representation: jax.Array) -> jax.Array:
        """The heads alone: the encoder's output `[B, width]` to predictions `[B, T]`."""
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
        # Only now: distances need the digits.
        nodes, edges = (x.astype(self.embed.kernel.dtype) for x in (nodes, edges))
        state = nnx.relu(self.embed(nodes))
        edge_weights = self.convolution.edge_weights(edges, pair_mask(mask))
        for _ in range(self.message_steps):
            state = self.update(nnx.relu(self.convolution(state, edge_weights)), state)
        return nnx.relu(self.project(self.readout(state, mask)))


class EdgeConditionedConvolution(nnx.Module):
    """Mean over neighbours j of x_j Θ(e_ji), plus x_i R + b (NNConv of PyTorch Geometric).

    Θ(e) = Σ_k h_k(e) W_k + W_0 is a matrix `[d, d]` for every edge; h(e), of size K, is the hidden
    layer of the edge network. These matrices are never built: Σ_j Σ_k h_k(e_ji) (x_j W_k) is the
    same sum, from every state's K products with W_k, at a fraction of the memory and arithmetic.

    It is computed in `dtype`. Distances keep the parameters', as do the atoms' states.
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
        # The second layer of the edge network, kept as the matrices that it combines.
        init = _uniform(1 / math.sqrt(edge_width))
        self.matrices = nnx.Param(init(rngs.params(), (edge_width, width, width), jnp.float32))
        self.matrix_bias = nnx.Param(init(rngs.params(), (width, width), jnp.float32))
        root_init = _uniform(1 / math.sqrt(width))
        self.root = nnx.Param(root_init(rngs.params(), (width, width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width, jnp.float32))

    def edge_weights(self, edges: jax.Array, pairs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the message steps have in common.

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
        """The atoms' states `[B, A, d]` and the result of `edge_weights` to new states."""
        hidden, mean = edge_weights
        batch, atoms, _, k = hidden.shape
        d = state.shape[-1]
        # Matrices first, then neighbours, as two plain matrix products: on CPUs faster
        # than the other order, with and without the pullbacks.
        matrices = self._rounded(self.matrices[...]).transpose(1, 0, 2).reshape(d, k * d)
        states = self._rounded(state).reshape(batch * atoms, d)
        transformed = (states @ matrices).reshape(batch, atoms * k, d)
        messages = (hidden.reshape(batch, atoms, atoms * k) @ transformed).astype(state.dtype)
        messages += (mean @ state) @ self.matrix_bias[...]
        return messages + state @ self.root[...] + self.bias[None, None]

    def _rounded(self, x: jax.Array) -> jax.Array:
        return x if self.dtype is None else x.astype(self.dtype)


class GRUCell(nnx.Module):
    """A gated recurrent unit with the two biases and the gate order of PyTorch."""

    def __init__(self, in_features: int, width: int, *, rngs: nnx.Rngs) -> None:
        bound = 1 / math.sqrt(width)
        self.input = _linear(in_features, 3 * width, bound=bound, rngs=rngs)
        self.hidden = _linear(width, 3 * width, bound=bound, rngs=rngs)

    def __call__(self, inputs: jax.Array, state: jax.Array) -> jax.Array:
        """`inputs` `[..., in_features]` and `state` `[..., width]` to the next state."""
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
    """An order-invariant summary of a set: an LSTM that reads it by attention, `steps` times.

    Vinyals et al., "Order matters: sequence to sequence for sets", 2016.
    """

    def __init__(self, width: int, *, steps: int, rngs: nnx.Rngs) -> None:
        self.width = width
        self.steps = steps
        self.cell = LSTMCell(2 * width, width, rngs=rngs)

    def __call__(self, items: jax.Array, mask: jax.Array) -> jax.Array:
        """The last query and what it read, `[B, 2 width]`.

        Args:
          items: the set `[B, A, width]`.
          mask: `[B, A]`, false for items that take no part.
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
    """U(-bound, bound)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def _linear(
    in_features: int, out_features: int, *, bound: float | None = None, rngs: nnx.Rngs
) -> nnx.Linear:
    """PyTorch's default: weight and bias from U(±1/√fan_in), unless a bound is given."""
    init = _uniform(1 / math.sqrt(in_features) if bound is None else bound)
    return nnx.Linear(in_features, out_features, kernel_init=init, bias_init=init, rngs=rngs)
