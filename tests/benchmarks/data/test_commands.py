import pathlib
import sys

import pytest
from rich.console import Console

from benchmarks import __main__ as command_line
from benchmarks.config import ConvertCityscapes, MakeSample, Prepare
from benchmarks.data import builders, prepare, source
from benchmarks.data.new_folder import new_folder
from benchmarks.errors import UserError
from tests.benchmarks.data.conftest import run


def test_command_line():
    parse = command_line.parse
    assert parse(["prepare", "nyuv2", "--source", "a"]) == Prepare("nyuv2", pathlib.Path("a"))
    assert parse(["prepare", "office31", "--source", "a", "--out", "b"]).out == pathlib.Path("b")
    assert parse(["convert-cityscapes", "--source", "a", "--out", "b"]) == ConvertCityscapes(
        pathlib.Path("a"), pathlib.Path("b")
    )
    assert parse(
        ["make-sample", "officehome", "--out", "a", "--train", "3", "--test", "2", "--seed", "4"]
    ) == (MakeSample("officehome", pathlib.Path("a"), 3, 2, 4))


def test_mistake_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    missing = str(tmp_path / "missing")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "prepare", "nyuv2", "--source", missing])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --source {missing} is not a folder")
    assert error.count("\n") == 1


def test_only_our_own_lines_are_printed(sample, tmp_path, capsys):
    printed = run(Prepare("nyuv2", sample / "nyuv2", tmp_path / "out"))
    lines = printed.splitlines()
    assert "is sample data, not the real NYUv2" in lines[0]
    assert lines[-1] == f"NYUv2 prepared in {tmp_path / 'out/nyuv2/1.0.0'}: 6 train, 3 test"
    assert all(line.startswith("NYUv2") for line in lines[1:])
    assert capsys.readouterr().out == ""
    # Also where the console is the terminal's.
    config = Prepare("nyuv2", sample / "nyuv2", tmp_path / "out2")
    prepare.prepare(config, Console(width=500))
    assert capsys.readouterr().out.splitlines()[1:-1] == lines[1:-1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_is_left_of_what_is_interrupted(sample, tmp_path, monkeypatch, error):
    read = builders.npy_folder.DenseFolder.read

    def fail(self, split, index):
        if split == "test":
            raise error
        return read(self, split, index)

    monkeypatch.setattr(builders.npy_folder.DenseFolder, "read", fail)
    expected = (UserError, "No space") if isinstance(error, OSError) else (KeyboardInterrupt, None)
    with pytest.raises(expected[0], match=expected[1]):
        run(Prepare("nyuv2", sample / "nyuv2", tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["nyuv2"]


def test_new_folder(tmp_path):
    with new_folder(tmp_path / "a/b") as temporary:
        (temporary / "done").mkdir()
        (temporary / "done/file").touch()
        assert not (tmp_path / "a/b").exists()
    assert [p.name for p in (tmp_path / "a").rglob("*")] == ["b", "file"]
    with pytest.raises(UserError, match="is there already"), new_folder(tmp_path / "a/b"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/x: cannot write"), new_folder(tmp_path / "file/x"):
        pass


def test_missing_packages_are_named(sample, prepared, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "benchmarks.data.prepare")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"tensorflow_datasets.*pip install -e '.\[vision\]'"):
        run(Prepare("nyuv2", sample / "nyuv2", tmp_path))
    with pytest.raises(UserError, match=r"nyuv2 needs .*tensorflow_datasets.*pip install -e"):
        source.load("nyuv2", prepared)


def test_tfds_own_way_to_prepare(tmp_path, sample):
    """The builders are TFDS's: a folder of real data is their `manual_dir`."""
    tfds = pytest.importorskip("tensorflow_datasets")
    builder = builders.NYUv2(data_dir=tmp_path)
    assert builder.info.features["depth"].shape == (288, 384, 1)
    with pytest.raises(UserError, match="expected"):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=tmp_path)
        )
