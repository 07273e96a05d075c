"""Puts single faults into the library, one at a time, and tells which ones no test notices.

`python -m tests.mutants [FILE ...]`, e.g. `core/_tasks.py`; by default every file of the rooms
below.  Results are lines of JSON in `runs/mutants`, so a run that was stopped goes on where it was.
A survivor runs again if tests change.  `argued.toml` has the survivors that nothing can notice, and
why; an entry that is no survivor any more is reported as stale.
"""

import argparse
import collections
import contextlib
import gc
import hashlib
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Mapping
from typing import Any

import chex  # noqa: F401  (what tests import is imported once, before forking)
import hypothesis
import jax
import optax  # noqa: F401
import pytest
import scipy.optimize  # noqa: F401

from tests.helpers import typechecker  # noqa: F401
from tests.mutants import chosen, hook
from tests.mutants.operators import Mutant, sample

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
LIBRARY = ROOT / "dbmtl_jax"
ROOMS = ("core", "engine", "loss_balancing", "gradient_balancing", "hybrid_balancing")
RESULTS = ROOT / "runs" / "mutants" / "results.jsonl"
SECONDS = 150
"""Of computing time, after which a mutant counts as killed: it may loop for ever."""


# A failure is a failure; it need not be made small.
hypothesis.settings.register_profile(
    "mutants",
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    database=None,
    deadline=None,
)


class Watch:
    """A plugin of pytest: sees which test fails, and keeps mutated programs out of the cache."""

    failed = ""

    def pytest_sessionstart(self) -> None:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed = f"importing {report.nodeid}"


