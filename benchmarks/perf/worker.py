"""A program in another Python interpreter that answers requests line by line."""

import pathlib
import subprocess
from typing import Self

from benchmarks.errors import UserError


class Worker:
    """A script that runs in another Python interpreter; leaving the context ends it.

    Args:
      python: path of the interpreter.
      script: path of the script, which first prints a line with its version, and then answers each
        line of its standard input with one line.
      arguments: arguments of the script.

    Raises:
      UserError: if the script cannot be run or ends unexpectedly.
    """

    def __init__(self, python: pathlib.Path, script: pathlib.Path, *arguments: object) -> None:
        self._name = script.name
        try:
            self._process = subprocess.Popen(
                [python, script, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            raise UserError(f"--torch-python: cannot run {python}: {error.strerror}") from error
        self.version = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(self, request: str) -> str:
        """Sends a request and returns the answer."""
        if self._process.stdin is None:
            raise RuntimeError("the worker has no standard input")
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the script."""
        self._process.communicate()

    def _answer(self) -> str:
        answer = self._process.stdout.readline() if self._process.stdout else ""
        if not answer:
            _, errors = self._process.communicate()
            last = errors.strip().splitlines()[-1:] or ["it ended without a word"]
            raise UserError(f"--torch-python: {self._name} failed: {last[0]}")
        return answer.strip()
