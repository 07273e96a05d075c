import inspect

import numpy as np
import pytest

import dbmtl_jax as dbmtl
from tests.helpers.processes import printed_by


def test_methods_are_named_after_their_factories_and_read_only():
    assert {"ew", "db_mtl"} <= set(dbmtl.METHODS)
    for name, factory in dbmtl.METHODS.items():
        assert factory is getattr(dbmtl, name)
        assert name in dbmtl.__all__
    with pytest.raises(TypeError):
        dbmtl.METHODS["mine"] = dbmtl.ew


NAMED = [*dbmtl.METHODS, "sum_tasks", "task_ema", "balance_magnitudes"]


@pytest.mark.parametrize("name", [name for name in NAMED if name != "ew"])
def test_a_transformation_knows_its_name(name):
    """For what errors say."""
    assert getattr(dbmtl, name)(2).name == name


def test_making_a_method_starts_no_backend():
    """So that a program may still say how many devices it has."""
    program = """
import jax, dbmtl_jax as dbmtl
options = {"constant": {"weights": [1.0, 2.0]}, "pcd": {"tau": [0.1]}}
for name, method in dbmtl.METHODS.items():
    method(2, **options.get(name, {}))
dbmtl.db_mtl(2, preference=[1.0, 2.0])
dbmtl.stch(2, reference=[0.0, 0.1])
jax.config.update("jax_num_cpu_devices", 2)
print(jax.device_count())
"""
    assert printed_by("-c", program).strip() == "2"


def test_every_method_has_properties_and_the_papers_families():
    assert list(dbmtl.PROPERTIES) == list(dbmtl.METHODS)
    for name, properties in dbmtl.PROPERTIES.items():
        package = dbmtl.METHODS[name].__module__.split(".")[1]
        family = "gradient" if properties.family == "baseline" else properties.family
        assert package == f"{family}_balancing"


def test_a_former_name_is_understood_and_not_listed():
    assert dbmtl.METHODS["scale_by_mtadam"] is dbmtl.mtadam is dbmtl.scale_by_mtadam
    assert "scale_by_mtadam" not in list(dbmtl.METHODS)


@pytest.mark.parametrize(("name", "hint"), [("DB-MTL", "db_mtl"), ("PCGrad", "pcgrad")])
def test_an_unknown_name_is_answered_by_the_nearest(name, hint):
    with pytest.raises(KeyError, match=f"did you mean '{hint}'.*expected one of"):
        dbmtl.METHODS[name]


def test_a_name_like_no_other_is_answered_by_the_list():
    with pytest.raises(KeyError, match=r"no method 'qqq' \(expected one of ew, gls"):
        dbmtl.METHODS["qqq"]
    assert "qqq" not in dbmtl.METHODS


