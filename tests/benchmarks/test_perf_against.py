"""Another checkout's programs are timed next to this one's; no time is asserted."""

import io
import json
import pathlib
import types

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from benchmarks.config import Perf
from benchmarks.errors import UserError
from benchmarks.perf import against, aggregation, checkout_worker, steps
from benchmarks.perf.against import HERE, Program, Side, in_pairs, measure, open_worker, programs
from benchmarks.perf.command import perf
from benchmarks.perf.worker import Worker

CONFIG = Perf(networks=("mlp",), num_tasks=(2,), modes=("stream",), rounds=2, aggregation=False)


class StandIn:
    """A worker whose runs take as many seconds as they are told to, one after the other."""

    def __init__(self, seconds, missing=(), commit="abc"):
        self.version = json.dumps({"commit": commit})
        self.requests = []
        self._seconds = seconds
        self._missing = missing

    def __enter__(self):
        self._left = iter(())
        return self

    def __exit__(self, *exception):
        pass

    def ask(self, request):
        self.requests.append(request)
        if request == "run":
            return str(next(self._left))
        self._left = iter(self._seconds)
        return "missing" if request in self._missing else "built"


def fake_checkout(folder: pathlib.Path) -> pathlib.Path:
    """All that a worker takes from a checkout, with a network that counts its steps."""
    files = {
        "dbmtl_jax/__init__.py": "METHODS = {}\n",
        "benchmarks/__init__.py": "",
        "benchmarks/run_log.py": "def environment():\n    return {'commit': 'old'}\n",
        "benchmarks/perf/__init__.py": "",
        "benchmarks/perf/steps.py": (
            "import types\n"
            "import jax\n"
            "EW, ROWS = 'EW', 'rows'\n"
            "def step_of(network, mode):\n"
            "    if mode == 'loop':\n"
            "        raise ValueError('no loop today')\n"
            "    return jax.jit(lambda state, batch: state + batch), 0.0\n"
            "network = types.SimpleNamespace(batch=1.0, modes=('loop', 'stream'))\n"
            "NETWORKS = {'mlp': lambda num_tasks: network}\n"
        ),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_worker_runs_the_other_checkout(tmp_path):
    """A process of its own, with the packages of that folder; what breaks there is one line."""
    checkout = fake_checkout(tmp_path / "old")
    with open_worker(checkout) as worker:
        assert json.loads(worker.version) == {"commit": "old"}
        assert worker.ask("build mlp 2 stream") == "built"
        assert float(worker.ask("run")) > 0
        assert worker.ask("build mlp 2 vmap") == "missing"
        assert worker.ask("build qm9 2 stream") == "missing"
        assert worker.ask("build aggregation 2 mgda") == "missing"
        with pytest.raises(UserError, match=r"old: checkout_worker.py failed: .*no loop today"):
            worker.ask("build mlp 2 loop")


def test_a_worker_that_has_died_is_one_line(tmp_path):
    """Between two requests, as one is killed that takes too much memory."""
    script = tmp_path / "script"
    script.write_text("echo ready\nread line\necho built\nexit 3\n")
    with Worker(pathlib.Path("/bin/sh"), script, blamed="--against: old") as worker:
        assert (worker.version, worker.ask("build")) == ("ready", "built")
        worker._process.wait()
        with pytest.raises(UserError, match=r"--against: old: script failed: .* exit status 3"):
            worker.ask("run")


def test_a_worker_may_write_what_is_no_text(tmp_path):
    script = tmp_path / "script"
    script.write_text("printf '\\377\\n'\n")
    with Worker(pathlib.Path("/bin/sh"), script) as worker:
        assert worker.version == "\N{REPLACEMENT CHARACTER}"


def test_packages_of_another_checkout_are_refused(tmp_path):
    checkout_worker.refuse_other_checkouts(HERE)
    with pytest.raises(SystemExit, match=r"dbmtl_jax is imported from .*__init__.py"):
        checkout_worker.refuse_other_checkouts(tmp_path)


@pytest.mark.parametrize(
    ("version", "found", "seconds", "said"),
    [
        ("Welcome!", "built", "0.1", "the environment: expected JSON, found b'Welcome!'"),
        ("[1]", "built", "0.1", "the environment: expected an object of texts and numbers"),
        ('{"a": [1]}', "built", "0.1", "the environment: expected an object of texts"),
        ("{}", "Traceback", "0.1", "building EW: expected built or missing, found 'Traceback'"),
        ("{}", "built", "soon", "the seconds of a program: expected JSON, found b'soon'"),
        ("{}", "built", "NaN", "the seconds of a program: expected a number above 0, found None"),
        ("{}", "built", "-1", "the seconds of a program: expected a number above 0, found -1"),
        ("{}", "built", '["0.1"]', "the seconds of a program: expected a number above 0"),
    ],
)
def test_what_another_checkout_says_is_checked(
    tmp_path, monkeypatch, version, found, seconds, said
):
    """One line that names the checkout, whatever its process answers."""

    class Other(StandIn):
        def ask(self, request):
            return seconds if request == "run" else found

    other = fake_checkout(tmp_path / "old")
    worker = Other([])
    worker.version = version
    sides = {HERE: StandIn([1, 1, 1]), other: worker}
    monkeypatch.setattr(against, "open_worker", sides.__getitem__)
    config = Perf(**vars(CONFIG) | {"out": tmp_path / "out"})
    with pytest.raises(UserError) as error:
        against.compare(config, other, Console(file=io.StringIO()))
    assert str(error.value).startswith(f"--against: {other}: {said}")


def test_what_is_no_checkout_is_refused(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for folder, message in (
        (tmp_path / "nothing", "nothing is not a folder"),
        (file, "file is not a folder"),
        (tmp_path, "not a checkout of this project: it has no dbmtl_jax/__init__.py"),
    ):
        with pytest.raises(UserError, match=f"--against: .*{message}"):
            perf(Perf(against=folder), Console(file=io.StringIO()))
    with pytest.raises(UserError, match="--against and --peers do not go together"):
        perf(Perf(against=HERE, peers=True), Console(file=io.StringIO()))


def test_programs_of_the_worker_run(monkeypatch):
    """The second of two calls counts, each goes on from the last, and one program is kept."""
    monkeypatch.setattr(checkout_worker, "LEAVES", 2)
    monkeypatch.setattr(checkout_worker, "SIDE", 3)
    monkeypatch.setattr(jax, "clear_caches", lambda: None)  # other tests would compile again
    monkeypatch.setattr(
        steps,
        "NETWORKS",
        {"tiny": lambda num_tasks: types.SimpleNamespace(batch=jnp.ones(2), modes=("loop",))},
    )
    step = jax.jit(lambda state, batch: state + batch)
    monkeypatch.setattr(steps, "step_of", lambda network, mode: (step, jnp.zeros(2)))
    program = checkout_worker.build("tiny", 2, "loop")
    checkout_worker.seconds(program)
    assert program().tolist() == [3, 3]
    requests = [
        "build transformation 2 db_mtl\n", "run\n", "build aggregation 2 ew\n", "run\n", "run\n",
        "build tiny 2 EW\n", "build tiny 2 vmap\n", "build aggregation 2 nothing\n",
    ]  # fmt: skip
    found = list(checkout_worker.answers(requests))
    assert [found[i] for i in (0, 2, 5, 6, 7)] == ["built", "built", "built", "missing", "missing"]
    assert all(float(found[i]) > 0 for i in (1, 3, 4))
    (updates, _) = checkout_worker.build("transformation", 2, "db_mtl")()
    assert [u.shape for u in updates] == [(3, 3)] * 2


def test_who_begins_changes_from_round_to_round():
    """Pairs are (this, that) whoever began; the first round does not count."""
    calls = []

    def side(name):
        calls.append(name)
        return len(calls)

    pairs = in_pairs(lambda: side("a"), lambda: side("b"), 3)
    assert "".join(calls) == "abbaabba"
    assert pairs == [(4, 3), (5, 6), (8, 7)]


def test_ratios_are_of_pairs():
    this, that = StandIn([9, 1, 6, 4]), StandIn([1, 2, 2, 2])
    with this, that:
        sides = (Side(HERE, this), Side(HERE, that))
        row = measure(Program("mlp", 2, "stream"), *sides, 3)
    assert this.requests == that.requests == ["build mlp 2 stream", *["run"] * 4]
    assert row.pairs == [(1, 2), (6, 2), (4, 2)]
    assert row.figures["over_theirs"] == (2, (0.5, 3), None)
    assert row.figures["milliseconds"].value == 4000
    assert row.figures["their_milliseconds"].value == 2000


def test_all_rows_are_there():
    """Steps of every network, T and mode first, then the transformation and the methods."""
    found = programs(Perf(networks=("mlp", "qm9"), num_tasks=(2, 3), modes=("vmap", "stream")))
    assert found[:5] == [
        *(Program("mlp", 2, mode) for mode in ("EW", "rows", "vmap", "stream")),
        Program("mlp", 3, "EW"),
    ]
    assert len(found) == 16 + 2 * (1 + len(aggregation.METHODS))
    assert found[16:18] == [
        Program("transformation", 2, "db_mtl"),
        Program("aggregation", 2, aggregation.METHODS[0]),
    ]
    assert programs(Perf(networks=(), transformation=False, aggregation=False)) == []


def test_rows_are_printed_and_recorded(tmp_path, monkeypatch):
    """What a checkout lacks is named, and all pairs are kept."""
    other = fake_checkout(tmp_path / "old")
    sides = {
        HERE: StandIn([1, 0.25, 0.25], commit="new"),
        other: StandIn([1, 0.5, 0.2], missing=["build mlp 2 rows"], commit="old"),
    }
    monkeypatch.setattr(against, "open_worker", sides.__getitem__)
    output = io.StringIO()
    out = tmp_path / "out"
    console = Console(file=output, width=100)
    against.compare(Perf(**vars(CONFIG) | {"out": out}), other, console)
    record = json.loads((out / "against.json").read_text())
    assert (record["this"]["commit"], record["that"]["commit"]) == ("new", "old")
    assert record["that"]["folder"] == str(other)
    assert [(row["subject"], row["name"]) for row in record["rows"]] == [
        ("mlp", "EW"), ("mlp", "stream"), ("transformation", "db_mtl"),
    ]  # fmt: skip
    assert record["missing"] == ["mlp T=2 rows"]
    assert all(row["pairs"] == [[0.25, 0.5], [0.25, 0.2]] for row in record["rows"])
    text = output.getvalue()
    assert "│ stream  │ 250.0 │ 350.0 │  0.875 │ 0.50–1.25 │" in text
    assert "leaves it out: mlp T=2 rows" in text
