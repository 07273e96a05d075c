import pytest

import dbmtl_jax as dbmtl


def test_methods_are_named_after_their_factories_and_read_only():
    assert {"ew", "db_mtl"} <= set(dbmtl.METHODS)
    for name, factory in dbmtl.METHODS.items():
        assert factory is getattr(dbmtl, name)
        assert name in dbmtl.__all__
    with pytest.raises(TypeError):
        dbmtl.METHODS["mine"] = dbmtl.ew
