"""What is measured is recorded, and measured once; no time is asserted."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl
from benchmarks.errors import UserError
from benchmarks.kit import modes
from benchmarks.kit.deadline import Deadline
from benchmarks.perf import mlp, resnet, steps
from benchmarks.perf.precision import cosine

STAGES = (("EW", "vmap", "stream"), ("EW", "refresh4"))
CASES = [
    modes.Case("mlp", 2, dtype, mode)
    for dtype, mode in [
        *[(dtype, mode) for dtype in ("float32", "bfloat16") for mode in STAGES[0]],
        ("float32", "refresh4"),
        ("bfloat16", "refresh4"),
    ]
]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(mlp, "_WIDTHS", (4, 8, 6))
    monkeypatch.setattr(mlp, "_BATCH", 4)
    monkeypatch.setattr(modes, "_TURN_SECONDS", 0.0)
    monkeypatch.setattr(modes, "STAGES", STAGES)
    modes._subject.cache_clear()
    before = jax.config.jax_enable_compilation_cache
    yield
    jax.config.update("jax_enable_compilation_cache", before)


def measure(out, deadline, wanted=CASES):
    said = []
    left = modes.measure(out, wanted, 1, deadline, said.append)
    return left, said, json.loads((out / "modes.json").read_text())


def names(record):
    return [(r["dtype"], r["mode"]) for r in record["results"]]


def test_the_important_programs_come_first(monkeypatch):
    monkeypatch.undo()
    cases = modes.cases(("mlp", "qm9"), (3, 2), ("float32", "bfloat16"))
    assert len(cases) == len(set(cases)) == 2 * 2 * 2 * 11
    assert cases[0] == ("mlp", 3, "float32", "EW")
    order = {case: index for index, case in enumerate(cases)}
    assert order["qm9", 2, "bfloat16", "vmap"] < order["mlp", 3, "float32", "refresh4"]
    with pytest.raises(UserError, match="--num-tasks: expected numbers from 2 on, found 1"):
        modes.cases(("mlp",), (1,), ("float32",))


def test_all_is_measured_in_turns_with_equal_weighting(tmp_path, clock):
    left, said, record = measure(tmp_path / "new", Deadline(8, clock=clock))
    assert left == []
    assert modes.cases(("mlp",), (2,), ("float32", "bfloat16")) == CASES
    assert names(record) == [case[2:] for case in CASES]
    assert [r["mode"] for r in record["results"]] == [
        "EW", "vmap", "stream", "EW", "vmap", "stream", "refresh4", "refresh4",
    ]  # fmt: skip
    for result in record["results"]:
        assert (result["ratio"] == 1) == (result["mode"] == "EW")
        assert result["steps_per_turn"] == (4 if result["mode"] == "refresh4" else 1)
        assert result["needed"] > result["temporary"]
    page = " ".join((tmp_path / "new" / "modes.md").read_text().split())
    vmap = record["results"][1]
    assert f"| mlp | 2 | {record['results'][0]['milliseconds']:.2f} | {vmap['ratio']:.2f}" in page
    assert f"{vmap['temporary'] / 1e6:.1f}" in page
    assert record["environment"]["device"] in page
    assert "running" not in record
    assert any("bfloat16, refresh4" in line for line in said)


def test_nothing_is_begun_when_time_is_nearly_over(tmp_path, clock):
    """A network's first program is expected to take a minute."""
    deadline = Deadline(2, clock=clock)
    clock.now = 61
    left, said, record = measure(tmp_path, deadline)
    assert (left, record["results"]) == (CASES, [])
    assert "time is over, programs left: 8; the same command goes on" in said


def test_the_next_command_goes_on(tmp_path, clock, monkeypatch):
    measured = []

    def slow(case, rounds):
        measured.append(case)
        clock.now += 50
        return fake

    fake = {"ratio": 1.0, "spread": (1, 1), "milliseconds": 1.0, "steps_per_turn": 1,
            "compile_seconds": 1.0, "temporary": 1, "needed": 2}  # fmt: skip
    monkeypatch.setattr(modes, "_measured", slow)
    left, _, record = measure(tmp_path, Deadline(3, clock=clock))
    assert (len(record["results"]), len(left)) == (4, 4)
    left, said, record = measure(tmp_path, Deadline(8, clock=clock))
    assert said[0] == "programs measured: 4, left: 4"
    assert (measured, left) == (CASES, [])
    assert names(record) == [case[2:] for case in CASES]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["environment"].update(device="H100"), "of other device: H100 there, cpu here"),
        (
            lambda r: r["environment"]["versions"].update(jax="0"),
            "of other versions",
        ),
        (lambda r: r.update(source="abc"), "of other source: abc there"),
        (lambda r: r.pop("results"), "expected results of this command"),
        (lambda r: r.update(results=[17]), "expected results of this command"),
        (lambda r: r.update(results=[{"mode": "vmap"}]), "expected results of this command"),
    ],
)
def test_results_of_something_else_are_not_mixed(tmp_path, clock, change, said):
    measure(tmp_path, Deadline(8, clock=clock), [])
    path = tmp_path / "modes.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=said):
        measure(tmp_path, Deadline(8, clock=clock))


def test_a_program_that_fails_or_kills_does_not_stop_the_others(tmp_path, clock, monkeypatch):
    make = steps.Program

    def program(network, mode):
        if mode == "vmap":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of\nmemory")
        if mode == "stream":
            raise KeyboardInterrupt
        return make(network, mode)

    monkeypatch.setattr(steps, "Program", program)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, Deadline(8, clock=clock), CASES[:3])
    monkeypatch.setattr(steps, "Program", make)
    left, _, record = measure(tmp_path, Deadline(8, clock=clock), CASES[:4])
    assert left == []
    failures = {r["mode"]: r["failed"] for r in record["results"] if "failed" in r}
    assert failures == {
        "vmap": "RESOURCE_EXHAUSTED: out of memory",
        "stream": "the command was killed",
    }
    assert names(record)[-1] == ("bfloat16", "EW")
    assert "| failed | failed |" in " ".join((tmp_path / "modes.md").read_text().split())


def test_the_mlp_computes_in_bfloat16_and_has_gradients_in_float32():
    full, half = mlp.mlp(2), mlp.mlp(2, "bfloat16")
    grads = [n.task_grads("unroll")(n.params, n.batch)[1][0] for n in (full, half)]
    assert {g.dtype for g in jax.tree.leaves(grads[1])} == {jnp.dtype("float32")}
    for task in range(2):
        assert cosine(*(jax.tree.map(lambda g, t=task: g[t], g) for g in grads)) > 0.999
    kernels = np.asarray(grads[1][1]["w"]).view(np.uint32)
    assert np.all(kernels % 2**16 == 0)
    assert dbmtl.task_norms(grads[1]).shape == (2,)


def test_the_resnet_convolves_in_bfloat16(monkeypatch):
    monkeypatch.setattr(resnet, "_SIDE", 32)
    monkeypatch.setattr(resnet, "_BATCH", 2)
    for dtype, short in (("float32", "f32"), ("bfloat16", "bf16")):
        network = resnet.resnet(2, dtype)
        made = jax.make_jaxpr(network.losses)(network.params, network.batch)
        text = str(made)
        lines = [line for line in text.splitlines() if "= conv_general_dilated[" in line]
        assert len(lines) == 20
        assert all(f":{short}[" in line for line in lines)
        assert {x.dtype for x in made.out_avals} == {jnp.dtype("float32")}
