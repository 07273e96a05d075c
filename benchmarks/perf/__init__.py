"""The speed of training steps.

The modules measure; what prints and writes is in `benchmarks.perf.command`, the command `perf`.
"""
