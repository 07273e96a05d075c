"""What networks learn from images: losses, and metrics that add up over batches.

Every task is a `Task`. All of its functions but `metrics` can be jitted; the totals of batches are
summed, and `metrics` makes the figures of a whole split out of the sum.
"""

from benchmarks.tasks.classification import CLASSIFICATION
from benchmarks.tasks.depth import DEPTH
from benchmarks.tasks.normals import NORMALS
from benchmarks.tasks.segmentation import SEGMENTATION
from benchmarks.tasks.task import Task

__all__ = ["CLASSIFICATION", "DEPTH", "NORMALS", "SEGMENTATION", "Task"]
