"""What is on disk: states come back as they were, and damage or a full disk spoils nothing."""

import pathlib
import resource
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.training import checkpoints
from benchmarks.training.checkpoints import Checkpoints
from tests.helpers.processes import printed_by


class Pair(NamedTuple):
    first: object
    second: object


def state(shift: float = 0.0):
    return Pair(
        {"x": jnp.arange(3.0) + shift, "none": (), "key": jax.random.key(3)},
        [np.arange(4, dtype=np.float64) + shift, 7, 0.1 + shift, True, (jnp.float32(2),)],
    )


def saved(folder: pathlib.Path, *states) -> Checkpoints:
    checkpoint = Checkpoints(folder, 0)
    for item in states:
        checkpoint.save(item)
    return checkpoint


def restored(checkpoint: Checkpoints, like=None) -> tuple[list, list[str]]:
    notes: list[str] = []
    return list(checkpoint.restore(like or state(5), notes.append)), notes


def files(folder: pathlib.Path) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_state_comes_back_with_its_kinds_of_leaves(tmp_path):
    checkpoint = saved(tmp_path / "run.checkpoint", state(1), state(2))
    assert sorted(path.name for path in (tmp_path / "run.checkpoint").iterdir()) == [
        "2",
        "version.json",
    ]  # only the newest
    (found,), notes = restored(checkpoint)
    assert notes == []
    expected = state(2)
    chex.assert_trees_all_equal(found, expected)

    def kinds(tree):
        return [(type(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)]

    assert kinds(found) == kinds(expected)
    key = jax.random.normal(found.first["key"]), jax.random.normal(expected.first["key"])
    assert key[0] == key[1]
    checkpoint.discard()
    assert not checkpoint.exist


def test_which_runs_have_begun(tmp_path):
    for method, seeds in (("db_mtl@beta=0.1,sigma=1", (0, 2)), ("log+pcgrad", (10,))):
        checkpoints.path(tmp_path, method, seeds).mkdir()
        assert checkpoints.begun(tmp_path, method) == [seeds]
    assert checkpoints.begun(tmp_path, "pcgrad") == []


@pytest.mark.parametrize(
    "name",
    ["ew-seed0 (1)", "ew-seedfoo", "ew-seed", "ew-seed0+", "ew-seed00", "ew-seed0+0", "ew-seed1+0",
     "ew-seed-1", "ew-seed٣", f"ew-seed{'9' * 200}"],
)  # fmt: skip
def test_folders_with_odd_names_are_no_checkpoints(tmp_path, name):
    (tmp_path / f"{name}.checkpoint").mkdir()
    assert checkpoints.begun(tmp_path, "ew") == []


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_a_damaged_state_is_not_used(tmp_path, damage):
    folder = tmp_path / "run.checkpoint"
    checkpoint = saved(folder, state(1))
    # What is read; `ocdbt.process_0/d` has copies of it, from before Orbax merged them.
    largest = max((folder / "1" / "d").iterdir(), key=lambda path: path.stat().st_size)
    if damage == "truncated":
        largest.write_bytes(largest.read_bytes()[:-20])
    elif damage == "changed":
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
    else:
        largest.unlink()
    found, (note,) = restored(checkpoint)
    assert found == []
    assert "1 is damaged and not used" in note


def test_no_damage_changes_the_state_that_is_used(tmp_path):
    """Some files are not read; a byte that is read is either noticed or means nothing."""
    folder = tmp_path / "run.checkpoint"
    checkpoint = saved(folder, state(1))
    unused = 0
    for path, content in files(folder / "1").items():
        for position in (0, len(content) // 2, len(content) - 1):
            changed = bytearray(content)
            changed[position] ^= 1
            path.write_bytes(changed)
            found, notes = restored(checkpoint)
            assert len(found) + len(notes) == 1
            unused += len(notes)
            for own in found:
                chex.assert_trees_all_equal(own, state(1))
        path.write_bytes(content)
    assert unused >= 3


def test_what_orbax_does_not_notice_the_checksum_does(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_checksum", lambda plain: np.asarray(1, np.uint32))
    checkpoint = saved(tmp_path / "run.checkpoint", state(1))
    monkeypatch.undo()
    assert restored(checkpoint)[1][0].endswith("not used (the checksum differs)")


def test_the_previous_state_is_used_where_the_newest_is_damaged(tmp_path):
    folder = tmp_path / "run.checkpoint"
    saved(folder, state(1))
    (folder / "1").rename(tmp_path / "1")
    checkpoint = saved(folder, state(2))
    (folder / "1").rename(folder / "2")
    (tmp_path / "1").rename(folder / "1")
    (folder / "2" / "_METADATA").write_text("{")
    (found,), (note,) = restored(checkpoint)
    assert "2 is damaged" in note
    chex.assert_trees_all_equal(found.second, state(1).second)


def test_a_state_of_another_shape_is_not_used(tmp_path):
    checkpoint = saved(tmp_path / "run.checkpoint", state(1))
    other = state(1)
    other.first["x"] = jnp.arange(4.0)
    found, notes = restored(checkpoint, other)
    assert found == []
    assert len(notes) == 1


@pytest.mark.parametrize("change", ["version", "parts"])
def test_a_state_of_another_version_is_refused_by_name(tmp_path, monkeypatch, change):
    """It is neither mixed with this version's nor lost by starting over."""
    folder = tmp_path / "run.checkpoint"
    with monkeypatch.context() as then:
        if change == "version":
            then.setattr(checkpoints.dbmtl, "__version__", "0.0.9")
        checkpoint = saved(folder, state(1))
    like = state(1) if change == "version" else state(1)._replace(second=[1])
    said = r"run.checkpoint was made by another version of dbmtl_jax, '0\.\d\.\d"
    with pytest.raises(UserError, match=said):
        restored(checkpoint, like)
    assert (folder / "1").exists()
    (folder / "version.json").unlink()  # as older checkpoints, which are tried
    assert len(restored(checkpoint, state(1))[0]) == 1
    for text in ("[]", "{", "[" * 100_000):
        (folder / "version.json").write_text(text)
        with pytest.raises(UserError, match=r"version\.json: expected"):
            restored(checkpoint, state(1))


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, capfd):
    """The limit on a file's size fails within TensorStore, as a full disk does."""
    folder = tmp_path / "run.checkpoint"
    big = np.random.default_rng(0).normal(size=(8, 10_000))
    checkpoint = saved(folder, list(big))
    before = files(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (20_000, 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            with pytest.raises(UserError, match=r"checkpoint.2: cannot write \(File too large\)"):
                checkpoint.save(list(big + 1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert before.items() <= files(folder).items()
    (found,), notes = restored(checkpoint, list(big))
    assert notes == []
    chex.assert_trees_all_equal(found, list(big))
    checkpoint.save(list(big + 1))
    assert sorted(path.name for path in folder.iterdir()) == ["2", "version.json"]
    assert capfd.readouterr().err == ""


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        saved(tmp_path / "file" / "run.checkpoint", state())


def test_orbax_is_imported_when_it_is_needed():
    """It takes a second or more."""
    code = "import sys, benchmarks.compare; sys.exit('orbax' in sys.modules)"
    printed_by("-c", code)
