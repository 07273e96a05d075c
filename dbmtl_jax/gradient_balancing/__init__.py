"""Gradient balancing: transformations [T, …] → […] that merge the tasks' gradients into one."""
