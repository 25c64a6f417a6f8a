"""report.html: one file that needs no network, with verdicts, tables and figures.

The figures are drawn by Vega-Lite, whose libraries travel in the page: 0.9 MB, against 4.8 MB for
plotly's, which alone would be more than half of what the page may weigh. They are text that no
browser runs until the first figure comes into view.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.comparison import figures, formats, metrics, tables
from lossbench.comparison.across_cells import across_data, across_sheets
from lossbench.comparison.across_figures import across_specifications
from lossbench.comparison.aggregate import context_data, scatter_metric
from lossbench.comparison.audit import audit_sheets
from lossbench.comparison.captions import Caption, Choice, captions, choices, sheet_caption
from lossbench.comparison.looks import order
from lossbench.comparison.matrices import Matrix, cross_loss_matrix, shaded
from lossbench.comparison.notes import measured
from lossbench.comparison.paragraph import remarks
from lossbench.comparison.posthoc import Derived
from lossbench.comparison.tables import Sheet
from lossbench.comparison.tuning_effect import tuning_sheets
from lossbench.comparison.verdict import GRADES
from lossbench.records import files

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

BUDGET = 7_000_000
"""Bytes for all that is not the Vega libraries (0.9 MB), so that the page stays below 8 MB."""

MARKUP = 12_000
"""Bytes that the words around the figures of one context take."""

DRAWN = 8
"""Arms that the figures draw at first: the baseline and the best."""

UNFOLDED = 4
"""Verdicts of one context that are shown one by one without a click."""

SHEETS: dict[str, Callable[[Comparison, str], Sheet | None]] = {
    "summary": tables.summary_sheet,
    "paired": tables.difference_sheet,
    "resolution": tables.resolution_sheet,
    "sensitivity": tables.sensitivity_sheet,
    "example_uncertainty": tables.example_uncertainty_sheet,
    "posthoc": tables.posthoc_sheet,
    "overfitting_numbers": tables.overfitting_sheet,
    "label_noise": tables.label_noise_sheet,
}

PARTS = {
    "results": ("Results", ("summary", "every_metric")),
    "differences": ("Differences", ("differences", "paired")),
    "tuning": (
        "Tuning",
        ("tuning/defaults-and-tuned", "tuning/like-with-like", "budget"),
    ),
    "losses": ("Losses", ("losses", "overfitting", "overfitting_numbers", "label_noise")),
    "training": ("Training and classes", ("curves", "recall")),
    "calibration": ("Calibration", ("reliability", "scatter")),
    "matrices": ("After training, and under other losses", ("posthoc", "cross_loss")),
    "certainty": ("How sure", ("resolution", "sensitivity", "example_uncertainty")),
    "audit": ("Audit", ()),
}
"""The parts of a context: id, title and the names of what is in them, in order.

Behind these come the tables whose names begin with the id, such as ``audit/equal-for-every``.
"""

ACROSS = {"across": ("Figures and tables over all cells", ("ranks", "profiles", "aggregates"))}
"""The part of the section over all cells."""

NO_FIGURES = {"marks", "metrics", "summary"}
"""Entries of a context's data that are no figure."""

Layout = Mapping[str, tuple[str, tuple[str, ...]]]

COMPACT: dict[str, Any] = {"separators": (",", ":")}


@dataclass(frozen=True)
class Item:
    """One numbered thing on the page: ``kind`` is the template's macro that shows it.

    ``name`` says which data a figure has, ``id`` what a link to it is called, ``number`` what it is
    cited as, such as ``Figure 4``.
    """

    kind: str
    name: str
    id: str
    number: str
    caption: Caption
    choices: list[Choice]
    content: Any = None


class Numbers:
    """Gives out ``Figure 1``, ``Table 1``, ``Figure 2`` in the order of the page."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def next(self, word: str) -> str:
        """The next number of ``word``."""
        self._last[word] = self._last.get(word, 0) + 1
        return f"{word} {self._last[word]}"


def write_report(comparison: Comparison, path: Path) -> Path:
    """Write the page to ``path``."""
    files.write_text(path, render(comparison, vega_bundle()))
    return path


def vega_bundle() -> str:
    """The Vega libraries as one script.

    Putting it together takes seconds, so it is kept in the user's cache folder, one file per
    version of vl-convert; without a writable cache it is made anew.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = home / "lossbench" / f"vega-{version('vl-convert-python')}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except OSError:
        import vl_convert

        bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # has a default
        bundle = bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(kept, bundle)
    return bundle


