"""The four image sets, from the rendered sample to finished runs."""

import dataclasses
import functools
import io
import json
import math
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict
from rich.console import Console

pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")

from benchmarks import __main__ as command_line
from benchmarks import compare, examples_file
from benchmarks.config import Compare, MakeSample, Prepare
from benchmarks.data import commands, specs
from benchmarks.errors import UserError
from benchmarks.methods import PAPER
from benchmarks.networks import deeplab, office
from benchmarks.networks.batch_norm import BatchNorm
from benchmarks.networks.layers import KAIMING_FAN_OUT, conv
from benchmarks.problems.datasets import DATASETS
from benchmarks.problems.dense import problem as dense
from benchmarks.problems.dense.settings import DenseConfig
from benchmarks.problems.office.problem import OfficeProblem
from benchmarks.problems.office.settings import OfficeConfig
from benchmarks.run_log import read_run
from benchmarks.settings import TrainConfig
from benchmarks.training import runs
from benchmarks.training.programs import Programs

FAST = {"xla_backend_optimization_level": 0}  # to compile, not to run
KEY = jax.random.key(3)
NETWORKS = ("deeplab", "segnet", "segnet_mtan", "mtan", "cross_stitch")
METHODS = {
    # The program of EW is that of the kind of problem, dense or Office: once each is enough.
    "nyuv2": ("stl", "db_mtl"),
    "cityscapes": ("stl", "ew", "db_mtl"),
    "office31": ("stl", "ew", "db_mtl"),
    "officehome": ("stl", "db_mtl"),
}
BATCH = 2


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> pathlib.Path:
    """All four sets, of the smallest images that every network takes."""
    root = tmp_path_factory.mktemp("vision")
    console = Console(file=io.StringIO(), width=500)
    for name in specs.NAMES:
        num_train, num_test = (3, 2)
        if name in specs.OFFICE:
            num_train, num_test = specs.OFFICE[name].num_classes - 2, 2
        side = 32 if name in specs.DENSE else 16
        commands.run(
            MakeSample(name, root / name, num_train, num_test, height=side, width=side), console
        )
        commands.run(Prepare(name, root / name, root / "prepared"), console)
    return root / "prepared"


def data_config(name: str, data_dir: pathlib.Path, network: str = "deeplab"):
    if name in specs.OFFICE:
        return OfficeConfig(data_dir=data_dir, width=2, blocks=(1, 1, 1, 1))
    blocks = 2 if network == "mtan" else 1
    return DenseConfig(
        data_dir=data_dir, network=network, validation_size=1, width=2, blocks=(blocks,) * 4
    )


def comparison(name: str, data_dir: pathlib.Path, out: pathlib.Path) -> Compare:
    train = TrainConfig(
        epochs=1,
        # One step: as many as the smallest training set has.
        batch_size=BATCH
        if name in specs.DENSE
        else math.floor(0.6 * specs.OFFICE[name].num_classes),
        learning_rate=1e-3,
        weight_decay=1e-5,
        schedule="constant",
        log_every=1,
    )
    data = data_config(name, data_dir)
    return Compare(dataset=name, data=data, train=train, methods=METHODS[name], out=out)


def run(config: Compare, monkeypatch) -> str:
    monkeypatch.setattr(runs, "Programs", functools.partial(Programs, compiler_options=FAST))
    output = io.StringIO()
    compare.run_missing(config, Console(file=output, width=500))
    return output.getvalue()


class SmallEncoder(nnx.Module):
    """One layer in the place of a ResNet, whose programs take several times as long to compile."""

    def __init__(self, block, blocks, *, width, output_stride=32, rngs):
        self.conv = conv(3, width, 3, stride=4, init=KAIMING_FAN_OUT, rngs=rngs)
        self.norm = BatchNorm(width)
        self.out_features = width

    def __call__(self, images):
        return nnx.relu(self.norm(self.conv(images)))


@pytest.fixture
def small_encoder(monkeypatch):
    """For whole runs: below, the ResNets have their task gradients, and slow tests train them."""
    for module in (deeplab, office):
        monkeypatch.setattr(module, "ResNet", SmallEncoder)
    monkeypatch.setattr(deeplab, "RATES", (2,))


