"""The report of a study: a table of all runs, all plots, and pictures of examples."""

from matplotlib.figure import Figure

from benchmarks import examples_file, methods
from benchmarks.report.figures import figure_files, pictures, plots
from benchmarks.report.records import choice, setting
from benchmarks.report.records.columns import marked
from benchmarks.report.records.study import Study
from benchmarks.report.rendered import Rendered
from benchmarks.report.tables import comparison


def title(study: Study) -> str:
    """The data set, network and protocol in one line, marked if the data are sample data."""
    return marked(
        setting.title(study.settings) if study.settings else study.title, study.sample_data
    )


def make(study: Study, *, figures: bool = True) -> Rendered:
    """Makes the table of all runs, all plots, and a picture for every method with examples."""
    drawn = {
        stem: figure_files.footnote(figure, study.provenance)
        for stem, figure in (plots.draw(study.outcomes) if figures else {}).items()
    }
    captions = dict(plots.CAPTIONS)
    for method, path in study.examples().items() if figures else ():
        stem = f"examples-{method}"
        name = methods.display_name(method)
        picture = _picture(study, examples_file.read(path))
        drawn[stem] = pictures.head(picture, f"{name}: {study.provenance}")
        captions[stem] = f"{name}: images of the test set, the truth and the prediction."
    return Rendered(
        name="table",
        title=title(study),
        caption=comparison.legend(study.outcomes),
        notes=(*study.notes, *comparison.agreement_notes(choice.headline(study.outcomes)[0])),
        table=comparison.table(study.outcomes, speed=True),
        figures=drawn,
        figure_captions=captions,
        settings=(study.provenance,),
        environment=tuple(study.environment),
    )


def _picture(study: Study, examples: examples_file.Examples) -> Figure:
    image, targets, predictions, names = examples
    if isinstance(image, dict):
        titles = study.columns.description.tasks
        titled = [
            {titles.get(task, task): array for task, array in arrays.items()}
            for arrays in (image, targets, predictions)
        ]
        return pictures.office(titled[0], titled[1], titled[2], names)
    labels = study.columns.description.targets
    return pictures.dense(image, targets, predictions, names, labels.get("depth", "depth"))
