"""The tables and figures of the paper: what each of them needs, and how it is made."""
