"""What every vision network keeps: sizes, whose parameters are whose, statistics, dropout."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

import dbmtl_jax as dbmtl
from benchmarks.networks.cross_stitch import CrossStitch
from benchmarks.networks.deeplab import DeepLab, Sizes
from benchmarks.networks.functional import functional
from benchmarks.networks.mtan import MTAN
from benchmarks.networks.multi_task import join_tasks, labels, split_tasks
from benchmarks.networks.office import OfficeNetwork
from benchmarks.networks.segnet import SegNet, pool_with_places, unpool
from benchmarks.networks.segnet_mtan import SegNetMTAN
from tests.benchmarks.networks.trees import Network, count, random_network, shapes

_OUTPUTS = (3, 1)
_RESNET = Sizes((2, 2, 2, 2), width=4, head_width=4)
_SEGNET = (4, 4, 6, 6, 6)

_SMALL = {
    "deeplab": functools.partial(DeepLab, _OUTPUTS, _RESNET),
    "cross_stitch": functools.partial(CrossStitch, _OUTPUTS, _RESNET),
    "mtan": functools.partial(MTAN, _OUTPUTS, _RESNET),
    "segnet": functools.partial(SegNet, _OUTPUTS, _SEGNET),
    "segnet_mtan": functools.partial(SegNetMTAN, _OUTPUTS, _SEGNET),
    "office": functools.partial(OfficeNetwork, 2, 5, blocks=(1, 1, 1, 1), width=4, hidden=6),
}
_DROPOUT = {"deeplab", "cross_stitch", "mtan", "office"}

# Arrays of layers that run once for each task in a forward.
_ONCE_PER_TASK = {
    "mtan": [("encoder", "between")],
    "segnet_mtan": [("encoder", "down"), ("encoder", "up")],
}


class Case(NamedTuple):
    name: str
    network: Network
    train: Any  # (params, batch_stats, key) -> outputs, new batch_stats
    evaluate: Any  # (params, batch_stats) -> outputs, new batch_stats


def _images():
    return np.random.default_rng(1).normal(size=(3, 32, 64, 3)).astype(np.float32)


@functools.cache
def _case(name):
    network = random_network(_SMALL[name])
    images = _images()
    fast = {"xla_backend_optimization_level": 0}  # to compile, not to run
    train = jax.jit(
        lambda p, s, key: network.apply(p, s, images, train=True, rng=key), compiler_options=fast
    )
    evaluate = jax.jit(lambda p, s: network.apply(p, s, images), compiler_options=fast)
    return Case(name, network, train, evaluate)


@pytest.fixture(params=_SMALL)
def case(request):
    return _case(request.param)


@pytest.mark.parametrize(
    ("make", "shared", "total"),
    [
        (functools.partial(DeepLab, (13, 1, 3)), 23_508_032, 71_888_721),
        (functools.partial(DeepLab, (7, 1)), 23_508_032, 55_760_968),
        (functools.partial(CrossStitch, (13, 1, 3)), 3 * 23_508_032 + 27, 118_904_812),
        (functools.partial(MTAN, (13, 1, 3)), 31_439_424, 92_347_921),
        (functools.partial(SegNet, (13, 1, 3)), 24_943_296, 25_055_185),
        (functools.partial(SegNet, (13,)), 24_943_296, 24_981_069),  # stated by MTAN's authors
        (functools.partial(SegNetMTAN, (13, 1, 3)), 44_117_184, 44_229_073),
        (functools.partial(OfficeNetwork, 3, 31), 11_440_192, 11_487_901),
        (functools.partial(OfficeNetwork, 4, 65), 11_440_192, 11_573_572),
    ],
)
def test_parameter_counts_of_the_benchmarks(make, shared, total):
    params = shapes(make).params
    assert count(params["encoder"]) == shared
    assert count(params) == total


def test_outputs_have_the_size_of_the_images(case):
    outputs, _ = case.evaluate(*case.network[1:])
    expected = [(3, 5)] * 2 if case.name == "office" else [(3, 32, 64, n) for n in _OUTPUTS]
    assert [output.shape for output in outputs] == expected
    chex.assert_tree_all_finite(outputs)


def test_outputs_differ_between_images(case):
    outputs, _ = case.evaluate(*case.network[1:])
    for output in outputs:
        assert np.abs(output[0] - output[1]).max() > 1e-3 * np.abs(output).max()


def test_evaluation_changes_no_statistics(case):
    _, batch_stats = case.evaluate(*case.network[1:])
    chex.assert_trees_all_equal(batch_stats, case.network.batch_stats)


def test_a_head_is_its_own_tasks_and_the_encoder_everyones(case):
    """Changed parameters show wherever they are used, and nowhere else."""
    _, params, batch_stats = case.network
    before, _ = case.evaluate(params, batch_stats)
    for task in (0, 1):
        encoder, heads = split_tasks(params, 2)
        heads = list(heads)
        heads[task] = jax.tree.map(lambda x: 1.5 * x + 0.5, heads[task])
        outputs, _ = case.evaluate(join_tasks((encoder, heads)), batch_stats)
        assert (outputs[task] != before[task]).all()
        chex.assert_trees_all_equal(outputs[1 - task], before[1 - task])
    encoder, heads = split_tasks(params, 2)
    for path, leaf in flatten_dict(encoder).items():
        if "attention" in path:  # of one task, but shared as in the benchmark
            continue
        found = set()
        for factor in (2, -2):  # a ReLU may hide one of them
            changed = jax.tree.map(
                lambda x, f=factor, at=leaf: f * x + f if x is at else x, encoder
            )
            outputs, _ = case.evaluate(join_tasks((changed, heads)), batch_stats)
            found |= {task for task in (0, 1) if np.any(outputs[task] != before[task])}
        own = case.name == "cross_stitch" and path[0] == "branches" and path[2] == "layer4"
        # Nothing is stitched after the last layer.
        assert found == ({int(path[1])} if own else {0, 1}), path


def test_statistics_move_once_a_forward(case):
    """Normalisation in training mode reads no statistics, so large ones show every step."""
    before = jax.tree.map(lambda x: np.full_like(x, 1e6), case.network.batch_stats)
    _, after = case.train(case.network.params, before, jax.random.key(0))
    for path, leaf in flatten_dict(after).items():
        often = any(path[: len(at)] == at for at in _ONCE_PER_TASK.get(case.name, []))
        times = len(_OUTPUTS) if often else 1
        np.testing.assert_allclose(leaf, 1e6 * 0.9**times, rtol=1e-3, err_msg=str(path))


def test_dropout_is_on_in_training_alone(case):
    _, params, batch_stats = case.network
    first, _ = case.train(params, batch_stats, jax.random.key(0))
    second, _ = case.train(params, batch_stats, jax.random.key(1))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b) == (case.name not in _DROPOUT)
    if case.name in _DROPOUT:
        with pytest.raises(ValueError, match="rng"):
            case.network.apply(params, batch_stats, np.zeros((1, 32, 32, 3)), train=True)


@pytest.mark.parametrize("name", ["deeplab", "segnet", "cross_stitch", "office"])
def test_the_parts_in_turn_are_the_whole(name):
    """Encoder and heads, each in functional form, as `encoder_value_and_task_grads` runs them."""
    case = _case(name)
    module = nnx.eval_shape(lambda: _SMALL[name](rngs=nnx.Rngs(0)))
    encode = functional(module.encoder).apply
    heads = [functional(head).apply for head in module.heads]
    params, stats = (split_tasks(tree, 2) for tree in case.network[1:])

    @jax.jit
    def run(params, stats):
        representation, _ = encode(params[0], stats[0], _images())
        each = [representation] * 2
        if name == "cross_stitch":
            each = representation
        size = () if name == "office" else ((32, 64),)
        return [
            head(params[1][task], stats[1][task], each[task], *size)[0]
            for task, head in enumerate(heads)
        ]

    expected, _ = case.evaluate(*case.network[1:])
    chex.assert_trees_all_close(run(params, stats), expected, rtol=1e-4, atol=1e-4)


def test_a_row_of_the_stitches_is_what_one_task_takes():
    """Both tasks take from the first encoder alone: the second one's stem is without effect."""
    case = _case("cross_stitch")
    _, params, batch_stats = case.network
    encoder = params["encoder"] | {"stitches": np.float32([[[1, 0], [1, 0]]] * 3)}
    before, _ = case.evaluate(params | {"encoder": encoder}, batch_stats)
    for branch in ("0", "1"):
        stem = encoder["branches"][branch]["conv1"]["kernel"]
        changed = encoder["branches"][branch] | {"conv1": {"kernel": 2 * stem + 1}}
        branches = encoder["branches"] | {branch: changed}
        other = params | {"encoder": encoder | {"branches": branches}}
        after, _ = case.evaluate(other, batch_stats)
        same = [np.array_equal(a, b) for a, b in zip(after, before, strict=True)]
        assert same == [branch == "1"] * 2


