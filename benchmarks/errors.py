"""Errors that the command line reports to its user."""


class UserError(Exception):
    """An error that the user can fix, such as a wrong option, a missing file or a full disk.

    The command line prints it as one line, without a traceback.
    """


def how_to_install(extra: str) -> str:
    """Says how to install the packages of an extra of `pyproject.toml`, such as "vision".

    The extras belong to a checkout, as the wheel of `dbmtl_jax` does not contain `benchmarks`.
    """
    return f"run `pip install -e '.[{extra}]'` in the folder of the checkout"
