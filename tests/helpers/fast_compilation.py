"""Has XLA compile quickly instead of well, as most of the tests' time is compilation.

The programs run once on tiny arrays. Without optimisation, without the emitters that go through
MLIR, and in one piece, a step of a network compiles in a seventh of the time.
"""

import os
import subprocess
import sys

FLAGS = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
_READ_FLAGS = (
    "from jaxlib import _jax; _jax.CompileOptions().executable_build_options.debug_options"
)


def set_flags() -> None:
    """Sets XLA_FLAGS, also for processes that start later, before JAX compiles anything.

    Flags that are set already stay as they are: `XLA_FLAGS= make test` compiles as users do.
    """
    if "XLA_FLAGS" in os.environ:
        return
    # A version of XLA that does not know a flag ends the process that reads it.
    flags = {"XLA_FLAGS": " ".join(FLAGS)}
    tried = subprocess.run(
        [sys.executable, "-c", _READ_FLAGS],
        env=os.environ | flags,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if tried.returncode == 0:
        os.environ.update(flags)