def run(module: str, source: bytes | None, seconds: int = SECONDS) -> dict[str, Any]:
    """Runs a module's tests in a process of their own, with `source` in the place of its text."""
    path = str(LIBRARY / module)
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX has threads, of which none runs here yet
        child = os.fork()
    if not child:
        os.close(read)
        os.write(write, json.dumps(_tested(module, path, source, seconds)).encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        text = pipe.read()
    _, status, usage = os.wait4(child, 0)
    found = json.loads(text) if text else {"code": 1, "by": f"signal {os.WTERMSIG(status)}"}
    return found | {"seconds": round(usage.ru_utime + usage.ru_stime, 1)}


def _tested(module: str, path: str, source: bytes | None, seconds: int) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    signal.alarm(20 * seconds)  # it may also wait for ever
    gc.disable()  # a process is short
    sys.dont_write_bytecode = False  # what one process compiles the next ones read
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    watch = Watch()
    if source is not None:
        hook.install(path, source)
        # For the tests that start a Python of their own.
        folder = tempfile.mkdtemp(dir=RESULTS.parent)
        text = (HERE / "hook.py").read_text(encoding="utf-8")
        start = pathlib.Path(folder) / "sitecustomize.py"
        start.write_text(f"{text}\n\ninstall({path!r}, {source!r})\n", encoding="utf-8")
        os.environ["PYTHONPATH"] = folder
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", "not slow"]
    options += ["--hypothesis-seed=0", "--hypothesis-profile=mutants"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning", f"--rootdir={ROOT}"]
    plugins = [watch] if source is not None else []
    try:
        code = int(pytest.main([*options, *chosen.tests_of(module)], plugins=plugins))
    except BaseException as error:
        return {"code": 99, "by": repr(error)}
    finally:
        if source is not None:
            start.unlink()
            start.parent.rmdir()
    return {"code": code, "by": watch.failed}


def digest(*parts: str | bytes) -> str:
    joined = b"\0".join(p.encode() if isinstance(p, str) else p for p in parts)
    return hashlib.sha256(joined).hexdigest()[:12]


def tests_digest(module: str) -> str:
    """Changes with the tests of a module."""
    parts: list[str | bytes] = list(chosen.tests_of(module))
    for argument in chosen.tests_of(module):
        path = ROOT / argument
        if argument.startswith("tests/"):
            files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
            parts += [file.read_bytes() for file in files]
    return digest(*parts)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", help="relative to dbmtl_jax; default: all rooms")
    parser.add_argument("--number", type=int, default=10, help="of mutants in a file")
    parser.add_argument("--report", action="store_true", help="only tell what is known so far")
    return parser.parse_args()


def load() -> dict[str, dict[str, Any]]:
    if not RESULTS.exists():
        return {}
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
    return {entry["id"]: entry for entry in map(json.loads, lines)}


def main() -> int:
    options = arguments()
    os.chdir(ROOT)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    known = load()
    files = options.files or [
        str(path.relative_to(LIBRARY))
        for room in ROOMS
        for path in sorted((LIBRARY / room).glob("_*.py"))
        if path.name not in ("__init__.py", "_types.py")  # which only name things
    ]
    argued = arguments_of_survivors()
    rows, survivors = [], []
    for module in files:
        source = (LIBRARY / module).read_bytes()
        mutants = sample(source, options.number, module)
        outcomes = tested(module, source, mutants, known, argued, options.report)
        rows.append((module, mutants, outcomes))
        survivors += [(module, m) for m, o in zip(mutants, outcomes, strict=True) if o == "alive"]
    return report(rows, survivors, argued)


def arguments_of_survivors() -> dict[tuple[str, str, str, str], str]:
    """(module, line, old, new) of what nothing can notice -> why."""
    entries = tomllib.loads((HERE / "argued.toml").read_text(encoding="utf-8")).get("argued", [])
    return {(e["module"], e["line"], e["old"], e["new"]): e["why"] for e in entries}


def tested(
    module: str,
    source: bytes,
    mutants: list[Mutant],
    known: dict[str, dict[str, Any]],
    argued: Mapping[tuple[str, str, str, str], str],
    only_known: bool,
) -> list[str]:
    """ "killed", "alive" or "unknown" for every mutant."""
    tests, outcomes = tests_digest(module), []

    def record(name: str, about: dict[str, Any], text: bytes | None) -> dict[str, Any]:
        entry = {"id": name, "module": module, "tests": tests} | about | run(module, text)
        if entry["code"] not in (0, 1, 2, 3):
            raise SystemExit(f"{module}: pytest did not run: {entry}")
        known[name] = entry
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        return entry

    for mutant in mutants:
        name = digest(module, source, *mutant.key, str(mutant.start))
        entry = known.get(name)
        is_argued = (module, *mutant.key) in argued
        if entry is not None and entry["code"] == 0 and entry["tests"] != tests and not is_argued:
            entry = None  # other tests may notice it
        if entry is None and not only_known:
            entry = record(name, mutant._asdict(), mutant.applied(source))
            mark = "killed" if entry["code"] else "alive "
            print(f"{mark} {entry['seconds']:5.1f} s  {module}  {told(mutant)}", flush=True)
        outcomes.append("unknown" if not entry else "killed" if entry["code"] else "alive")

    name = digest("no fault", module, source, tests)
    passed = [e for e in known.values() if e["tests"] == tests and not e["code"]]
    if not passed and not only_known and record(name, {}, None)["code"]:
        raise SystemExit(f"{module}: its tests fail without a fault: {known[name]}")
    return outcomes


def told(mutant: Mutant) -> str:
    old, new = (" ".join(text.split()) for text in (mutant.old, mutant.new))
    return f"{mutant.function}: {old[:70]} → {new[:70]}"


def report(
    rows: list[tuple[str, list[Mutant], list[str]]],
    survivors: list[tuple[str, Mutant]],
    argued: Mapping[tuple[str, str, str, str], str],
) -> int:
    """Prints a line for each module, the survivors, and stale arguments; 1 if any is left."""
    total: collections.Counter[str] = collections.Counter()
    print(f"{'module':44} mutants killed argued  left")
    for module, mutants, outcomes in rows:
        counts: collections.Counter[str] = collections.Counter()
        for mutant, outcome in zip(mutants, outcomes, strict=True):
            is_argued = outcome == "alive" and (module, *mutant.key) in argued
            counts["argued" if is_argued else outcome] += 1
        total += counts
        print(
            f"{module:44} {len(mutants):7} {counts['killed']:6} {counts['argued']:6} "
            f"{counts['alive'] + counts['unknown']:5}"
        )
    number = sum(total.values())
    share = 100 * total["killed"] / max(number, 1)
    print(f"{total['killed']} of {number} killed: {share:.1f} %; {total['argued']} argued for")
    alive = {(module, *mutant.key) for module, mutant in survivors}
    for module, mutant in survivors:
        if (module, *mutant.key) not in argued:
            print(f"survivor: {module}: {mutant.line}\n    {told(mutant)}")
    tested_files = {module for module, _, outcomes in rows if "unknown" not in outcomes}
    stale = [key for key in argued if key[0] in tested_files and key not in alive]
    for key in stale:
        print("stale, no survivor any more:", *key)
    return int(bool(stale or total["alive"]))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
