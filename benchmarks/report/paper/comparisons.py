"""The tables of the paper: comparisons (Tables 1 to 4 and 6) and the ablation (Table 5)."""

import functools

from benchmarks.report.paper.parts import Parts, Studies, need, select
from benchmarks.report.records import choice
from benchmarks.report.tables import comparison, table
from benchmarks.report.tables.printed import paper_table, with_spread
from benchmarks.report.tables.table import Cell, Heading, Row, Table


def all_methods(studies: Studies) -> Parts:
    """Tables 1 to 4 and 6: all methods of a study, or of several studies side by side."""
    notes, halves, shown = [], [], []
    for study in studies.values():
        outcomes, chosen = choice.headline(study.outcomes)
        notes += [f"{study.title}: {note}" for note in chosen]
        if outcomes:
            notes += [f"{study.title}: {line}" for line in comparison.agreement_notes(outcomes)]
            group = study.title if len(studies) > 1 else ""
            halves.append(comparison.table(outcomes, group=group))
            shown.append(outcomes)
    need(halves, studies, "some method")
    captions = dict.fromkeys(map(comparison.legend, shown))
    return Parts(" ".join(captions), functools.reduce(table.beside, halves), notes=notes)


ABLATION = {
    "ew": ("✗", "✗"),
    "log+ew": ("✓", "✗"),
    "db_mtl@log_losses=false": ("✗", "✓"),
    "db_mtl": ("✓", "✓"),
}
"""Whether each method balances the scales of the losses, and the magnitudes of the gradients."""


def ablation(studies: Studies) -> Parts:
    """Table 5: Δp with and without each component of DB-MTL, beside the values of the paper."""
    notes: list[str] = []
    found = {}
    for key, study in studies.items():
        # DB-MTL with the same forgetting rate as its variants.
        found[key], said = select(study, list(ABLATION), tuned=False)
        notes += said
    need(any(found.values()), studies, " or ".join(ABLATION))
    printed = paper_table("table5")
    headings = [Heading("method"), Heading("loss scale"), Heading("gradient magnitude")]
    columns = []
    for key, study in studies.items():
        if not found[key]:
            continue
        name = study.columns.dataset
        paper = "paper (real data)" if study.columns.sample_data else "paper"
        headings += [Heading("Δp (%) ↑", study.title), Heading(paper, study.title, True)]
        ours = {m: comparison.figure(o.delta_p, 2) for m, o in found[key].items()}
        marks = _best({m: float(o.delta_p.mean()) for m, o in found[key].items()})
        columns.append(
            {
                method: (
                    Cell(ours.get(method, "–"), marks.get(method, "")),
                    Cell(with_spread(row, name)),
                )
                for method, row in zip(ABLATION, printed.values(), strict=True)
            }
        )
    rows = [
        Row((*map(Cell, (title, *balanced)), *(c for column in columns for c in column[method])))
        for (method, balanced), title in zip(ABLATION.items(), printed, strict=True)
    ]
    caption = (
        "Δp on the test set, mean ± standard deviation over seeds, without (✗) and with (✓) the "
        "balancing of the losses' scales and of the gradients' magnitudes; best in bold, second "
        "best underlined; beside it the paper's figure as printed. DB-MTL and its variant have "
        f"{choice.rate_title(choice.DB_MTL)} unless a note says otherwise."
    )
    return Parts(caption, Table(tuple(headings), tuple(rows)), notes=notes)


def _best(values: dict[str, float]) -> dict[str, table.Style]:
    ordered = sorted(values, key=lambda m: -values[m])
    return dict(zip(ordered, comparison.BEST, strict=False))
