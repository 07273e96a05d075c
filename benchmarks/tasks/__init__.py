"""The tasks on images: losses and metrics.

Every task is a `Task`. All of its functions except `metrics` can be jitted. The totals of all
batches are summed, and `metrics` computes the metrics of a whole split from the sum.
"""

from benchmarks.tasks.classification import CLASSIFICATION
from benchmarks.tasks.depth import DEPTH
from benchmarks.tasks.normals import NORMALS
from benchmarks.tasks.segmentation import SEGMENTATION
from benchmarks.tasks.task import Task

__all__ = ["CLASSIFICATION", "DEPTH", "NORMALS", "SEGMENTATION", "Task"]
