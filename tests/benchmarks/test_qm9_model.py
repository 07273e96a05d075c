"""The QM9 network against plain loops in NumPy, and its invariances."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks.networks.functional import functional
from benchmarks.networks.molecule_features import featurize, pair_mask
from benchmarks.networks.qm9 import (
    EdgeConditionedConvolution,
    QM9Network,
    matrices_first,
    neighbours_first,
)

_TASKS = 3
_WIDTH = 16


@pytest.fixture(scope="module")
def initial():
    """(apply, params) of a small network as it is initialised."""
    module = QM9Network(_TASKS, width=_WIDTH, edge_width=8, rngs=nnx.Rngs(0))
    return functional(module)[:2]


@pytest.fixture(scope="module")
def network(initial):
    """(apply, params): params, charges, positions -> [B, T]."""
    apply, params = initial
    # Larger than the initial ones, so that no gate and no attention is nearly linear.
    params = jax.tree.map(lambda x: 1.5 * x, params)
    return jax.jit(lambda params, *args: apply(params, {}, *args)[0]), params


def _molecules(*sizes, pad_to=7, seed=0):
    """Random atoms about a bond length apart: the features are as varied as can be."""
    rng = np.random.default_rng(seed)
    charges = np.zeros((len(sizes), pad_to), np.int32)
    positions = np.zeros((len(sizes), pad_to, 3), np.float32)
    for row, atoms in enumerate(sizes):
        charges[row, :atoms] = rng.choice([1, 6, 7, 8, 9], atoms)
        positions[row, :atoms] = rng.normal(size=(atoms, 3))
    return charges, positions


def test_parameter_count_of_the_benchmark():
    shapes = nnx.eval_shape(lambda: QM9Network(11, width=64, rngs=nnx.Rngs(0)))
    assert sum(x.size for x in jax.tree.leaves(nnx.state(shapes, nnx.Param))) == 617_675


def test_initial_parameters_follow_torch(initial):
    _, params = initial
    encoder = params["encoder"]
    # (array, 1 / bound²): fan-in for linear layers, width for recurrent cells and the root.
    cases = [
        (encoder["embed"]["kernel"], 11),
        (encoder["project"]["kernel"], 2 * _WIDTH),
        (encoder["convolution"]["edge_hidden"]["kernel"], 5),
        (encoder["convolution"]["matrices"], 8),
        (encoder["convolution"]["matrix_bias"], 8),
        (encoder["convolution"]["root"], _WIDTH),
        (encoder["update"]["input"]["bias"], _WIDTH),
        (encoder["update"]["hidden"]["kernel"], _WIDTH),
        (encoder["readout"]["cell"]["input"]["kernel"], _WIDTH),
        (encoder["readout"]["cell"]["hidden"]["bias"], _WIDTH),
    ]
    for array, inverse_square in cases:
        largest = float(np.abs(array).max()) * np.sqrt(inverse_square)
        assert 0.9 < largest <= 1 + 1e-6
    assert not np.any(encoder["convolution"]["bias"])
    heads = [np.asarray(head["kernel"]) for head in params["heads"].values()]
    assert np.abs(heads[0] - heads[1]).min() > 0  # every array is drawn for itself


@pytest.mark.parametrize("option", ["num_tasks", "width", "edge_width", "message_steps"])
def test_sizes_are_checked(option):
    with pytest.raises(ValueError, match=option):
        QM9Network(**{option: 0}, rngs=nnx.Rngs(0))


def test_both_orders_of_the_products_give_the_same_sum():
    rng = np.random.default_rng(0)
    hidden, state, matrices = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((2, 4, 4, 3), (2, 4, 5), (3, 5, 5))
    )
    expected = np.einsum("bijk,bjd,kde->bie", hidden, state, matrices)
    for order in (matrices_first, neighbours_first):
        np.testing.assert_allclose(order(hidden, state, matrices), expected, rtol=1e-4, atol=1e-5)


def test_factored_convolution_equals_the_one_with_a_matrix_per_edge():
    width, features, edge_width = 5, 3, 7
    convolution = EdgeConditionedConvolution(
        width, edge_features=features, edge_width=edge_width, rngs=nnx.Rngs(1)
    )
    convolution.bias[...] = jnp.arange(width, dtype=jnp.float32)
    rng = np.random.default_rng(0)
    mask = np.arange(6) < np.array([6, 4, 1])[:, None]
    state = rng.normal(size=(3, 6, width)).astype(np.float32)
    # Not symmetric, so that a mixed-up direction of the edges shows.
    edges = rng.normal(size=(3, 6, 6, features)).astype(np.float32)

    @jax.jit
    def run(state, edges):
        return convolution(state, convolution.edge_weights(edges, pair_mask(jnp.asarray(mask))))

    actual = run(state, edges)

    hidden, matrices, matrix_bias, root, bias = (
        np.asarray(x, np.float64)
        for x in (
            convolution.edge_hidden.kernel[...],
            convolution.matrices[...],
            convolution.matrix_bias[...],
            convolution.root[...],
            convolution.bias[...],
        )
    )
    hidden_bias = np.asarray(convolution.edge_hidden.bias[...], np.float64)
    for b, atoms in enumerate(mask.sum(axis=1)):
        for i in range(atoms):
            message = np.zeros(width)
            for j in set(range(atoms)) - {i}:
                h = np.maximum(edges[b, j, i] @ hidden + hidden_bias, 0)
                message += state[b, j] @ (np.tensordot(h, matrices, 1) + matrix_bias) / (atoms - 1)
            expected = message + state[b, i] @ root + bias
            np.testing.assert_allclose(actual[b, i], expected, atol=1e-5)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _affine(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def _reference(params, nodes, edges):
    """One molecule without padding, atom by atom, in the words of the paper and of torch."""
    encoder = params["encoder"]
    convolution = encoder["convolution"]
    width = convolution["bias"].size
    states = [np.maximum(_affine(encoder["embed"], node), 0) for node in nodes]
    for _ in range(3):
        new_states = []
        for i, state in enumerate(states):
            messages = []
            for j, other in enumerate(states):
                if i != j:
                    h = np.maximum(_affine(convolution["edge_hidden"], edges[i, j]), 0)
                    matrix = np.tensordot(h, convolution["matrices"], 1)
                    messages.append(other @ (matrix + convolution["matrix_bias"]))
            message = np.mean(messages, axis=0) + state @ convolution["root"] + convolution["bias"]
            message = np.maximum(message, 0)
            from_input = _affine(encoder["update"]["input"], message).reshape(3, width)
            from_state = _affine(encoder["update"]["hidden"], state).reshape(3, width)
            r = _sigmoid(from_input[0] + from_state[0])
            z = _sigmoid(from_input[1] + from_state[1])
            n = np.tanh(from_input[2] + r * from_state[2])
            new_states.append((1 - z) * n + z * state)
        states = new_states

    cell_params = encoder["readout"]["cell"]
    query, cell, read = np.zeros((3, width))
    for _ in range(3):
        gates = _affine(cell_params["input"], np.append(query, read))
        i, f, g, o = (gates + _affine(cell_params["hidden"], query)).reshape(4, width)
        cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
        query = _sigmoid(o) * np.tanh(cell)
        scores = np.exp([state @ query for state in states])
        read = sum(s * state for s, state in zip(scores / scores.sum(), states, strict=True))
    representation = np.maximum(_affine(encoder["project"], np.append(query, read)), 0)
    heads = [params["heads"][str(t)] for t in range(len(params["heads"]))]
    return np.concatenate([_affine(head, representation) for head in heads])


def test_network_equals_loops_over_single_molecules(network):
    apply, params = network
    charges, positions = _molecules(7, 3, 5)
    actual = apply(params, charges, positions)
    nodes, edges, _ = jax.tree.map(np.asarray, jax.jit(featurize)(charges, positions))
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    for row, atoms in enumerate([7, 3, 5]):
        expected = _reference(params, nodes[row, :atoms], edges[row, :atoms, :atoms])
        np.testing.assert_allclose(actual[row], expected, rtol=1e-4, atol=1e-5)


def test_more_padding_changes_nothing(network):
    apply, params = network
    charges, positions = _molecules(5, 3, 6)
    more = apply(
        params, np.pad(charges, ((0, 0), (0, 4))), np.pad(positions, ((0, 0), (0, 4), (0, 0)))
    )
    chex.assert_trees_all_close(apply(params, charges, positions), more, atol=1e-5)


def test_order_of_the_atoms_changes_nothing(network):
    apply, params = network
    charges, positions = _molecules(6, 4, 3)
    order = np.random.default_rng(1).permutation(charges.shape[1])  # padding is moved as well
    permuted = apply(params, charges[:, order], positions[:, order])
    chex.assert_trees_all_close(apply(params, charges, positions), permuted, atol=1e-5)


def test_rotation_reflection_and_translation_change_nothing(network):
    apply, params = network
    charges, positions = _molecules(6, 4, 3)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    moved = (positions @ rotation + [1, -2, 3]).astype(np.float32)
    for matrix in (1, -1):
        result = apply(params, charges, matrix * moved)
        chex.assert_trees_all_close(apply(params, charges, positions), result, atol=1e-4)


def test_geometry_and_elements_do_matter(network):
    apply, params = network
    charges, positions = _molecules(6, 4, 3)
    outputs = [
        apply(params, charges, positions),
        apply(params, charges, 1.3 * positions),
        apply(params, np.where(charges == 6, 7, charges), positions),
    ]
    assert np.abs(outputs[0][0] - outputs[1][0]).max() > 1e-3
    assert np.abs(outputs[0] - outputs[2]).max() > 1e-3


def test_molecules_of_a_batch_do_not_interact(network):
    apply, params = network
    charges, positions = _molecules(6, 4, 3, seed=0)
    other_charges, other_positions = _molecules(7, 2, 5, seed=1)
    other_charges[0], other_positions[0] = charges[0], positions[0]
    first = apply(params, charges, positions)
    second = apply(params, other_charges, other_positions)
    chex.assert_trees_all_close(first[0], second[0], atol=1e-6)
    assert np.abs(first[1:] - second[1:]).max(axis=1).min() > 1e-3


def test_gradients_are_finite_and_reach_what_they_should(network):
    apply, params = network
    # With a single atom and an entirely padded row, where means and softmax are over nothing.
    charges, positions = _molecules(7, 6, 5, 1, 0)

    @jax.jit
    def run(params):
        outputs, pullback = jax.vjp(lambda p: apply(p, charges, positions).sum(axis=0), params)
        return outputs, jax.vmap(pullback)(jnp.eye(_TASKS))[0]

    outputs, jacobian = jax.tree.map(np.asarray, run(params))
    chex.assert_tree_all_finite((outputs, jacobian))
    heads = jacobian.pop("heads")
    for path, leaf in jax.tree.leaves_with_path(jacobian):
        for task in range(_TASKS):
            assert leaf[task].any(), (task, jax.tree_util.keystr(path))
    for head in range(_TASKS):
        for leaf in jax.tree.leaves(heads[str(head)]):
            np.testing.assert_array_equal(
                leaf.reshape(_TASKS, -1).any(axis=1), np.arange(_TASKS) == head
            )


def test_encoder_and_decoder_make_up_the_network(initial, network):
    whole, params = network
    apply, _ = initial
    charges, positions = _molecules(5, 4, 7)

    @jax.jit
    def run(params):
        representation, _ = apply(params, {}, charges, positions, method="encoder")
        return representation, apply(params, {}, representation, method="decode")[0]

    representation, outputs = run(params)
    chex.assert_shape((representation, outputs), [(3, _WIDTH), (3, _TASKS)])
    chex.assert_trees_all_close(outputs, whole(params, charges, positions), atol=1e-6)
