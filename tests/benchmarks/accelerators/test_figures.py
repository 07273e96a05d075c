"""What is counted in the text of a program: against closed forms, on programs compiled for CPUs."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.accelerators import figures, hlo, products, targets
from benchmarks.errors import UserError


def read(fun, *args):
    return hlo.parse(jax.jit(fun).lower(*args).compile().as_text())


def flops(fun, *args):
    return figures.figures(read(fun, *args)).flops


def test_products_of_matrices_times_the_length_of_loops():
    x = jnp.ones((5, 7))

    def looped(square):
        return jax.lax.fori_loop(0, 4, lambda i, y: jnp.tanh(square @ y), jnp.ones((5, 3)))

    assert flops(lambda x: x @ x.T, x) == 2 * 5 * 5 * 7
    assert flops(looped, jnp.eye(5)) == 4 * 2 * 5 * 5 * 3


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_convolution_is_counted_where_its_taps_meet_the_image(stride, padding):
    image, kernel = jnp.ones((2, 9, 9, 3)), jnp.ones((3, 3, 3, 4))

    def convolved(image, kernel):
        return jax.lax.conv_general_dilated(
            image, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    # A plain sum over ones counts the taps that meet an entry.
    meetings = float(convolved(image, kernel).sum())
    assert flops(convolved, image, kernel) == 2 * meetings
    grads = jax.grad(lambda k: convolved(image, k).sum() ** 2)
    found = products.products(read(grads, kernel))
    assert {2 * meetings} == {product.flops for product in found}


def test_a_loop_whose_length_depends_on_data_is_told():
    def waits(n):
        return jax.lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, 2 * c[1]), (0, 1.0))

    assert figures.figures(read(waits, 3)).waits == 1


def test_of_branches_the_usual_one_counts_and_the_products_of_all_are_found():
    def rarely(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x, lambda x: jnp.tanh(x @ x) + x.sum(), x)

    program = read(rarely, jnp.ones((8, 8)))
    assert figures.figures(program).flops == 0
    assert figures.figures(program).waits == 1
    (product,) = products.products(program)
    assert (product.flops, product.runs) == (2 * 8**3, 0)


TEXT = """\
HloModule made_up

%fused (a: f32[4,100], i: s32[]) -> f32[1,100] {
  %a = f32[4,100]{1,0:T(8,128)} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,100]{1,0:T(8,128)} dynamic-slice(%a, %i, %zero), dynamic_slice_sizes={1,100}
}

%add.1 (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

ENTRY %main (p: f32[4,100], n: s32[]) -> (f32[1,100], f32[4,100]) {
  %p = f32[4,100]{1,0:T(8,128)} parameter(0)
  %n = s32[] parameter(1)
  %picked = f32[1,100]{1,0:T(8,128)} fusion(%p, %n), kind=kLoop, calls=%fused
  %near = f32[4,100]{1,0:T(8,128)S(1)} copy(%p)
  %all = f32[4,100]{1,0:T(8,128)} all-reduce(%near), replica_groups={}, to_apply=%add.1
  %token = token[] after-all()
  %sent = token[] outfeed(%all, %token), outfeed_config=""
  ROOT %both = (f32[1,100]{1,0:T(8,128)}, f32[4,100]{1,0:T(8,128)}) tuple(%picked, %all)
}
"""


def test_bytes_are_padded_and_only_those_of_main_memory_count():
    program = hlo.parse(TEXT)
    padded = 8 * 128 * 4
    (whole,) = program.entry.instructions["p"].results
    assert whole.bytes == padded
    # A slice is read and written, by a number; the copy reads, the sum over devices writes, the
    # host reads.
    assert figures.figures(program).traffic == 2 * padded + 3 * padded + 4
    assert figures.figures(program).collectives == {"all-reduce": padded}
    assert figures.figures(program).kernels == 4
    assert figures.host_transfers(program) == ["sent"]
    assert figures.dtypes(program) == {"f32", "s32", "token"}


COLLECTIVES = """\
ENTRY %main (a: f32[4], b: bf16[2,2]) -> f32[3,8] {
  %a = f32[4]{0} parameter(0)
  %b = bf16[2,2]{1,0} parameter(1)
  %both = (f32[4]{0}, bf16[2,2]{1,0}) all-reduce(%a, %b), to_apply=%add
  %started = (f32[4]{0}, f32[16]{0}) all-gather-start(%a), dimensions={0}
  %gathered = f32[16]{0} all-gather-done(%started)
  %moved = pred[5]{0} collective-permute(%c)
  ROOT %sum = f32[3,8]{1,0} all-reduce(%x), channel_id=1, to_apply=%add
}
"""


def test_collectives_count_with_what_they_result_in():
    program = hlo.parse(COLLECTIVES.replace("(%c)", "(%a)").replace("(%x)", "(%b)"))
    expected = {"all-reduce": 16 + 8 + 96, "all-gather": 64, "collective-permute": 5}
    assert figures.figures(program).collectives == expected


ON_TPUS = """\
%begin (p: f32[4]) -> (f32[4], f32[32], u32[]) {
  %p = f32[4]{0} parameter(0)
  %gathered = f32[32]{0} all-gather(%p), dimensions={0}
  ROOT %begun = (f32[4]{0}, f32[32]{0}, u32[]) custom-call(%gathered), custom_call_target="START"
}

%beside (p: f32[4], q: f32[32]) -> f32[32] {
  %p = f32[4]{0} parameter(0)
  %q = f32[32]{0} parameter(1)
  ROOT %gathered = f32[32]{0} all-gather(%p), dimensions={0}
}

ENTRY %main (a: f32[4]) -> f32[32] {
  %a = f32[4]{0} parameter(0)
  %sent = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%a)
  %begun = (f32[4]{0}, f32[32]{0}, u32[]) fusion(%a), kind=kCustom, calls=%begin
  %whole = f32[32]{0} get-tuple-element(%begun), index=1
  ROOT %goes_on = f32[32]{0} fusion(%a, %whole), kind=kOutput, calls=%beside
}
"""


def test_a_tpus_collective_counts_where_it_starts():
    """And not in the products that it goes on beside, nor with the counters of its start."""
    text = ON_TPUS.replace("START", "AsyncCollectiveStart")
    found = figures.figures(hlo.parse(text)).collectives
    assert found == {"collective-permute": 16, "all-gather": 128}


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="expected the text of a compiled program, found no ENTRY"):
        hlo.parse("HloModule empty")


@pytest.mark.skipif(targets.is_installed("v5e"), reason="its compiler is installed")
def test_a_missing_compiler_is_named():
    with pytest.raises(UserError, match=r"v5e: expected the package libtpu .*compile-for"):
        targets.devices("v5e")
