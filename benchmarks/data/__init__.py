"""Data sets: what the networks are trained and judged on."""
