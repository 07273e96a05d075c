"""Lets go of compiled programs before there are too many of them.

Each keeps three regions of memory mapped, of which Linux allows a process 65,530; beyond that XLA
ends in a segmentation fault while it compiles.  JAX's own cache of calls has room for 8,192; when
it is full, new functions are not kept.  Workers that run thousands of tests come to both, to the
second before they have 30,000 regions.
"""

import pathlib

import jax

MOST = 15_000
_MAPS = pathlib.Path("/proc/self/maps")


def mapped_regions() -> int:
    """The number of them; 0 where the system does not tell."""
    return len(_MAPS.read_bytes().splitlines()) if _MAPS.exists() else 0


def let_go(most: int = MOST) -> None:
    """Clears JAX's caches if this process has more mapped regions than `most`."""
    if mapped_regions() > most:
        jax.clear_caches()
