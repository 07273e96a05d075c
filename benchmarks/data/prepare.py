"""`python -m benchmarks prepare`: writes a folder of images in the format of TFDS."""

import contextlib
import io
import pathlib
from typing import Any

import tensorflow_datasets as tfds
from rich.console import Console

from benchmarks.config import Prepare
from benchmarks.data import builders, image_folder, npy_folder, specs
from benchmarks.data.new_folder import new_folder
from benchmarks.errors import UserError
from benchmarks.progress_bar import counting


def prepare(config: Prepare, console: Console) -> None:
    """Checks a folder and prepares its data; after an error, no output is left."""
    name, source = config.dataset, config.source
    is_dense = name in specs.DENSE
    spec: Any = specs.DENSE[name] if is_dense else specs.OFFICE[name]
    if not source.is_dir():
        raise UserError(f"--source {source} is not a folder: expected {spec.where}")
    folder: Any = (npy_folder if is_dense else image_folder).check(source, name)
    if folder.is_sample:
        console.print(f"{source} is sample data, not the real {spec.title}", soft_wrap=True)
    else:
        for part, count in folder.counts.items():
            if count != spec.counts[part]:
                console.print(
                    f"note: {count:,} images of {part}, where {spec.title} has "
                    f"{spec.counts[part]:,}: figures will not be comparable",
                    soft_wrap=True,
                )

    target = prepared_path(config.out, name)
    with new_folder(target) as temporary:
        with counting(console, spec.title, sum(folder.counts.values())) as tick:
            builder = builders.BUILDERS[name](folder=folder, tick=tick, data_dir=temporary)
            _run(builder, source, console)
        builder.data_path.rename(temporary / "done")
    counts = ", ".join(f"{count:,} {part}" for part, count in folder.counts.items())
    console.print(f"{spec.title} prepared in {target}: {counts}", soft_wrap=True)


def prepared_path(data_dir: pathlib.Path, name: str) -> pathlib.Path:
    """The folder of a prepared data set."""
    return data_dir / name / specs.VERSION


def _run(builder: tfds.core.DatasetBuilder, source: pathlib.Path, console: Console) -> None:
    tfds.disable_progress_bar()
    console.file = console.file  # Keeps the progress bar while the output of TFDS is hidden.
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=source)
            )
    except (UserError, ModuleNotFoundError):
        raise
    except Exception as error:  # disk errors, and errors of TFDS, which are not documented
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"could not prepare {builder.name} from {source}: {line}") from error
