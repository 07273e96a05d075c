"""The examples run and do what they say; tests/test_docs.py runs the code of the pages."""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest

import dbmtl_jax as dbmtl
from tests.helpers.processes import printed_by

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# These return each method's test errors over the variances of the targets.
COMPARISONS = ("equinox_labels", "linen_train_state", "nnx_batch_norm_dropout")


def load(path):
    pytest.importorskip("flax")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_learn_all_tasks(name):
    if name.startswith("equinox"):
        pytest.importorskip("equinox")
    errors = load(ROOT / "examples" / f"{name}.py").main()

    def largest(method):
        found = errors[method]
        return max(found.values() if isinstance(found, dict) else found)

    assert largest("db_mtl") < 0.25, errors
    others = errors.keys() - {"db_mtl"}
    assert others == {"cheap"} or largest("ew") > 1.5 * largest("db_mtl"), errors
    assert "cheap" not in others or largest("cheap") < 0.25, errors


# These have tests of their own.
OTHERS = ("pinn", "language_model", "recommender", "rl_critics", "lbfgs")
OTHERS += ("qm9_in_60_lines", "multi_fashion", "nnx_scenes", "equinox_resume", "burgers")


@pytest.mark.parametrize(
    "path",
    [path for path in EXAMPLES if path.stem not in (*COMPARISONS, *OTHERS)],
    ids=lambda path: path.stem,
)
def test_examples_learn(path):
    module = load(path)
    first, last = module.main(steps=1), module.main(steps=300)
    assert np.all(np.asarray(last) < 0.6 * np.asarray(first)), (first, last)


def test_the_recommender_is_what_its_docstring_says():
    """Equal weighting and UW learn all tasks; DB-MTL clicks and purchases, but hardly ratings."""
    errors = load(ROOT / "examples" / "recommender.py").main()
    assert max(max(errors[name].values()) for name in ("ew", "uw")) < 0.4, errors
    assert max(errors["db_mtl"]["click"], errors["db_mtl"]["purchase"]) < 0.4, errors
    assert errors["db_mtl"]["rating"] > 1.5 * errors["ew"]["rating"], errors


def test_the_critics_learn_small_rewards_with_db_mtl():
    errors = load(ROOT / "examples" / "rl_critics.py").main()
    assert max(errors["db_mtl"]) < 0.05, errors
    assert max(errors["ew"]) > 0.5, errors


def test_the_molecules_of_the_package_are_read():
    pytest.importorskip("pandas")
    module = load(ROOT / "examples" / "qm9_in_60_lines.py")
    if importlib.util.find_spec("qm9pack") is None:
        pytest.skip("qm9pack is not installed")
    atoms, positions, targets = map(np.asarray, module.read())
    assert len(atoms) == len(positions) == len(targets) == 3_635  # as its docstring says
    assert set(atoms.sum(axis=2).ravel()) == {0, 1}
    assert np.all(positions[atoms.sum(axis=2) == 0] == 0)
    assert np.isfinite(targets).all()
    assert 20 < targets[:, 1].mean() < 150  # polarizabilities, in cubic Bohr radii


def test_the_network_for_molecules_learns_made_ones(monkeypatch, capsys):
    module = load(ROOT / "examples" / "qm9_in_60_lines.py")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with jax.numpy_rank_promotion("allow"):  # as for users
        errors = module.main(steps=60)
    assert "made clouds" in capsys.readouterr().out
    assert np.mean(errors["db_mtl"] / errors["counts"]) < 0.9, errors


def test_le_net_learns_made_garments(tmp_path, capsys):
    module = load(ROOT / "examples" / "multi_fashion.py")
    with jax.numpy_rank_promotion("allow"):
        accuracies = module.main(steps=60, folder=tmp_path / "missing")
    assert "made images" in capsys.readouterr().out
    assert min(accuracies["db_mtl"].values()) > 0.5, accuracies


def test_l_bfgs_gets_to_both_tasks_behind_logarithms():
    errors = load(ROOT / "examples" / "lbfgs.py").main()
    assert max(errors["sum of logarithms"]) < 0.9, errors
    assert max(errors["sum of losses"]) > 1, errors


def test_the_language_model_learns_every_mixture():
    """By both methods, most of the way to the entropy, the lowest loss that there is."""
    module = load(ROOT / "examples" / "language_model.py")
    lowest = module.Mixtures(module.TINY).entropies
    for before, after in module.main().values():
        assert np.all(after - lowest < 0.5 * (before - lowest)), (before, after, lowest)