# method: its options as in its source, or as most papers run it.
DEFAULTS = {
    "aligned_mtl": {"scale": "min", "preference": None},
    "balance_magnitudes": {"scale": "max", "eps": 1e-8, "preference": None},
    "cagrad": {"c": 0.5, "rescale": "paper", "preference": None},
    "db_mtl": {
        "scale": "max",
        "eps": 1e-8,
        "log_losses": True,
        "debias": False,
        "ema_dtype": None,
        "average": "gradients",
        "preference": None,
    },
    "con_fig": {"preference": None},
    "constant": {"weights": None},
    "dual_proj": {"preference": None, "ridge": 0.0},
    "dwa": {"temperature": 2.0, "steps_per_epoch": 1},
    "excess_mtl": {"eta": 1.0, "warmup_steps": 0, "scale_own": True},
    "fair_grad": {"alpha": 1.0, "max_norm": None, "preference": None, "scale_own": True},
    "famo": {"gamma": 1e-3, "weight_optimizer": None},
    "grad_drop": {"leak": 0.0, "seed": 0},
    "grad_norm": {
        "alpha": 1.5,
        "steps_per_epoch": 1,
        "weight_optimizer": None,
        "scale_own": True,
    },
    "grad_vac": {"beta": 0.5, "per_leaf": False, "seed": 0},
    "igbv2": {
        "steps_per_epoch": 1,
        "learning_rate": None,
        "warmup_epochs": 5,
        "base_epoch": 1,
        "train_from_epoch": 3,
        "train_every": 50,
        "buffer_size": None,
        "batch_size": None,
        "hidden_sizes": (128, 128),
        "agent_learning_rate": 3e-4,
        "discount": 0.99,
        "polyak": 0.005,
        "initial_alpha": 0.2,
        "eps": 1e-8,
        "seed": 0,
    },
    "imtl": {"weight_optimizer": None},
    "imtl_l": {"weight_optimizer": None},
    "meta_balance": {"relax": 0.7, "beta": 0.9, "target": 0},
    "mgda": {"normalization": "none", "scale_own": True},
    "moco": {
        "beta": 0.5,
        "beta_power": 0.5,
        "gamma": 0.1,
        "gamma_power": 0.5,
        "rho": 0.0,
        "normalize": False,
        "projection": "simplex",
    },
    "modo": {"gamma": 0.1, "rho": 0.1},
    "mtadam": {"b1": 0.9, "b2": 0.999, "b3": 0.9, "eps": 1e-8},
    "nash_mtl": {"update_every": 1, "max_norm": 1.0, "scale_own": True, "preference": None},
    "pcd": {"tau": 0.02, "decay": 0.999},
    "pcgrad": {"seed": 0},
    "rlw": {"seed": 0},
    "scale_by_log_loss": {"eps": 1e-8},
    "sdmgrad": {"lambda_": 0.3, "preference": None},
    "stch": {
        "mu": 1.0,
        "preference": None,
        "reference": None,
        "log_nadir": False,
        "steps_per_epoch": 1,
        "warmup_epochs": 4,
    },
    "task_ema": {"beta": 0.9, "debias": False, "ema_dtype": None},
    "upgrad": {"preference": None, "ridge": 0.0},
    "uw": {"initial": -0.5, "weight_optimizer": None},
}


@pytest.mark.parametrize("name", [*dbmtl.METHODS, *sorted(set(DEFAULTS) - set(dbmtl.METHODS))])
def test_defaults(name):
    found = {
        parameter.name: parameter.default
        for parameter in inspect.signature(getattr(dbmtl, name)).parameters.values()
        if parameter.name not in ("num_tasks", "labels", "measured")
    }
    if name == "db_mtl":  # 0.9/√k
        schedule = found.pop("beta")
        np.testing.assert_allclose([schedule(k) for k in (1, 4)], [0.9, 0.45])
    assert found == DEFAULTS.get(name, {})


