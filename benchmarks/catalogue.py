"""The tables and figures of the paper, and the runs that each of them needs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

from benchmarks.methods import BASELINE, PAPER
from benchmarks.settings import DenseNetwork


class Study(NamedTuple):
    """A data set and a network; the runs of a study are in one folder."""

    dataset: str
    network: str = ""
    """network of NYUv2 and Cityscapes; empty for the data sets that have only one network"""

    @property
    def key(self) -> str:
        """The name of the folder of the study."""
        return f"{self.dataset}-{self.network}" if self.network else self.dataset


class Exhibit(NamedTuple):
    """A table or figure of the paper."""

    title: str
    methods: tuple[str, ...]
    studies: tuple[Study, ...]
    offline: tuple[Study, ...]
    """studies to run if the data sets are missing: QM9 where any data set can show the effect, else
    the same data sets as rendered samples"""
    timed: bool = False
    """whether it shows times of training steps, for which nothing is trained"""
    searched: bool = False
    """whether DB-MTL's forgetting rate is searched, as in the paper"""


QM9 = Study("qm9")
NYUV2 = Study("nyuv2", "deeplab")
CITYSCAPES = Study("cityscapes", "deeplab")
OFFICE31 = Study("office31")
OFFICEHOME = Study("officehome")
IMAGES = (NYUV2, CITYSCAPES, OFFICE31, OFFICEHOME)

BETA_GRID = (
    "db_mtl@beta=0.1",
    "db_mtl@beta=0.5",
    "db_mtl@beta=0.9",
    "db_mtl@beta=0.1,sigma=0.5",
    "db_mtl@beta=0.5,sigma=0.5",
)
"""The forgetting rates that the paper searches (Section 4.1) besides that of `db_mtl`, 0.9/√k."""

_TENTHS = [f"0.{tenth}" for tenth in range(1, 10)]
_BETAS = (
    "db_mtl@beta=0",
    *(f"db_mtl@beta={beta}" for beta in _TENTHS),
    *(f"db_mtl@beta={beta},sigma=0.5" for beta in _TENTHS[:-1]),
    "db_mtl",
)
_BALANCERS = ("pcgrad", "grad_vac", "imtl_g", "cagrad", "nash_mtl", "aligned_mtl")
_ALPHAS = tuple(f"db_mtl@scale={scale}" for scale in ("1.0", "min", "mean", "median"))
_METHODS = tuple(method for method in PAPER if method != BASELINE)
_NO_LOG = "db_mtl@log_losses=false"


def _table(title: str, *studies: Study) -> Exhibit:
    return Exhibit(title, (BASELINE, *_METHODS), studies, studies, searched=True)


def _figure(
    title: str,
    methods: tuple[str, ...],
    *studies: Study,
    offline: Any = (QM9,),
    timed: bool = False,
) -> Exhibit:
    return Exhibit(title, (BASELINE, *methods), studies, offline, timed)


_ARCHITECTURES = (Study("nyuv2", "cross_stitch"), Study("nyuv2", "mtan"))

CATALOGUE: Mapping[str, Exhibit] = MappingProxyType(
    {
        "table1": _table("All methods on NYUv2", NYUV2),
        "table2": _table("All methods on Cityscapes", CITYSCAPES),
        "table3": _table("All methods on QM9", QM9),
        "table4": _table("All methods on Office-31 and Office-Home", OFFICE31, OFFICEHOME),
        "table5": _figure(
            "The components of DB-MTL",
            ("ew", "log+ew", _NO_LOG, "db_mtl"),
            *IMAGES,
            QM9,
            offline=(*IMAGES, QM9),
        ),
        "table6": _table("All methods on NYUv2 with SegNet", Study("nyuv2", "segnet_mtan")),
        "figure1": _figure(
            "Gradient balancing on the logarithm of the losses",
            (*_BALANCERS, *(f"log+{method}" for method in _BALANCERS), "db_mtl"),
            NYUV2,
        ),
        "figure2": _figure("The logarithm of the losses and IMTL-L", ("imtl_l", "log+ew"), *IMAGES),
        "figure3": _figure(
            "DB-MTL's gradient balancing and GradNorm", ("grad_norm", _NO_LOG), *IMAGES
        ),
        "figure4": _figure(
            "Other networks",
            ("gls", "igbv2", "db_mtl"),
            *_ARCHITECTURES,
            offline=_ARCHITECTURES,
        ),
        "figure5": _figure("The forgetting rate", _BETAS, OFFICE31),
        "figure6": _figure("What the gradients are scaled to", ("db_mtl", *_ALPHAS), NYUV2),
        "figure7": _figure("What training costs", _METHODS, NYUV2, timed=True),
        "figure8": _figure("The tasks' gradients over training", ("ew", "db_mtl"), NYUV2),
        "figure9": _figure("The tasks' losses over training", ("ew", "db_mtl"), NYUV2),
        "figure10": _figure("The agreement of the tasks' gradients", ("ew", "db_mtl"), OFFICE31),
    }
)

STUDIES = MappingProxyType(
    {
        study.key: study
        for study in (
            QM9,
            OFFICE31,
            OFFICEHOME,
            *(
                Study(dataset, network)
                for dataset in ("nyuv2", "cityscapes")
                for network in get_args(DenseNetwork)
            ),
        )
    }
)
"""All studies by the names of their folders."""
