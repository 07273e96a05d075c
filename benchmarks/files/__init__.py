"""Files, one module for each format: what is written whole, and what may be damaged when read.

Readers raise `UserError`, which names the file, what was expected there and what was found. What a
file contains may be anything at all, as it may be damaged, or of another program.
"""