@pytest.mark.slow
def test_the_language_models_batches_in_order_give_the_same_gradients():
    """Each from its own sequences, or from all: the averages of DB-MTL after a step."""
    module = load(ROOT / "examples" / "language_model.py")
    axes = (1, 1), ("data", "fsdp")
    mesh = jax.make_mesh(*axes, axis_types=(jax.sharding.AxisType.Auto,) * 2)
    config = module.TINY._replace(layers=1)
    mixtures = np.repeat(np.arange(module.NUM_TASKS), config.batch // module.NUM_TASKS)
    batch = module.Mixtures(config).draw(np.random.default_rng(0), mixtures)
    averages = []
    for in_order in (False, True):
        run = module.training(config, dbmtl.db_mtl, mesh, in_order=in_order)
        with jax.set_mesh(mesh):
            state, _ = run.step(run.init(jax.random.key(0)), batch)
        averages.append(state[1]["opt_state"][0]["parts"][1]["ema"])
    for all_of_it, own in zip(*map(jax.tree.leaves, averages), strict=True):
        # Sums of bfloat16 products in another order.
        scale = np.max(np.abs(all_of_it))
        np.testing.assert_allclose(own, all_of_it, rtol=0, atol=0.02 * scale)


DIVIDED = """
import json, jax, runpy, tests.conftest, dbmtl_jax as dbmtl
jax.config.update("jax_num_cpu_devices", 4)
example = runpy.run_path("examples/language_model.py")
mesh = jax.make_mesh((2, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
state, before, after = example["train"](dbmtl.db_mtl, 1, example["TINY"], mesh)
average = state[1]["opt_state"][0]["parts"][1]["ema"]
specs = [[list(x.sharding.spec) for x in jax.tree.leaves(tree)] for tree in (state[0], average)]
print(json.dumps([*specs, float(abs(after - before).min())]))
"""


def test_the_language_models_averages_are_divided_as_its_parameters():
    """On 2 x 2 devices, after a step."""
    parameters, averages, moved = json.loads(printed_by("-W", "error", "-c", DIVIDED))
    assert all("fsdp" in spec for spec in parameters), parameters
    assert averages == [[None, *spec] for spec in parameters]
    assert moved > 0


def test_the_pinn_runs():
    """Its figures take minutes: see `test_the_pinn_is_what_its_docstring_says`."""
    results = load(ROOT / "examples" / "pinn.py").main(steps=3, seeds=1)
    assert all(0 < error < 100 for error in results.values())


@pytest.mark.slow
def test_the_pinn_is_what_its_docstring_says():
    results = load(ROOT / "examples" / "pinn.py").main()
    assert results["db_mtl"] > 5 * results["ew"]
    assert results["db_mtl(scale=1.0), cosine"] < 0.2 * results["ew"]


def test_scenes_are_learnt_whatever_the_unit_of_depth_and_with_rare_labels():
    module = load(ROOT / "examples" / "nnx_scenes.py")
    with jax.numpy_rank_promotion("allow"):  # as for users
        errors = module.main(steps=120)
    (pixels, depth, _), (ew_pixels, *_) = errors["db_mtl"], errors["ew"]
    assert pixels < min(2, 0.5 * ew_pixels), errors
    assert depth < 0.75 * errors["constant"][1], errors
    assert np.isfinite([*errors["ew"], *errors["gls"], *errors["db_mtl"]]).all(), errors


def test_a_resumed_walk_is_the_one_that_went_on():
    pytest.importorskip("equinox")
    module = load(ROOT / "examples" / "equinox_resume.py")
    with jax.numpy_rank_promotion("allow"):
        errors, same, params = module.main(steps=150)
    assert len(same) > 40
    assert all(same), same
    fresh = module.Model(jax.random.key(0)).calibration
    np.testing.assert_array_equal(params.calibration, fresh)  # decay does not move what is frozen
    assert errors["db_mtl"]["way"] < 0.3 < errors["ew"]["way"], errors


def test_burgers_equation_is_solved():
    module = load(ROOT / "examples" / "burgers.py")
    errors = module.main(steps=300, names=["db_mtl(scale=1.0)"])["db_mtl(scale=1.0)"]
    assert errors[2] < 0.1, errors
    assert errors[2] < errors[0], errors


@pytest.mark.slow
def test_burgers_equation_is_what_its_docstring_says():
    module = load(ROOT / "examples" / "burgers.py")
    errors = module.main(steps=2000, seeds=5, names=module.METHODS)
    assert min(errors["db_mtl(scale=1.0)"]) < 0.6 * min(errors["ew, residual x 0.3"]), errors
    assert min(errors["db_mtl"]) < 0.6 * min(errors["ew"]), errors
    assert min(errors["sum of logarithms"]) > 0.9, errors
