"""Python processes that never outlive the test that starts them."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process whose two outputs are one pipe; at the end it is killed if it still runs.

    Nothing waits for a fixed time: on a busy machine everything takes longer.
    """
    command = [sys.executable, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


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
