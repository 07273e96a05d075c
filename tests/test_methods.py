import pytest

import dbmtl_jax as dbmtl


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
