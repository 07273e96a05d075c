"""Python processes that never outlive the test that starts them."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

PYTHON = sys.executable
_ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def started(
    *arguments: str, program: str = PYTHON, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process whose two outputs are one pipe; it and those that it starts end with the block.

    Nothing waits for a fixed time: on a busy machine everything takes longer.

    Args:
      arguments: of the program.
      program: in whose search path this Python comes first.
      environment: variables beside those of this process.
    """
    path = os.pathsep.join([str(pathlib.Path(PYTHON).parent), os.environ.get("PATH", "")])
    with subprocess.Popen(
        [program, *arguments],
        cwd=_ROOT,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(_ROOT)} | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """Waits for the end of a process, which must be this one; what it printed."""
    printed, _ = process.communicate()
    assert process.returncode == status, printed[-4000:]
    return printed


def printed_by(*arguments: str) -> str:
    """What a process prints that must not fail, without its errors."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
