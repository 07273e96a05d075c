"""The reader of what TFDS's own builder prepares, from the original files."""

from pathlib import Path

import pytest

from benchmarks.errors import UserError
from benchmarks.problems import qm9
from benchmarks.problems.qm9 import data
from tests.benchmarks.invented_molecules import (
    FREE_ATOMS,
    Molecule,
    assert_same,
    expected,
    invent,
    write_csv,
)

ATOMREF = (
    "=\n  Ele-    ZPVE    U (0 K)    U (298.15 K)    H (298.15 K)    G (298.15 K)     CV\n"
    "  ment   Hartree   Hartree    Hartree         Hartree         Hartree     Cal/(Mol Kelvin)\n"
    "=\n\n"
    + "".join(f" {e} 0.000000 {' '.join(map(str, FREE_ATOMS[e]))} 2.981\n" for e in FREE_ATOMS)
    + "=\n"
)


def write_originals(directory: Path, molecules: list[Molecule]) -> None:
    """Three downloads: free atoms, uncharacterised molecules, a file per molecule."""
    (directory / "atomref.txt").write_text(ATOMREF)
    missing = sorted(set(range(1, molecules[-1].index)) - {m.index for m in molecules})
    rows = "".join(f"  {index}   C#C   0.1 \n" for index in missing)
    (directory / "uncharacterized.txt").write_text("=\n" * 9 + rows + f"{len(missing)} compounds\n")
    for molecule in molecules:
        mu, alpha, homo, lumo, *others = molecule.targets
        lines = [
            str(len(molecule.elements)),
            "\t".join([f"gdb {molecule.index}", "1.", "2.", "3.", mu, alpha, homo, lumo, "0.5"])
            + "\t"
            + "\t".join(others)
            + "\t",
            *(
                "\t".join([element, *(x.replace("E", "*^") for x in row), "-0.1"])
                for element, row in zip(molecule.elements, molecule.positions, strict=True)
            ),
            "1341.307\t1341.3284",
            "C\tC\t",
            "InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4",
        ]
        (directory / f"dsgdb9nsd_{molecule.index:06d}.xyz").write_text("\n".join(lines) + "\n")


@pytest.fixture
def tfds_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lets TFDS's real builder prepare invented molecules, as if it had downloaded them."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    requests = pytest.importorskip("requests")
    from etils import epath
    from tensorflow_datasets.datasets.qm9 import qm9_dataset_builder

    downloads = tmp_path / "downloads"
    downloads.mkdir()

    def download(manager, urls):
        files = {"atomref": "atomref.txt", "uncharacterized": "uncharacterized.txt"}
        return {name: epath.Path(downloads) / files.get(name, "") for name in urls}

    def serve(molecules: list[Molecule]) -> None:
        write_originals(downloads, molecules)
        monkeypatch.setattr(requests, "head", lambda url, timeout: None)
        monkeypatch.setattr(qm9_dataset_builder, "_SIZE", molecules[-1].index)
        monkeypatch.setattr(qm9_dataset_builder, "_CHARACTERIZED_SIZE", len(molecules))
        monkeypatch.setattr(data, "NUM_MOLECULES", len(molecules))
        monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
        monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", download)

    return serve


def no_network(*_, **__):
    raise AssertionError("the network was used")


# The builder has pandas fall back from one of its parsers to another.
tfds_test = pytest.mark.filterwarnings("ignore:Falling back to the 'python' engine")


@tfds_test
def test_tfds_gives_the_same_as_csv(tfds_downloads, tmp_path, monkeypatch):
    import requests

    molecules = invent([1, 2, 4, 5, 6, 9, 10, 12], exponents=False)
    tfds_downloads(molecules)
    from_tfds = qm9.load("tfds", tmp_path / "prepared")
    assert_same(from_tfds, expected(molecules), rtol=1e-6)
    write_csv(tmp_path, molecules)
    assert_same(from_tfds, qm9.load("qm9pack", tmp_path), rtol=1e-6)

    monkeypatch.setattr(requests, "head", no_network)
    assert_same(qm9.load("tfds", tmp_path / "prepared"), from_tfds, rtol=0)

    (shard,) = (tmp_path / "prepared").glob("qm9/original/*/*.array_record*")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"prepared/qm9.* cannot be read .*delete that folder"):
        qm9.load("tfds", tmp_path / "prepared")


@tfds_test
def test_tfds_reads_exponents_or_says_why_not(tfds_downloads, tmp_path):
    import pandas as pd

    molecules = invent([1, 2])
    tfds_downloads(molecules)
    if int(pd.__version__.split(".")[0]) < 3:
        assert_same(qm9.load("tfds", tmp_path / "prepared"), expected(molecules), rtol=1e-6)
    else:  # a mistake of TFDS's builder; if this fails, it may be mended
        with pytest.raises(UserError, match=r'could not prepare QM9 .*"pandas<3"$'):
            qm9.load("tfds", tmp_path / "prepared")


@tfds_test
def test_tfds_target_that_is_not_finite_is_named(tfds_downloads, tmp_path):
    good, bad = invent([1, 2], exponents=False)
    tfds_downloads([good, bad._replace(targets=["nan", *bad.targets[1:]])])
    with pytest.raises(UserError, match="mu of molecule 2 is nan, expected a finite number"):
        qm9.load("tfds", tmp_path / "prepared")


def test_tfds_without_data_and_network(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    requests = pytest.importorskip("requests")

    def unreachable(url, timeout):
        raise requests.ConnectionError("Name or service not known")

    monkeypatch.setattr(requests, "head", unreachable)
    with pytest.raises(UserError, match=f"no QM9 data in {tmp_path}.*qm9pack needs no network"):
        qm9.load("tfds", tmp_path)
