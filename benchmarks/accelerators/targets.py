"""The accelerators that JAX compiles for without having one.

XLA's compiler for TPUs is in libtpu, that for GPUs in JAX's CUDA plugin with a description of the
card. Both are optional: `pip install 'dbmtl_jax[compile-for]'`.
"""

import importlib.util
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from benchmarks.errors import UserError, look_up

_GIB = 2**30


class Target(NamedTuple):
    """A device to compile for."""

    kind: str  # as JAX names it
    platform: str  # "tpu" or "cuda"
    topologies: tuple[str, ...]  # by the number of devices, the smallest that there is first
    memory: int  # bytes that a program may use on a device, by its maker
    needs: str  # the module that compiles for it


TARGETS = {
    "v5e": Target("TPU v5e", "tpu", ("v5e:2x2", "v5e:2x4"), 16 * _GIB, "libtpu"),
    "v5p": Target("TPU v5p", "tpu", ("v5p:2x2x1",), 95 * _GIB, "libtpu"),
    "v6e": Target("TPU v6e", "tpu", ("v6e:2x2", "v6e:2x4"), 32 * _GIB, "libtpu"),
    "h100": Target("H100", "cuda", ("1x1x1",), 84_942_979_072, "jax_cuda12_plugin"),
}

_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  cuda_compute_capability { major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
runtime_version { major: 12 minor: 8 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def find(name: str) -> Target:
    """The accelerator of a name.

    Raises:
      UserError: if there is none.
    """
    return look_up(name, TARGETS, "target")


def prepare() -> None:
    """Says that this machine has no accelerator. To be called before JAX looks for its devices."""
    os.environ.update(
        JAX_PLATFORMS="cpu",
        # libtpu asks the machine that it runs on what TPU it has, and locks it.
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",
        TPU_ACCELERATOR_TYPE="v5litepod-4",
        TPU_SKIP_MDS_QUERY="1",
        TPU_WORKER_HOSTNAMES="localhost",
    )
    jax.config.update("jax_platforms", "cpu")


def is_installed(name: str) -> bool:
    """Whether there is a compiler for a target."""
    return importlib.util.find_spec(TARGETS[name].needs) is not None


def devices(name: str, number: int = 1) -> Sequence[Any]:
    """Devices to compile for, after `prepare`. Shapes may lie on them, arrays may not.

    Args:
      name: one of `TARGETS`.
      number: how many.

    Raises:
      UserError: without a compiler for the target, if there is no target with so many, or if JAX
        has looked for devices before `prepare`.
    """
    target = TARGETS[name]
    if not is_installed(name):
        raise UserError(
            f"{name}: expected the package {target.needs} to compile for it, found none; "
            "`pip install 'dbmtl_jax[compile-for]'` has it"
        )
    options = {"target_config": _H100} if target.platform == "cuda" else {}
    for topology in target.topologies:
        named = "topology" if target.platform == "cuda" else "topology_name"
        try:
            found = topologies.get_topology_desc(
                platform=target.platform, **{named: topology}, **options
            ).devices
        except NotImplementedError as error:
            raise UserError(
                f"{name}: JAX looked for devices before it knew that there are none; start with "
                "JAX_PLATFORMS=cpu in the environment"
            ) from error
        if len(found) >= number:
            return found[:number]
    raise UserError(f"{name}: expected at most {len(found)} devices, found {number}")


def mesh(name: str, shape: Sequence[int], axes: Sequence[str]) -> Mesh:
    """A mesh of devices to compile for.

    Raises:
      UserError: as `devices`.
    """
    grid = np.asarray(devices(name, int(np.prod(shape)))).reshape(shape)
    return Mesh(grid, axes, axis_types=(AxisType.Auto,) * len(axes))
