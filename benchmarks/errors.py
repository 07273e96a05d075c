"""Errors that the command line reports to its user."""


class UserError(Exception):
    """A mistake of the user's surroundings.

    The command line prints it as one line, without traceback.
    """