def render(comparison: Comparison, bundle: str) -> str:
    """The page as text. All that comes from records is escaped by jinja."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    sections, data = _sections(comparison)
    environment = Environment(
        loader=PackageLoader("lossbench.comparison"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = COMPACT
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        verdict=_verdict(comparison),
        contents=_contents(sections),
        sections=sections,
        measured=measured(comparison),
        citation=f"{comparison.study}, {_made_with(comparison)}",
        made=_counts(comparison),
        content=_content(comparison),
        data=data,
        bundle=bundle,
    )


def _verdict(comparison: Comparison) -> list[str]:
    """What stands on top of the page: the answer for the only cell, or over all of them."""
    contexts = list(comparison.ranked)
    if len(contexts) == 1:
        return remarks(comparison, contexts[0])
    return [comparison.overall, comparison.headline]


def _content(comparison: Comparison) -> dict[str, Any]:
    """What the scripts need that is no context's own: arms, the order of their looks, figures."""
    arms = order(comparison)
    specifications = figures.specifications(comparison)
    if len(comparison.ranked) > 1:
        specifications |= across_specifications(comparison.facts, len(comparison.labels))
    del specifications["cross_loss"]  # a table here, whose numbers can be read and searched
    for specification in specifications.values():
        del specification["$schema"]  # a URL that nobody needs here
    return {
        "study": comparison.study,
        "beside": metrics.facts(scatter_metric(comparison)).name,
        "labels": comparison.labels,
        "order": arms,
        "drawn": arms[:DRAWN],
        "most": DRAWN,
        "specifications": specifications,
    }


def _counts(comparison: Comparison) -> str:
    """Such as ``7 arms, 21 finished runs, made with lossbench 0.1.0``; what was trained counts."""
    rows = (row for runs in comparison.done.values() for row in runs.index)
    done = sum(not isinstance(comparison.records[row], Derived) for row in rows)
    arms = len(comparison.labels)
    cells = f"{len(comparison.ranked)} cells, " if len(comparison.ranked) > 1 else ""
    words = f"{cells}{arms} {comparison.by}s, {done} finished runs"
    return f"{words}, made with {_made_with(comparison)}"


def _made_with(comparison: Comparison) -> str:
    records = [record for record in comparison.records if record.status == "done"]
    versions = {record.versions.get("lossbench", "of unknown version") for record in records}
    commits = {record.git[:12] for record in records if record.git}
    named = [f"lossbench {' and '.join(sorted(versions))}"]
    return ", ".join([*named, *(f"commit {commit}" for commit in sorted(commits))])


