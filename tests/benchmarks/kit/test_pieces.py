"""A folder arrives as it was packed, or not at all."""

import json

import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.kit import pieces
from benchmarks.kit.deadline import Deadline


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "runs"
    (folder / "checkpoint" / "1").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "checkpoint" / "1" / "data").write_bytes(np.random.default_rng(0).bytes(50_000))
    return folder


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_folder_arrives_as_it_was_packed(folder, tmp_path):
    pieces.pack(folder, tmp_path / "out", 10_000)
    sizes = [path.stat().st_size for path in (tmp_path / "out").iterdir()]
    assert len(sizes) > 6
    assert max(sizes) <= 10_000
    pieces.unpack(tmp_path / "out", tmp_path / "there")
    assert content(tmp_path / "there") == content(folder)


def test_a_new_state_takes_the_place_of_the_old_one(folder, tmp_path):
    pieces.pack(folder, tmp_path / "out", 10_000)
    before = set(content(tmp_path / "out"))
    (folder / "checkpoint" / "1" / "data").write_bytes(b"new")
    pieces.pack(folder, tmp_path / "out", 20_000)
    assert len(set(content(tmp_path / "out")) - before) == len(content(tmp_path / "out")) - 1
    pieces.unpack(tmp_path / "out", tmp_path / "there")
    assert content(tmp_path / "there") == content(folder)


def test_a_command_that_is_killed_leaves_the_old_state(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    pieces.pack(folder, out, 10_000)
    expected = content(folder)
    (folder / "config.json").write_text("new")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pieces.run_log, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        pieces.pack(folder, out, 10_000)
    pieces.unpack(out, tmp_path / "there")
    assert content(tmp_path / "there") == expected


def test_a_missing_or_damaged_piece_is_refused(folder, tmp_path):
    out, there = tmp_path / "out", tmp_path / "there"
    pieces.pack(folder, out, 10_000)
    part = out / "state-1-2.part"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"state-1-2\.part: damaged, found 10,000 bytes"):
        pieces.unpack(out, there)
    part.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"found 9,999 bytes .* expected 10,000"):
        pieces.unpack(out, there)
    part.unlink()
    with pytest.raises(UserError, match=r"state-1-2\.part: cannot read \(No such file.* all 7"):
        pieces.unpack(out, there)
    assert not there.exists()
    part.write_bytes(whole)
    pieces.unpack(out, there)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "expected an object"),
        ("{", "expected JSON"),
        ('{"number": 1, "pieces": [{"file": "x.part"}]}', "found another text"),
        ('{"number": 1, "pieces": [{"file": "../x.part", "bytes": 1, "sha256": ""}]}', "beside it"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path, text, said):
    (tmp_path / pieces.LIST).write_text(text)
    with pytest.raises(UserError, match=said):
        pieces.unpack(tmp_path, tmp_path / "there")


def test_a_folder_with_files_is_not_written_over(folder, tmp_path):
    pieces.pack(folder, tmp_path / "out")
    assert json.loads((tmp_path / "out" / pieces.LIST).read_text())["number"] == 1
    with pytest.raises(UserError, match=r"--out: .* is not empty, expected a new folder"):
        pieces.unpack(tmp_path / "out", folder)
    with pytest.raises(UserError, match=r"pieces\.json: cannot read"):
        pieces.unpack(tmp_path / "nowhere", tmp_path / "there")


def test_a_deadline_counts_down(clock):
    deadline = Deadline(2, at_least=2, clock=clock)
    clock.now += 50
    assert deadline.left == 70
    for minutes in (1.9, float("nan"), float("inf"), -1):
        with pytest.raises(UserError, match="--minutes: expected at least 2, found"):
            Deadline(minutes, at_least=2)
