"""A program in another Python interpreter that answers requests line by line."""

import contextlib
import pathlib
import subprocess
from collections.abc import Mapping
from typing import Self

from benchmarks.errors import UserError


class Worker:
    """A script that runs in another Python interpreter; leaving the context ends it.

    Args:
      python: its interpreter.
      script: it; says its version in the first line, then answers each line of standard input.
      arguments: of the script.
      blamed: the option that named it, with which errors begin.
      environment: of the process; None: as this one's.

    Raises:
      UserError: if the script cannot be run or ends unexpectedly.
    """

    def __init__(
        self,
        python: pathlib.Path,
        script: pathlib.Path,
        *arguments: object,
        blamed: str = "--torch-python",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name = script.name
        self._blamed = blamed
        try:
            self._process = subprocess.Popen(
                [python, script, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",  # what it writes may be anything
                env=environment,
            )
        except OSError as error:
            raise UserError(f"{blamed}: cannot run {python}: {error.strerror}") from error
        self.version = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(self, request: str) -> str:
        """Sends a request and returns the answer."""
        if self._process.stdin is None:
            raise RuntimeError("the worker has no standard input")
        with contextlib.suppress(BrokenPipeError):  # it has ended; why is said below
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
            silent = f"it ended without a word, exit status {self._process.returncode}"
            last = errors.strip().splitlines()[-1:] or [silent]
            raise UserError(f"{self._blamed}: {self._name} failed: {last[0]}")
        return answer.strip()