def test_stitches_begin_at_one_and_rates_are_the_benchmarks():
    def make():
        return CrossStitch((1, 1, 1), _RESNET, rngs=nnx.Rngs(0))

    # Inside jit, where all other initial values are dropped.
    stitches = jax.jit(lambda: make().encoder.stitches[...])()
    np.testing.assert_array_equal(stitches, np.ones((3, 3, 3)))
    network = nnx.eval_shape(make)
    rates = [branch.conv.kernel_dilation for branch in network.heads[0].pyramid.atrous]
    assert rates == [(12, 12), (24, 24), (36, 36)]


def test_labels_go_with_the_pair_of_parameters():
    params = split_tasks(
        {
            "encoder": {"a": np.ones(3, np.float32)},
            "heads": {"0": {}, "1": {"b": np.ones(3, np.float32)}},
        },
        2,
    )
    tx = dbmtl.db_mtl(2, beta=0.9, labels=labels(2))
    state = tx.init(params)
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), params[0]), params[1]
    updates, _ = tx.update(stacked, state, params, losses=jnp.ones(2))
    chex.assert_trees_all_equal_shapes(updates, params)


def test_trees_of_tasks_split_and_join():
    tree = {"encoder": {"a": 1}, "heads": {"0": {"b": 2}, "1": {"b": 3}}}
    assert split_tasks(tree, 2) == ({"a": 1}, [{"b": 2}, {"b": 3}])
    assert join_tasks(split_tasks(tree, 2)) == tree
    assert split_tasks({"encoder": {"a": 1}}, 2) == ({"a": 1}, [{}, {}])
    for wrong, tasks in [(tree, 1), (tree, 3), (tree | {"more": {}}, 2)]:
        with pytest.raises(ValueError, match="tree: expected 'encoder' and"):
            split_tasks(wrong, tasks)


