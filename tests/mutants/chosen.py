"""Which tests are run against a fault in a module: few, and the quick ones first."""

import pathlib

ROOT = pathlib.Path(__file__).parent.parent.parent
FAMILIES = ("gradient_balancing", "loss_balancing", "hybrid_balancing")

# Methods whose tests are not found by the name of their file.
KEYWORDS = {
    "_aligned_mtl": "aligned_mtl or alignedmtl",
    "_con_fig": "con_fig or config or identities",
    "_db_mtl": "db_mtl or log",
    "_dual_proj": "(dual_proj or dualproj) and not (forty or conflict_with)",
    "_ew": "ew or sum_tasks or sum",
    "_fair_grad": "fair_grad or fairgrad",
    "_grad_vac": "grad_vac or gradvac or pairwise",
    "_igbv2": "igbv2",
    "_imtl": "imtl",
    "_imtl_g": "imtl_g or imtlg",
    "_imtl_l": "imtl_l or learnt",
    "_learnt": "uw or imtl_l",
    "_log_loss": "log",
    "_nash_mtl": "nash",
    "_pairwise": "pairwise or pcgrad or grad_vac or random",
    "_pcgrad": "pcgrad or pairwise",
    "_sdmgrad": "sdmgrad or who_cannot",
    "_upgrad": "upgrad and not (forty or cr_mogm or conflict_with or _exact])",
}

METHODS = (
    "tests/test_methods.py",
    "tests/test_properties.py",
    "tests/test_bad_input.py",
    "tests/test_bad_tasks.py",
)

SLOW = (
    "-1] or -2] or 11] or [1] or [2] or T2] or as_if_masked or igbv2 or every_method or own_keep "
    "or spike or solved_task or objectives or best_direction"
)
"""Tests of many methods or many programs, all of which a fault that nobody notices compiles; and
of the numbers of tasks, and the recorded runs, those other than 3."""

STREAMING = (
    "tests/engine/test_streaming.py",
    "tests/engine/test_streaming_bad_rows.py",
    "tests/engine/test_streaming_use.py",
)
ISOLATION = ("tests/engine/test_isolation.py",)
NARROW = "not (float64 or methods_name or every_mode)"

