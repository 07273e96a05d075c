"""The commands for image data: `prepare`, `convert-cityscapes` and `make-sample`."""

from rich.console import Console

from benchmarks.config import ConvertCityscapes, MakeSample, Prepare
from benchmarks.data import specs
from benchmarks.errors import UserError


def run(config: Prepare | ConvertCityscapes | MakeSample, console: Console) -> None:
    """Runs one of the commands."""
    try:
        if isinstance(config, Prepare):
            from benchmarks.data.prepare import prepare

            prepare(config, console)
        elif isinstance(config, MakeSample):
            from benchmarks.data.sample import make_sample

            make_sample(config, console)
        else:
            from benchmarks.data.convert_cityscapes import convert

            convert(config, console)
    except ModuleNotFoundError as error:
        raise UserError(
            f"image data need the package {error.name}, which is not installed: {specs.INSTALL}"
        ) from error
