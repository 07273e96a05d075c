"""Loss balancing: transformations [T, …] → [T, …] that scale each task's gradients by a weight."""
