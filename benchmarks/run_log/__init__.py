"""Results on disk: a file of JSON lines for each run, and the settings that all runs share.

A folder of results contains `config.json` and a file `{method}-seed{seed}.jsonl` for each run.
Every line is a record with a "kind": "start" (environment), "step" (training losses), "epoch"
(validation), and at the end "result" or "failed". Reports are made from these files alone.

`log` writes the file of a run, `records` reads it, `folder` knows which runs a folder has and their
settings, and `machine` describes where they were trained.
"""

from benchmarks.files.disk import disk_errors, make_folder, write_file
from benchmarks.run_log.folder import (
    Folder,
    check_settings,
    open_folder,
    read_folder,
    read_settings,
    run_files,
    run_path,
)
from benchmarks.run_log.log import HeldError, Mark, MutedLog, RunLog, is_held, wait
from benchmarks.run_log.machine import environment
from benchmarks.run_log.records import ENVIRONMENT, Records, has_result, is_complete, read_run

__all__ = [
    "ENVIRONMENT",
    "Folder",
    "HeldError",
    "Mark",
    "MutedLog",
    "Records",
    "RunLog",
    "check_settings",
    "disk_errors",
    "environment",
    "has_result",
    "is_complete",
    "is_held",
    "make_folder",
    "open_folder",
    "read_folder",
    "read_run",
    "read_settings",
    "run_files",
    "run_path",
    "wait",
    "write_file",
]
