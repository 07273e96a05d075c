"""Memory that a program keeps between steps.

On Linux, glibc maps a large temporary anew whenever a step needs it, and gives it back afterwards.
Then the system clears each of its pages in each step, which takes longer than some steps compute.
"""

import ctypes
import sys

# Parameters of mallopt(3): numbers that glibc's malloc.h names.
_SETTINGS = {
    -4: 0,  # M_MMAP_MAX: no allocation is mapped by itself
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: free memory at the top stays
    -2: 2**28,  # M_TOP_PAD: the heap grows by so much at a time
    -8: 2,  # M_ARENA_MAX: threads share two heaps; with one, products wait for each other
}


def keep_memory() -> bool:
    """Has the C library keep the memory that is freed, for the next step.

    To be called before the memory is needed.  The program's memory does not shrink any more.

    Returns:
      Whether the C library could be told: False anywhere but on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    told = [mallopt(parameter, value) == 1 for parameter, value in _SETTINGS.items()]
    return all(told)
