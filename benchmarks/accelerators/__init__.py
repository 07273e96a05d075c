"""Programs for accelerators that are not there: compiled, read, and never run."""