def _contents(sections: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The links on top: the parts of the only cell, or the cells."""
    ends = [("measured", "What was measured"), ("cite", "How to cite")]
    if len(sections) == 1:  # the only cell
        return [(part["id"], part["title"]) for part in sections[0]["parts"]] + ends
    return [(section["id"], section["title"]) for section in sections] + ends


def _sections(comparison: Comparison) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the template shows per context, and the data of its figures.

    When the budget of the page is spent, later contexts keep their tables and lose the figures.
    """
    plain = {context: _tables(comparison, context) for context in comparison.ranked}
    left = BUDGET - sum(_bytes(comparison, context, each) for context, each in plain.items())
    numbers = Numbers()
    sections, data = _across(comparison, numbers)
    for place, (context, there) in enumerate(plain.items()):
        found = _data(comparison, context) if left > MARKUP else {}
        cost = MARKUP + len(json.dumps(found, **COMPACT))
        if cost > left:
            found = {}
        left -= cost
        data.append(found)
        ending = "" if place == 0 else f"-{place + 1}"
        sections.append(
            {
                "id": f"cell{ending}",
                "data": len(data) - 1,
                "title": context,
                "grades": _grades(comparison, context),
                "remarks": remarks(comparison, context) if len(plain) > 1 else [],
                "cut": not found,
                "parts": _parts(
                    comparison,
                    PARTS,
                    there | _figures(comparison, found),
                    found,
                    numbers,
                    ending,
                ),
                "gaps": [gap for gap in comparison.gaps if gap.context == context],
            }
        )
    return sections, data


def _across(
    comparison: Comparison, numbers: Numbers
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The section over all cells and its data; nothing if there is one cell."""
    there = _named("across", across_sheets(comparison))
    if not there:
        return [], []
    found: dict[str, Any] = dict(across_data(comparison))
    section = {
        "id": "all-cells",
        "data": 0,
        "title": "Over all cells",
        "grades": [],
        "remarks": [],
        "cut": False,
        "parts": _parts(comparison, ACROSS, _figures(comparison, found) | there, found, numbers),
        "gaps": [],
    }
    return [section], [found]


def _data(comparison: Comparison, context: str) -> dict[str, Any]:
    """The data of one context, and which of its metrics are those of the summary."""
    found = context_data(comparison, context)
    summary = {comparison.metric, *metrics.columns(comparison.split, comparison.runs.columns)}
    places = [place for place, each in enumerate(found["metrics"]) if each["tag"] in summary]
    return found | {"summary": places}


def _tables(comparison: Comparison, context: str) -> dict[str, Matrix]:
    """The tables that are on the page whatever it weighs, by name."""
    found = {name: make(comparison, context) for name, make in SHEETS.items()}
    there = {name: Matrix(sheet) for name, sheet in found.items() if sheet}
    if "posthoc" in there:
        there["posthoc"] = shaded(there["posthoc"].sheet, comparison.facts.higher_is_better)
    there |= _named("tuning", tuning_sheets(comparison, context))
    return there | _named("audit", audit_sheets(comparison, context))


def _named(part: str, found: list[Sheet]) -> dict[str, Matrix]:
    """Sheets that have no name of their own by the first three words of their captions."""
    return {
        f"{part}/{'-'.join(re.findall('[a-z]+', sheet.caption.lower())[:3])}": Matrix(sheet)
        for sheet in found
    }


def _figures(comparison: Comparison, found: Mapping[str, Any]) -> dict[str, Any]:
    """What the data of a context can show, by name."""
    shown: dict[str, Any] = {name: None for name in found if name not in NO_FIGURES}
    if "losses" in shown:
        arms = set(found["losses"]["arm"])  # a post-hoc arm has none
        shown["overfitting"] = [
            (arm, comparison.labels[arm]) for arm in order(comparison) if arm in arms
        ]
    if "cross_loss" in shown:
        shown["cross_loss"] = cross_loss_matrix(comparison, found["cross_loss"])
    return shown


def _parts(
    comparison: Comparison,
    layout: Layout,
    there: Mapping[str, Any],
    found: Mapping[str, Any],
    numbers: Numbers,
    ending: str = "",
) -> list[dict[str, Any]]:
    """The parts of one section with their items; ``there`` is what there is to show, by name."""
    words = captions(comparison)
    parts = []
    for part, (title, listed) in layout.items():
        names = [name for name in listed if name in there]
        names += [name for name in there if name.startswith(f"{part}/") and name not in names]
        items = []
        for name in names:
            content = there[name]
            kind = "metrics" if name == "every_metric" else "figure"
            if isinstance(content, Matrix):
                kind = "table"
                caption = sheet_caption(content.sheet, words.get(name))
            else:
                caption = words[name]
            word, start = ("Figure", "fig") if kind == "figure" else ("Table", "tab")
            own = name.rpartition("/")[2].replace("_", "-")
            items.append(
                Item(
                    kind=kind,
                    name=name,
                    id=f"{start}-{own}{ending}",
                    number=numbers.next(word),
                    caption=caption,
                    choices=choices(name, found.get(name, {})),
                    content=content,
                )
            )
        if items:
            parts.append({"id": f"{part}{ending}", "title": title, "items": items})
    return parts


def _grades(comparison: Comparison, context: str) -> list[dict[str, Any]]:
    """The verdicts of one context by grade; long lists are folded."""
    entries = [entry for entry in comparison.verdicts if entry.context == context]
    found = {word: [entry for entry in entries if entry.word == word] for word in GRADES}
    return [
        {
            "word": word,
            "names": formats.listing(entry.label for entry in of_grade),
            "sentences": [entry.sentence for entry in of_grade],
            "open": len(entries) <= UNFOLDED,
        }
        for word, of_grade in found.items()
        if of_grade
    ]


def _bytes(comparison: Comparison, context: str, tables: Mapping[str, Matrix]) -> int:
    """About as many bytes as the words and tables of a section take on the page."""
    rows = [row for table in tables.values() for row in (table.sheet.head, *table.sheet.rows)]
    cells = sum(len(cell.encode()) + 30 for row in rows for cell in row)
    said = [entry.sentence for entry in comparison.verdicts if entry.context == context]
    said += [gap.sentence for gap in comparison.gaps if gap.context == context]
    return 4000 + cells + sum(2 * len(sentence.encode()) + 40 for sentence in said)