@pytest.mark.usefixtures("small_encoder")
@pytest.mark.parametrize(
    "name",
    [
        # The other two have the same networks.
        pytest.param(n, marks=() if n in ("nyuv2", "officehome") else pytest.mark.slow)
        for n in specs.NAMES
    ],
)
def test_from_sample_to_finished_runs(name, prepared, tmp_path, monkeypatch):
    config = comparison(name, prepared, tmp_path / "out")
    printed = run(config, monkeypatch)
    assert "sample data, not the real data set" in printed
    assert "ResNet from scratch" in printed
    tasks = {"nyuv2": 3, "cityscapes": 2, "office31": 3, "officehome": 4}[name]
    for method in METHODS[name]:
        records = read_run(config.out / f"{method}-seed0.jsonl")
        assert [record["kind"] for record in records] == ["start", "step", "epoch", "result"]
        start, step, epoch, result = records
        assert start["dataset"] == name
        assert start["network"] == config.data.network
        assert start["sample_data"] is True
        assert len(start["tasks"]) == len(step["losses"]) == tasks
        lengths = [len(own) for own in start["metrics"]]
        assert [len(own) for own in start["higher_is_better"]] == lengths
        for split in ("validation", "test"):
            assert [len(own) for own in result[split]] == lengths
        assert np.isfinite(step["losses"]).all()
        assert len(epoch["learning_rate"]) == (tasks if method == "stl" else 1)
        seen = examples_file.read(examples_file.path(config.out, method, 0))
        assert list(seen.targets) == list(seen.predictions) == start["tasks"]
        for task, target in seen.targets.items():
            assert seen.predictions[task].shape == target.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", specs.NAMES)
def test_every_method_runs_on_every_set(name, prepared, tmp_path, monkeypatch):
    config = comparison(name, prepared, tmp_path / "out")
    config = dataclasses.replace(config, methods=("all", "log+pcgrad"))
    run(config, monkeypatch)
    ends = {path.name: read_run(path)[-1] for path in sorted(config.out.glob("*.jsonl"))}
    assert len(ends) == 1 + len(PAPER)
    assert {name for name, end in ends.items() if end["kind"] != "result"} == set()


@pytest.fixture(scope="module")
def networks(prepared):
    """Network -> Cityscapes with it (two tasks), a batch, and variables; each made once."""

    @functools.cache
    def make(name: str):
        problem = dense.DenseProblem("cityscapes", data_config("cityscapes", prepared, name), BATCH)
        static, arrays = problem.batches("train")[0]
        batch = problem.load((), static, problem.read(static, arrays))
        return problem, batch, problem.multi_task.init(KEY)

    return make


@pytest.mark.parametrize(
    "name",
    # Those that are not shared by all heads take longer than the others together.
    [
        pytest.param(n, marks=pytest.mark.slow if n.endswith(("mtan", "stitch")) else ())
        for n in NETWORKS
    ],
)
def test_task_grads_are_a_loop_of_grad_and_statistics_move_once(name, networks):
    problem, batch, (params, stats) = networks(name)
    model = problem.multi_task

    @functools.partial(jax.jit, compiler_options=FAST)
    def both(params, stats):
        """The engine's answer, and the loop's on the function that equal weighting descends."""
        rows, state = [], None
        for task in range(2):

            def loss(p, task=task):
                losses, state = model.losses(p, stats, batch, KEY)
                return losses[task], (losses, state)

            (_, (losses, state)), grad = jax.value_and_grad(loss, has_aux=True)(params)
            rows.append(grad)
        return model.task_grads(params, stats, batch, KEY), ((losses, state), rows)

    # In training mode statistics are not read, so that large ones show every move.
    large = jax.tree.map(lambda x: jnp.full_like(x, 1e6), stats)
    ((losses, after), grads), ((expected, expected_after), rows) = both(params, large)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert np.all(losses > 0)
    chex.assert_trees_all_close(after, expected_after, rtol=1e-5)
    for path, leaf in flatten_dict(after[0], sep="/").items():
        # The blocks between layers run once for each task.
        per_task = name == "mtan" and path.startswith("between")
        per_task |= name == "segnet_mtan" and path.startswith(("down", "up"))
        np.testing.assert_allclose(leaf, 1e6 * 0.9 ** (2 if per_task else 1), rtol=1e-3)
    for task, row in enumerate(rows):
        scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(row))
        own = jax.tree.map(lambda g, task=task: g[task], grads[0])
        chex.assert_trees_all_close(own, row[0], rtol=1e-3, atol=1e-4 * scale)
        chex.assert_trees_all_close(grads[1][task], row[1][task], rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_trains_a_step(name, networks):
    """One step of DB-MTL changes all parameters but what no task's loss depends on."""
    problem, _, (params, stats) = networks(name)
    config = Compare(
        dataset="cityscapes", data=DenseConfig(), train=TrainConfig(schedule="constant")
    )
    programs = Programs(
        problem,
        problem.multi_task,
        runs.make_method("db_mtl", problem, config),
        config.train,
        compiler_options=FAST,
    )
    state = programs.init_state((params, stats), 0)
    static, arrays = problem.batches("train")[0]
    batch = static, problem.read(static, arrays)
    state, losses = programs.train_step(state, batch, jnp.full(1, 1e-3))
    assert np.isfinite(losses).all()
    moved = [
        float(jnp.abs(new - old).max()) > 0
        for new, old in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True)
    ]
    assert np.mean(moved) > 0.9
    chex.assert_tree_all_finite(state.variables)