@pytest.mark.parametrize("make", [DeepLab, CrossStitch, MTAN, SegNet, SegNetMTAN])
def test_numbers_of_outputs_are_checked(make):
    for num_outputs in ((), (3, 0)):
        with pytest.raises(ValueError, match="num_outputs: expected one or more positive"):
            shapes(functools.partial(make, num_outputs))


def test_other_bad_options_are_named():
    with pytest.raises(ValueError, match="num_tasks"):
        shapes(functools.partial(OfficeNetwork, 0, 5))
    with pytest.raises(ValueError, match=r"blocks: expected at least two in a layer"):
        shapes(functools.partial(MTAN, (1,), Sizes((2, 2, 1, 2))))
    with pytest.raises(ValueError, match="widths: expected 5 integers"):
        shapes(functools.partial(SegNet, (1,), (2, 2)))


@pytest.mark.parametrize(("name", "multiple"), [("segnet", 32), ("segnet_mtan", 32), ("mtan", 8)])
def test_sides_that_do_not_halve_are_refused(name, multiple):
    apply, params, batch_stats = shapes(_SMALL[name])
    images = jax.ShapeDtypeStruct((2, 32, 36, 3), jnp.float32)
    with pytest.raises(ValueError, match=f"H and W multiples of {multiple}, found shape"):
        jax.eval_shape(apply, params, batch_stats, images)


def test_one_task_alone_and_uneven_sides():
    """STL networks are those of one task; only the networks with pooling mind the sides."""
    for make in (DeepLab, CrossStitch):
        apply, params, batch_stats = shapes(functools.partial(make, (7,), _RESNET))
        images = jax.ShapeDtypeStruct((2, 37, 50, 3), jnp.float32)
        outputs, _ = jax.eval_shape(apply, params, batch_stats, images)
        assert [output.shape for output in outputs] == [(2, 37, 50, 7)]


def test_pooling_remembers_the_first_maximum():
    x = jnp.asarray([[1.0, 5, 2, 2], [3, 4, 2, 2], [-1, -2, 0, 7], [-3, -4, 8, 0]])[None, ..., None]
    pooled, places = pool_with_places(x)
    np.testing.assert_array_equal(pooled[0, :, :, 0], [[5, 2], [-1, 8]])
    back = unpool(pooled, places)[0, :, :, 0]
    np.testing.assert_array_equal(back, [[0, 5, 2, 0], [0, 0, 0, 0], [-1, 0, 0, 0], [0, 0, 8, 0]])
    gradient = jax.grad(lambda x: (pool_with_places(x)[0] ** 2).sum() / 2)(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], back)
