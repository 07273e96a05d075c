"""`python -m benchmarks.kit`: measures and trains on a bare machine, one limited command at a time.

It needs jax, flax, optax, orbax-checkpoint and numpy. What a command writes is a few files of at
most 15 MiB, from which the next one goes on, on another machine if need be (docs/gpu_kit.md).
"""
