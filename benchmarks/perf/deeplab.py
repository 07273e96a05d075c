"""DeepLab with the three tasks of NYUv2, which is compiled for accelerators but not timed here."""

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.errors import UserError
from benchmarks.networks.deeplab import DeepLab
from benchmarks.networks.functional import functional
from benchmarks.networks.multi_task import split_tasks
from benchmarks.perf.network import Network, encoder_with_heads
from benchmarks.problems.dense.problem import FIELDS
from benchmarks.tasks import DEPTH, NORMALS, SEGMENTATION

_SIZE = (288, 384)
_BATCH = 8
_TASKS = (SEGMENTATION, DEPTH, NORMALS)
_OUTPUTS = (13, 1, 3)


def deeplab(num_tasks: int) -> Network:
    """DeepLab as the paper trains it: a ResNet-50 and three heads, 8 images of 288 × 384 pixels.

    Raises:
      UserError: unless `num_tasks` is 3.
    """
    if num_tasks != len(_TASKS):
        raise UserError(f"--num-tasks: deeplab has 3 tasks, found {num_tasks}")
    skeleton = nnx.eval_shape(lambda: DeepLab(_OUTPUTS, rngs=nnx.Rngs(0)))
    _, *shapes = functional(skeleton)
    # Zeros, as nothing is run.
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    params, batch_stats = (split_tasks(tree, num_tasks) for tree in zeros)
    encoder = functional(skeleton.encoder).apply
    heads = [functional(head).apply for head in skeleton.heads]
    key = jax.random.key(0)

    def encode(params, batch):
        return encoder(params, batch_stats[0], batch["image"], train=True, rng=key)[0]

    def head(task):
        def loss(params, z, batch):
            output, _ = heads[task](params, batch_stats[1][task], z, _SIZE, train=True, rng=key)
            return _TASKS[task].loss(output, batch[FIELDS[_TASKS[task].name]])

        return loss

    batch = {
        "image": jnp.zeros((_BATCH, *_SIZE, 3)),
        "label": jnp.zeros((_BATCH, *_SIZE), jnp.int32),
        "depth": jnp.zeros((_BATCH, *_SIZE, 1)),
        "normal": jnp.zeros((_BATCH, *_SIZE, 3)),
    }
    return encoder_with_heads(params, batch, encode, [*map(head, range(num_tasks))], _is_last)


def _is_last(path: str) -> bool:
    """Whether the path is one of the last convolution."""
    return path.startswith("0/layer4/2/conv3/")
