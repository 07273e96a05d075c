"""The tables and figures, of the paper and others: what each needs, and what makes it."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.methods import BASELINE, PAPER, VARIANTS
from benchmarks.report.paper import bar_charts, beyond, comparisons, step_costs, training_curves
from benchmarks.report.paper.parts import Make


class StudyName(NamedTuple):
    """A data set and a network; the runs of a study are in one folder."""

    dataset: str
    network: str = ""
    """empty for the data sets that have only one network"""

    @property
    def key(self) -> str:
        """The name of the folder of the study."""
        return f"{self.dataset}-{self.network}" if self.network else self.dataset


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A table or figure."""

    title: str
    """what it is about, without its number"""
    methods: tuple[str, ...]
    """the methods that it shows, and the baseline that they are compared with"""
    studies: tuple[StudyName, ...]
    """the studies that the paper shows"""
    make: Make
    """function that makes its content from studies"""
    offline: tuple[StudyName, ...] = (StudyName("qm9"),)
    """studies to run if the data sets are missing: QM9 where any data set can show the effect, else
    the same data sets as rendered samples"""
    several: bool = False
    """whether it shows all of its studies; otherwise it shows the first that exists"""
    anywhere: bool = True
    """whether it shows other studies if those of the paper are missing"""
    timed: bool = False
    """whether it shows times of training steps, for which nothing is trained"""
    searched: bool = False
    """whether DB-MTL's forgetting rate is searched, as in the paper"""


QM9 = StudyName("qm9")
NYUV2 = StudyName("nyuv2", "deeplab")
CITYSCAPES = StudyName("cityscapes", "deeplab")
OFFICE31 = StudyName("office31")
OFFICEHOME = StudyName("officehome")
IMAGES = (NYUV2, CITYSCAPES, OFFICE31, OFFICEHOME)
_ARCHITECTURES = (StudyName("nyuv2", "cross_stitch"), StudyName("nyuv2", "mtan"))

_METHODS = tuple(VARIANTS.get(method, method) for method in PAPER if method != BASELINE)
_TENTHS = [f"0.{tenth}" for tenth in range(1, 10)]
_BETAS = (
    "db_mtl@beta=0",
    *(f"db_mtl@beta={beta}" for beta in _TENTHS),
    *(f"db_mtl@beta={beta},sigma=0.5" for beta in _TENTHS[:-1]),
    "db_mtl",
)
_ALPHAS = tuple(f"db_mtl@scale={scale}" for scale in ("1.0", "min", "mean", "median"))


def _table(title: str, *studies: StudyName) -> Exhibit:
    """All methods of the paper, a column for each metric."""
    return Exhibit(
        title,
        (BASELINE, *_METHODS),
        studies,
        comparisons.all_methods,
        offline=studies,
        several=len(studies) > 1,
        anywhere=False,
        searched=True,
    )


def _methods(*names: str) -> tuple[str, ...]:
    return BASELINE, *names


CATALOGUE: Mapping[str, Exhibit] = MappingProxyType(
    {
        "table1": _table("All methods on NYUv2", NYUV2),
        "table2": _table("All methods on Cityscapes", CITYSCAPES),
        "table3": _table("All methods on QM9", QM9),
        "table4": _table("All methods on Office-31 and Office-Home", OFFICE31, OFFICEHOME),
        "table5": Exhibit(
            "The components of DB-MTL",
            _methods(*comparisons.ABLATION),
            (*IMAGES, QM9),
            comparisons.ablation,
            offline=(*IMAGES, QM9),
            several=True,
        ),
        "table6": _table("All methods on NYUv2 with SegNet", StudyName("nyuv2", "segnet_mtan")),
        "figure1": Exhibit(
            "Gradient balancing on the logarithm of the losses",
            _methods(
                *bar_charts.WITH_LOG, *(f"log+{method}" for method in bar_charts.WITH_LOG), "db_mtl"
            ),
            (NYUV2,),
            bar_charts.with_log,
        ),
        "figure2": Exhibit(
            "The logarithm of the losses and IMTL-L",
            _methods("imtl_l", "log+ew"),
            IMAGES,
            bar_charts.pair(
                ("imtl_l", "log+ew"), "Two ways to balance the losses' scales, on every data set"
            ),
            several=True,
        ),
        "figure3": Exhibit(
            "DB-MTL's gradient balancing and GradNorm",
            _methods("grad_norm", "db_mtl@log_losses=false"),
            IMAGES,
            bar_charts.pair(
                ("grad_norm", "db_mtl@log_losses=false"),
                "Two ways to balance the gradients' magnitudes, on every data set",
            ),
            several=True,
        ),
        "figure4": Exhibit(
            "Other networks",
            _methods(*bar_charts.BY_TASK),
            _ARCHITECTURES,
            bar_charts.by_task,
            offline=_ARCHITECTURES,
            several=True,
            anywhere=False,
        ),
        "figure5": Exhibit(
            "The forgetting rate", _methods(*_BETAS), (OFFICE31,), training_curves.forgetting_rates
        ),
        "figure6": Exhibit(
            "What the gradients are scaled to",
            _methods("db_mtl", *_ALPHAS),
            (NYUV2,),
            bar_charts.strategies,
        ),
        "figure7": Exhibit(
            "What training costs", _methods(*_METHODS), (NYUV2,), step_costs.times, timed=True
        ),
        "figure8": Exhibit(
            "The tasks' gradients over training",
            _methods(*training_curves.PAIR),
            (NYUV2,),
            training_curves.over_epochs(
                "gradient_norms",
                "Norm of every task's gradient over training, of EW and DB-MTL, on the same "
                "training data in every epoch.",
            ),
        ),
        "figure9": Exhibit(
            "The tasks' losses over training",
            _methods(*training_curves.PAIR),
            (NYUV2,),
            training_curves.over_epochs(
                "losses", "Training loss of every task, of EW and DB-MTL: means of an epoch."
            ),
        ),
        "figure10": Exhibit(
            "The agreement of the tasks' gradients",
            _methods(*training_curves.PAIR),
            (OFFICE31,),
            training_curves.cosine_similarity,
        ),
    }
)
"""The exhibits of the paper by name."""

BEYOND: Mapping[str, Exhibit] = MappingProxyType(
    {
        "cheap_forms": Exhibit(
            "Cheap forms of methods", _methods(*beyond.FORMS), (QM9,), beyond.cheap_forms
        ),
        "learning_rates": Exhibit(
            "Methods at several learning rates",
            _methods(*beyond.RATES),
            (QM9,),
            beyond.learning_rates,
        ),
    }
)
"""Tables and figures that the paper does not have."""

EXHIBITS: Mapping[str, Exhibit] = MappingProxyType({**CATALOGUE, **BEYOND})
"""All exhibits by name."""
