"""Memory stays with the process between steps."""

import subprocess
import sys

import pytest

from benchmarks import allocator

_COUNT = """
import resource
from benchmarks import allocator
{told}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        bytearray(50_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone maps anew")
def test_freed_memory_is_not_mapped_anew():
    def count(told):
        code = _COUNT.format(told=told)
        return int(
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
        )

    assert count("allocator.keep_memory()") < count("") / 10


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_memory()


def test_a_library_without_the_function_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_memory()