FILES: dict[str, tuple[str, ...]] = {
    "gradient_balancing/_balance_magnitudes.py": (
        "tests/test_methods.py",
        "tests/gradient_balancing",
        "tests/hybrid_balancing",
        "tests/test_bad_input.py",
        "tests/test_bad_tasks.py",
        "-k",
        f"((magnitude or normalised) and not ({SLOW})) or (one_task_less and db_mtl)",
    ),
    "gradient_balancing/_moco.py": (
        "tests/gradient_balancing",
        *METHODS,
        "tests/engine/test_representation.py",
        "-k",
        f"moco and not ({SLOW})",
    ),
    "gradient_balancing/_normalize_rows.py": (
        "tests/gradient_balancing/test_normalize_rows.py",
        "tests/core/test_measured.py",
        "-k",
        "normalize_rows or parts_measure",
    ),
    "hybrid_balancing/_imtl.py": (
        "tests/test_methods.py",
        "tests/gradient_balancing",
        "tests/core/test_measured.py",
        "-k",
        f"imtl and not (those_of_the_measured or {SLOW})",
    ),
    "hybrid_balancing/_db_mtl.py": (
        "tests/hybrid_balancing",
        "tests/test_methods.py",
        "-k",
        "reference_in_float64 or epsilon or schedule or may_be_chosen or debiased or golden "
        "or plain_log or (default and db_mtl)",
    ),
    "loss_balancing/_constant.py": (
        "tests/loss_balancing/test_loss_balancing.py",
        "tests/test_methods.py",
        "-k",
        "constant or numbers_and_optimizers",
    ),
    "loss_balancing/_famo.py": (
        "tests/loss_balancing",
        "tests/gradient_balancing/test_beyond_the_paper.py",
        *METHODS,
        "-k",
        f"(famo or large_as_numbers) and not ({SLOW})",
    ),
    "loss_balancing/_stch.py": (
        "tests/loss_balancing",
        "tests/gradient_balancing/test_beyond_the_paper.py",
        "tests/core/test_preference.py",
        *METHODS,
        "-k",
        f"(stch or large_as_numbers or numbers_and_optimizers) and not ({SLOW})",
    ),
    "loss_balancing/_igbv2.py": (
        "tests/loss_balancing/test_igbv2.py",
        "tests/loss_balancing/test_loss_balancing.py",
        "-k",
        "checked or traced or smallest or when_due or empty or warming or overflows or none_to "
        "or absent_task or (own_parameters and igbv2)",
    ),
    "loss_balancing/_soft_actor_critic.py": ("tests/loss_balancing/test_soft_actor_critic.py",),
    "core/_checks.py": (
        "tests/test_bad_input.py",
        "tests/test_bad_tasks.py",
        "tests/core/test_names.py",
        "tests/core/test_precision.py",
        "tests/gradient_balancing",
        "-k",
        "losses_and_their or no_array or refused or checked or mixed or broadcasts or own_leaves "
        "or leading_axis or stand_still",
    ),
    "core/_gradient_balancer.py": (
        "tests/core/test_seam.py",
        "tests/loss_balancing/test_bad_losses.py",
        "tests/gradient_balancing",
        "tests/engine/test_streaming_costs.py",
        "-k",
        "(seam and not own_keep) or not_finite or unweighted or passes_of_chains",
    ),
    "core/_gramian.py": (
        "tests/core/test_gramian.py",
        "tests/core/test_seam.py",
        "-k",
        "not own_keep",
    ),
    "core/_interior_point.py": (
        "tests/core/test_interior_point.py",
        "tests/gradient_balancing",
        "-k",
        f"interior or (golden and (mgda or cagrad)) or (finds_the_point and not ({SLOW}))",
    ),
    "core/_labels.py": (
        "tests/test_bad_input.py",
        "tests/test_bad_tasks.py",
        "tests/core/test_names.py",
        "tests/core/test_frozen.py",
        "tests/core/test_measured.py",
        "tests/test_contract.py",
        "tests/hybrid_balancing",
        "tests/engine/test_engine.py",
        "-k",
        "(labels or bad_values or parts_measure or own_ or plain_log or auxiliary or params_like) "
        f"and not ({SLOW})",
    ),
    "core/_learnt_weights.py": (
        "tests/loss_balancing/test_loss_balancing.py",
        "tests/loss_balancing/test_bad_losses.py",
        "-k",
        f"(learnt or alone or uw or optimizers) and not ({SLOW})",
    ),
    "core/_loss_balancer.py": (
        "tests/core/test_seam.py",
        "tests/loss_balancing/test_bad_losses.py",
        "tests/loss_balancing/test_loss_balancing.py",
        "tests/test_bad_input.py",
        "tests/test_bad_tasks.py",
        "-k",
        f"(seam or losses or gls or log) and not ({SLOW})",
    ),
    "core/_min_norm.py": (
        "tests/core/test_gramian.py",
        "tests/test_bad_input.py",
        "tests/test_bad_tasks.py",
        "tests/gradient_balancing",
        "-k",
        f"(golden or zero or finds or options or (debug_nans and mgda)) and not ({SLOW})",
    ),
    "core/_names.py": (
        "tests/core/test_names.py",
        "tests/core/test_preference.py",
        "tests/test_bad_input.py",
        "tests/test_bad_tasks.py",
        "-k",
        "(name and not every_method) or numbers_of or traced",
    ),
    "core/_other_batches.py": (
        "tests/gradient_balancing/test_other_batches.py",
        "tests/gradient_balancing/test_beyond_the_paper.py",
        "-k",
        "other_batches or steps_are_those or modo",
    ),
    "core/_parts.py": (
        "tests/core/test_seam.py",
        "tests/test_diagnostics.py",
        "tests/test_bad_input.py",
        "tests/test_bad_tasks.py",
        *STREAMING,
        "tests/engine/test_representation.py",
        "-k",
        "(seam and not own_keep) or (fields and grad_drop and alone) or shared_part "
        "or (spoilt and (ew or grad_drop))",
    ),
    "core/_random.py": ("tests/core/test_random.py",),
    "core/_rows.py": (
        "tests/core/test_precision.py",
        "tests/core/test_seam.py",
        "tests/hybrid_balancing",
        *STREAMING,
        "tests/test_contract.py",
        "-k",
        "stay_together or precision or (own and not own_keep) or fused or scales "
        "or scaling_leaves or accumulate",
    ),
    "core/_simplex.py": ("tests/gradient_balancing", "-k", "simplex"),
    "core/_task_ema.py": (
        "tests/core/test_seam.py",
        "tests/hybrid_balancing",
        "tests/test_bad_input.py",
        "tests/test_bad_tasks.py",
        "tests/test_contract.py",
        "tests/test_methods.py",
        "-k",
        f"(task_ema or average or beta or schedule or never_came or precision or do_not_fit "
        f"or may_be_chosen) "
        f"and not (methods_name or {SLOW})",
    ),
    "core/_task_linalg.py": (
        "tests/core",
        "tests/test_task_grad_statistics.py",
        "tests/hybrid_balancing",
        "tests/gradient_balancing/test_other_batches.py",
        "-k",
        "linalg or statistics or precision or may_be_chosen or complex_batches "
        "or (count_for and 40) or (seam and not own_keep)",
    ),
    "core/_tasks.py": (
        "tests/core/test_seam.py",
        "tests/test_bad_input.py",
        "tests/test_bad_tasks.py",
        "tests/loss_balancing/test_loss_balancing.py",
        "tests/hybrid_balancing",
        *STREAMING,
        "-k",
        "(seam or missing or stays_so or own_parameters or plain_log or reads_beyond "
        f"or (one_task_less and mgda)) and not ({SLOW})",
    ),
    "core/_transformation.py": (
        "tests/core/test_seam.py",
        "tests/test_diagnostics.py",
        "tests/loss_balancing/test_bad_losses.py",
        "tests/test_bad_input.py",
        "tests/test_bad_tasks.py",
        *STREAMING,
        "tests/engine/test_streaming_costs.py",
        "-k",
        "shared_part or (passes_of_a_method and db_mtl) or (seam and not own_keep) or nobody "
        "or keeps_of_absent or (last_cause and uw) or streak or saturate or another_methods_state "
        "or are_not_finite",
    ),
    "core/_usable.py": (
        "tests/test_diagnostics.py",
        "tests/loss_balancing/test_bad_losses.py",
        "tests/test_bad_tasks.py",
        "tests/engine/test_streaming_bad_rows.py",
        "tests/engine/test_representation.py",
        "tests/composition/test_refresh_weights.py",
        "-k",
        "nobody or norms_and_weights or (last_cause and uw) or are_not_finite or keeps_of_absent "
        "or bad_slice or is_lost or (infinite_derivative and mgda) or parts_of_db_mtl "
        "or (raises and infinite) or (spoilt and mgda) or otherwise or exclude_each",
    ),
    "engine/_shard_map.py": (
        "tests/engine/test_shard_map.py",
        "tests/engine/test_representation.py",
        "tests/test_devices.py",
        "-k",
        "test_shard_map or from_device_to or inside",
    ),
    "engine/_task_map.py": (
        "tests/engine/test_engine.py",
        *STREAMING,
        "-k",
        "auto or options or chunk or first_axes or float32 or platform or every_way",
    ),
    "engine/_per_task.py": (
        "tests/engine/test_per_task.py",
        "tests/engine/test_engine.py",
        "tests/core/test_names.py",
        "-k",
        "test_per_task or (per_task and not float64) or auxiliary or options or function",
    ),
    "engine/_encoder.py": (
        "tests/engine/test_engine.py",
        "tests/engine/test_representation.py",
        "tests/core/test_names.py",
        *STREAMING,
        "tests/test_devices.py",
        "-k",
        "(encoder and not (float64 or igbv2)) or auxiliary or options or by_its_name or inside "
        "or may_be_a_tree or other_labels or unknown_wrt",
    ),
    "engine/_of_representation.py": (
        "tests/engine/test_representation.py",
        "-k",
        "(mgda and not needs) or integers or named_heads or frozen or stacked_gives or device",
    ),
    "engine/_representation.py": (
        "tests/engine/test_representation.py",
        "-k",
        "(mgda and not needs) or heads_are_as or norms[False-gradients] or refuse or exclude "
        "or not_those_of_heads",
    ),
    "engine/_task_arguments.py": ("tests/engine/test_per_task.py",),
    "engine/_separate.py": (
        *ISOLATION,
        "tests/engine/test_engine.py",
        "-k",
        "loss_alone or arithmetic or losses_ or hides or one_loss",
    ),
    "engine/_derivative.py": (
        *ISOLATION,
        "tests/engine/test_streaming.py",
        "-k",
        "loss_alone or every_ill or hides or same_loss or reads_no or identity_is or head_that "
        "or beyond_what or without_forward",
    ),
    "engine/_own.py": (
        *ISOLATION,
        "tests/engine/test_streaming.py",
        "tests/engine/test_streaming_costs.py",
        "tests/engine/test_convolution.py",
        "-k",
        "loss_alone or reads_no or labelled or without_a_derivative or hides or own_do_not "
        "or (no_stacked and pcgrad) or unrolled or layout[loop-NHWC]",
    ),
    "engine/_jacobian.py": (
        *ISOLATION,
        "tests/engine/test_streaming.py",
        "tests/engine/test_streaming_costs.py",
        "tests/engine/test_per_task.py",
        "tests/engine/test_convolution.py",
        "tests/engine/test_engine.py",
        "-k",
        "complex_gradients or multiply or unrolled or runs_once or reads_no "
        "or beyond_what or without_forward or scaling_leaves or scaled "
        "or own_do_not or culprit_is or (no_stacked and pcgrad) or same[pcgrad-loop] or dense-13",
    ),
    "engine/_pending.py": (
        "tests/engine/test_streaming_use.py",
        "tests/engine/test_streaming.py",
        "tests/engine/test_representation.py",
        "tests/test_nnx.py",
        "-k",
        "other_transformations or maps_over or scaled_heads or scaling_leaves or stacked_gives "
        "or not_those_of_heads or as_stacked_ones",
    ),
    "engine/_pending_rows.py": (
        "tests/engine/test_streaming.py",
        "tests/engine/test_streaming_bad_rows.py",
        "tests/engine/test_streaming_use.py",
        "tests/engine/test_convolution.py",
        "-k",
        "beyond_what or without_forward or same[pcgrad-loop] or same[db_mtl-unroll] "
        "or found[db_mtl-loop] or same_way or unrolled",
    ),
    "engine/_pending_slices.py": (
        "tests/engine/test_per_task.py",
        "tests/engine/test_streaming.py",
        "tests/engine/test_streaming_bad_rows.py",
        "-k",
        "loop_that_streams or may_be_scaled or same[uw-slices] or bad_slice",
    ),
    "engine/_value_and_task_grads.py": (
        "tests/engine/test_streaming_use.py",
        "tests/engine/test_engine.py",
        "-k",
        "auto_tells or options_are or auxiliary",
    ),
    "engine/_jaxpr.py": (
        "tests/engine/test_jaxpr.py",
        *ISOLATION,
        "tests/engine/test_engine.py",
        "-k",
        NARROW,
    ),
    "engine/_losses.py": (
        "tests/core/test_names.py",
        "tests/engine/test_engine.py",
        "tests/test_nnx.py",
        "-k",
        "(test_names and not every_method) or (test_value_and and float32 and loop) "
        "or another_shape or no_gradient or other_functions",
    ),
}

ENGINE = (*ISOLATION, "tests/engine/test_engine.py", "-k", NARROW)
"""Of a module without tests of its own."""


def tests_of(module: str) -> tuple[str, ...]:
    """What pytest is called with for a module, whose name is relative to the library."""
    family, _, file = module.partition("/")
    own = (f"dbmtl_jax/{module}",)
    if module in FILES:
        chosen = FILES[module]
    elif family in FAMILIES:
        stem = file.removesuffix(".py")
        words = KEYWORDS.get(stem, stem.strip("_"))
        which = f"({words}) and not ({SLOW})"
        chosen = (f"tests/{family}", *METHODS, "-k", which)
        if family == "gradient_balancing":
            measured = "tests/core/test_measured.py"
            chosen = (f"tests/{family}", *METHODS, measured, "-k", f"{which} and not streaming]")
    elif (ROOT / (named := f"tests/{family}/test{file}")).exists():
        chosen = (named,)
    else:
        chosen = ENGINE if family == "engine" else ("tests/core",)
    if "-k" in chosen:  # the examples of the module itself are always run
        chosen = (*chosen[:-1], f"({chosen[-1]}) or dbmtl_jax")
    return own + chosen
