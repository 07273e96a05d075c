"""The machine that trains."""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax


def environment() -> dict[str, Any]:
    """The software and hardware that results may depend on."""
    packages = ("dbmtl_jax", "flax", "jax", "jaxlib", "numpy", "optax")
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "python": platform.python_version(),
        "versions": versions,
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "cpu_count": os.cpu_count(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    here = pathlib.Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None
