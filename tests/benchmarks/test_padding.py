"""The comparison of numbers of chunks tells what it computes."""

import sys

from benchmarks.perf import padding
from benchmarks.problems import qm9
from tests.benchmarks.conftest import make_molecules


def test_a_line_for_each_number_of_chunks(monkeypatch, capsys):
    monkeypatch.setattr(qm9, "load", make_molecules)
    monkeypatch.setattr(padding, "_MOLECULES", 16)
    options = (
        "--width 4 --edge-width 3 --batch-size 8 --methods ew --chunks 1 2 --steps 1 --rounds 1"
    )
    monkeypatch.setattr(sys, "argv", ["padding", *options.split()])
    padding.main()
    padded, *lines = capsys.readouterr().out.splitlines()
    atoms = make_molecules().num_atoms[qm9.split(40, seed=0, train=16, validation=1, test=1).train]
    # Random clouds of three to six atoms: nine tenths of the batches of eight have one of six.
    assert padded.startswith(f"ew, 1 chunks: {6 / atoms.mean():.2f} times the atoms, ")
    assert "1 paddings, 100% of the batches have (6,)" in padded
    times = [line for line in lines if line.endswith("ms a step")]
    assert [line[:12] for line in times] == ["ew, 1 chunks", "ew, 2 chunks"]