def test_office_normalises_each_domain_by_itself(prepared):
    """The task gradients are a loop of `jax.grad`; statistics end as after T forwards in turn."""
    config = data_config("office31", prepared)
    problem = OfficeProblem("office31", config, 4)
    static, arrays = problem.batches("train")[0]
    batch = problem.read(static, arrays)
    # The domains as far apart as can be.
    batch["image"] = batch["image"] * np.array([1, 3, 9], np.float32).reshape(3, 1, 1, 1, 1)
    model = problem.multi_task
    params, stats = model.init(KEY)

    @functools.partial(jax.jit, compiler_options=FAST)
    def both(params, stats):
        answer = model.task_grads(params, stats, batch, KEY)
        return (
            answer,
            [
                jax.grad(lambda p, t=t: model.losses(p, stats, batch, KEY)[0][t])(params)
                for t in range(3)
            ],
            model.losses(params, stats, batch, KEY),
        )

    ((losses, after), grads), rows, (expected, expected_after) = both(params, stats)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    chex.assert_trees_all_close(after, expected_after, rtol=1e-4, atol=1e-6)
    for task, row in enumerate(rows):
        own = jax.tree.map(lambda g, task=task: g[task], grads[0])
        chex.assert_trees_all_close(own, row[0], rtol=1e-3, atol=1e-5)
        chex.assert_trees_all_close(grads[1][task], row[1][task], rtol=1e-3, atol=1e-6)
    # The first layer's mean is linear in the images: the last domain weighs most.
    kernel = params[0]["resnet"]["conv1"]["kernel"]
    means = [
        jax.lax.conv_general_dilated(
            images, kernel, (2, 2), ((3, 3), (3, 3)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        ).mean((0, 1, 2))
        for images in batch["image"]
    ]
    in_turn = sum(0.1 * 0.9 ** (2 - t) * mean for t, mean in enumerate(means))
    np.testing.assert_allclose(after[0]["resnet"]["bn1"]["mean"], in_turn, rtol=1e-3, atol=1e-5)


def test_single_task_networks_of_small_domains_stop_after_one_pass(prepared):
    problem = OfficeProblem("office31", data_config("office31", prepared), 4)
    first, second, third = problem._source.splits["train"]
    problem._source.splits["train"] = (first[:13], second[:4], third[:8])
    *_, active = zip(*(arrays for _, arrays in problem.batches("train")), strict=True)
    rows = [arrays[0] for _, arrays in problem.batches("train")]
    np.testing.assert_array_equal(active, [[1, 1, 1], [1, 0, 1], [1, 0, 0]])
    for t in range(3):
        seen = [i for row, on in zip(rows, active, strict=True) if on[t] for i in row[t]]
        assert len(seen) == len(set(seen)), "one pass: no image twice"
    static, arrays = problem.batches("train")[1]
    batch = problem.load((), static, problem.read(static, arrays))
    np.testing.assert_array_equal(problem.single_task.active(batch), [True, False, True])
    assert problem.multi_task.active is None
    assert all(arrays[2].all() for _, arrays in problem.batches("validation"))


def test_examples_of_office_are_spread_out(prepared):
    """A batch of the test set is sorted by class, and padded at its end."""
    problem = OfficeProblem("office31", data_config("office31", prepared), 8)
    labels = np.tile([0, 0, 1, 1, 2, 3, -1, -1], (3, 1))
    labels[1, 2:] = -1
    logits = [np.eye(31)[np.maximum(own, 0)] for own in labels]
    batch = {"image": np.zeros((3, 8, 4, 4, 3)), "label": labels}
    examples = problem.examples(logits, batch)
    assert [list(own) for own in examples.targets.values()] == [[0, 0, 1, 3], [0, 0], [0, 0, 1, 3]]
    chex.assert_trees_all_equal(examples.predictions, examples.targets)


@pytest.mark.usefixtures("small_encoder")
def test_without_validation_the_last_epochs_count(prepared, tmp_path, monkeypatch):
    config = comparison("cityscapes", prepared, tmp_path / "out")
    config = dataclasses.replace(
        config,
        methods=("stl", "ew"),
        data=dataclasses.replace(config.data, validation_size=0),
        train=dataclasses.replace(config.train, epochs=2, schedule="halve"),
    )
    run(config, monkeypatch)
    for method, models in (("stl", 2), ("ew", 1)):
        records = read_run(config.out / f"{method}-seed0.jsonl")
        assert records[-1]["best_epoch"] == [1] * models
        assert records[-1]["tested_epochs"] == 2
        assert records[-1]["validation"] == [[None, None], [None, None]]
        rates = [r["learning_rate"] for r in records if r["kind"] == "epoch"]
        np.testing.assert_allclose(rates, np.full((2, models), [[1e-3], [5e-4]]), rtol=1e-6)
    with pytest.raises(UserError, match="nothing is held out"):
        run(
            dataclasses.replace(
                config,
                out=tmp_path / "plateau",
                train=dataclasses.replace(config.train, schedule="plateau"),
            ),
            monkeypatch,
        )


def test_augmentation_changes_training_batches_alone(prepared):
    config = dataclasses.replace(data_config("nyuv2", prepared), augment=True)
    problem = dense.DenseProblem("nyuv2", config, BATCH)
    loaded = []
    for epoch in (0, 0, 1):
        static, arrays = problem.batches("train", epoch=epoch)[0]
        read = problem.read(static, (np.array([0, 1]), *arrays[1:]))
        loaded.append(problem.load((), static, read)["image"])
    np.testing.assert_array_equal(loaded[0], loaded[1])
    assert np.any(loaded[0] != loaded[2])
    static, arrays = problem.batches("test")[0]
    read = problem.read(static, arrays)
    chex.assert_trees_all_equal(problem.load((), static, read), read[0])


def test_presets_of_the_paper():
    def paper(*command):
        return command_line.parse(["compare", *command, "--preset", "paper"])

    nyuv2 = paper("nyuv2")
    train = nyuv2.train
    assert (train.epochs, train.batch_size, train.learning_rate) == (200, 8, 1e-4)
    assert (train.weight_decay, train.schedule) == (1e-5, "halve")
    assert (nyuv2.data.network, nyuv2.data.augment, nyuv2.data.width) == ("deeplab", False, 64)
    table6 = paper("nyuv2", "--network", "segnet_mtan")
    assert (table6.train.batch_size, table6.data.augment) == (2, True)
    assert table6.data.network == "segnet_mtan"
    assert paper("cityscapes").train.batch_size == 64
    office = paper("officehome").train
    assert (office.epochs, office.batch_size, office.schedule) == (100, 64, "constant")
    quick = command_line.parse(["compare", "nyuv2", "--network=mtan", "--data-dir", "x"])
    assert quick.data.blocks == (2, 2, 2, 2)
    assert quick.data.data_dir == pathlib.Path("x")
    assert quick.out == pathlib.Path("runs/nyuv2-mtan")
    for dataset in DATASETS.values():
        json.dumps(Compare.preset_of(dataset, "paper").settings())


def test_what_a_user_can_mend_is_one_line(prepared, tmp_path, monkeypatch):
    def refused(name, match, **data):
        config = comparison(name, prepared, tmp_path / str(len(list(tmp_path.iterdir()))))
        changed = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
        with pytest.raises(UserError, match=match) as error:
            run(changed, monkeypatch)
        assert "\n" not in str(error.value)

    refused("nyuv2", "no prepared nyuv2 in", data_dir=tmp_path)
    refused("office31", "no prepared office31 in", data_dir=tmp_path)
    refused("nyuv2", "cannot read .*No such file", weights=tmp_path / "none.npz")
    refused("nyuv2", "has no ResNet", network="segnet", weights=tmp_path / "none.npz")
    monkeypatch.setitem(dense._SIDES, "mtan", 20)
    refused("nyuv2", "multiples of 20, and these are 32×32", network="mtan")