# (method, option): values at the ends of the range, and values beyond them.
RANGES = {
    ("aligned_mtl", "scale"): (("min", "median", "rmse"), ("max",)),
    ("balance_magnitudes", "eps"): ((0.0,), (-1e-9,)),
    ("balance_magnitudes", "scale"): (("max", "min", "mean", "median", 0.0), (-1.0, "big", None)),
    ("cagrad", "c"): ((0.0,), (-0.1,)),
    ("cagrad", "rescale"): (("none", "paper", "sum", 0, 1, 2), (3, "mean")),
    ("dual_proj", "ridge"): ((0.0,), (-1e-9,)),
    ("dwa", "steps_per_epoch"): ((1,), (0,)),
    ("dwa", "temperature"): ((1e-6,), (0.0,)),
    ("excess_mtl", "eta"): ((0.0,), (-0.1,)),
    ("excess_mtl", "warmup_steps"): ((0,), (-1, 0.5)),
    ("fair_grad", "alpha"): ((1e-3,), (0.0,)),
    ("fair_grad", "max_norm"): ((0.0, None), (-0.1,)),
    ("famo", "gamma"): ((0.0,), (-0.1,)),
    ("grad_drop", "leak"): ((0.0, 1.0), (-0.1, 1.1)),
    ("grad_norm", "alpha"): ((0.0,), (-0.1,)),
    ("grad_norm", "steps_per_epoch"): ((1,), (0,)),
    ("grad_vac", "beta"): ((0.0, 1.0), (-0.1, 1.1)),
    ("inverse_power_schedule", "beta"): ((0.0,), (1.0, -0.1)),
    ("inverse_power_schedule", "sigma"): ((0.0,), (-0.1,)),
    ("meta_balance", "beta"): ((0.0,), (1.0, -0.1)),
    ("meta_balance", "relax"): ((0.0, 1.0), (-0.1, 1.1)),
    ("meta_balance", "target"): ((0, 1), (2, -1)),
    ("mgda", "normalization"): (("none", "l2", "loss", "loss+"), ("l1",)),
    ("moco", "beta"): ((0.0, 1.0), (-0.1, 1.1)),
    ("moco", "beta_power"): ((0.0,), (-0.1,)),
    ("moco", "gamma"): ((0.0,), (-0.1,)),
    ("moco", "gamma_power"): ((0.0,), (-0.1,)),
    ("moco", "projection"): (("simplex", "softmax"), ("box",)),
    ("moco", "rho"): ((0.0,), (-0.1,)),
    ("modo", "gamma"): ((0.0,), (-0.1,)),
    ("modo", "rho"): ((0.0,), (-0.1,)),
    ("mtadam", "b1"): ((0.0,), (1.0, -0.1)),
    ("mtadam", "b2"): ((0.0,), (1.0, -0.1)),
    ("mtadam", "b3"): ((0.0,), (1.0, -0.1)),
    ("mtadam", "eps"): ((0.0,), (-1e-9,)),
    ("nash_mtl", "max_norm"): ((0.0, None, float("inf")), (-0.1, float("nan"))),
    ("nash_mtl", "update_every"): ((1,), (0,)),
    ("pcd", "decay"): ((0.0,), (1.0, -0.1)),
    ("pcd", "tau"): ((0.0, [0.5]), (-0.1, [0.1, 0.1], [float("nan")])),
    ("scale_by_log_loss", "eps"): ((0.0,), (-1e-9,)),
    ("sdmgrad", "lambda_"): ((0.0,), (-0.1,)),
    ("stch", "mu"): ((1e-3,), (0.0,)),
    ("stch", "steps_per_epoch"): ((1,), (0,)),
    ("stch", "warmup_epochs"): ((0,), (-1,)),
    ("task_ema", "beta"): ((0.0,), (1.0, -0.1)),
    ("upgrad", "ridge"): ((0.0,), (-1e-9,)),
}


@pytest.mark.parametrize(("name", "option"), RANGES)
def test_ranges_of_options(name, option):
    accepted, refused = RANGES[name, option]
    factory = getattr(dbmtl, name)
    required = {"beta": 0.5, "sigma": 0.5} if name == "inverse_power_schedule" else {"num_tasks": 2}
    for value in accepted:
        factory(**(required | {option: value}))
    for value in refused:
        with pytest.raises((ValueError, TypeError), match=f"^{option}: expected"):
            factory(**(required | {option: value}))


READS = {
    "gramian": {
        "aligned_mtl", "cagrad", "con_fig", "dual_proj", "fair_grad", "grad_vac", "imtl", "imtl_g",
        "mgda", "moco", "nash_mtl", "pcd", "pcgrad", "sdmgrad", "upgrad",
    },
    "norms": {"db_mtl", "grad_norm"},
    "rows": {"excess_mtl", "grad_drop", "meta_balance", "modo", "mtadam"},
    "sum": {"constant", "dwa", "ew", "famo", "gls", "igbv2", "imtl_l", "rlw", "stch", "uw"},
}  # fmt: skip
"""What is computed of pending gradients in one pass; anything else takes another."""


@pytest.mark.parametrize("name", dbmtl.METHODS)
def test_what_a_method_reads(name):
    assert name in READS[dbmtl.METHODS[name](2).aggregator.reads]
