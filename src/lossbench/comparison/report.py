"""report.html: one file that needs no network, with verdicts, tables and figures.

The figures are drawn by Vega-Lite, whose libraries travel in the page: 0.9 MB, against 4.8 MB for
plotly's, which alone would be more than half of what the page may weigh. They are text that no
browser runs until the first figure comes into view.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.comparison import figures, metrics
from lossbench.comparison.aggregate import context_data
from lossbench.comparison.captions import Caption, Choice, captions, choices
from lossbench.comparison.matrices import Matrix, cross_loss_matrix, shaded
from lossbench.comparison.notes import measured
from lossbench.comparison.tables import Sheet, sheets
from lossbench.records import files

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

BUDGET = 7_000_000
"""Bytes for all that is not the Vega libraries (0.9 MB), so that the page stays below 8 MB."""

MARKUP = 12_000
"""Bytes that the words around the figures of one context take."""

DRAWN = 8
"""Arms that the figures draw at first: the baseline and the best."""

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
    """What stands on top of the page."""
    return [comparison.headline]


def _content(comparison: Comparison) -> dict[str, Any]:
    """What the scripts need that is no context's own: arms, the order of their looks, figures.

    ``order`` has the baseline first, then the best by their mean place over the contexts.
    """
    labels = comparison.labels
    places: dict[str, list[int]] = {label: [] for label in labels}
    for ranked in comparison.ranked.values():
        for place, label in enumerate(ranked):
            places[label].append(place)
    order = sorted(
        range(len(labels)),
        key=lambda arm: (arm != 0, sum(places[labels[arm]]) / len(places[labels[arm]])),
    )
    specifications = figures.specifications(comparison.facts, comparison.baseline)
    for specification in specifications.values():
        del specification["$schema"]  # a URL that nobody needs here
    return {
        "study": comparison.study,
        "metric": comparison.facts.name,
        "labels": labels,
        "order": order,
        "drawn": order[:DRAWN],
        "most": DRAWN,
        "specifications": specifications,
    }


def _counts(comparison: Comparison) -> str:
    """Such as ``7 arms, 21 finished runs, made with lossbench 0.1.0``."""
    done = sum(len(runs) for runs in comparison.done.values())
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
    if len(sections) == 1:
        return [(part["id"], part["title"]) for part in sections[0]["parts"]] + ends
    return [(section["id"], section["title"]) for section in sections] + ends


def _sections(comparison: Comparison) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the template shows per context, and the data of its figures.

    When the budget of the page is spent, later contexts keep their tables and lose the figures.
    """
    sheets_of = {context: sheets(comparison, context) for context in comparison.ranked}
    left = BUDGET - sum(_bytes(comparison, context, each) for context, each in sheets_of.items())
    numbers = Numbers()
    sections, data = [], []
    for place, (context, tables) in enumerate(sheets_of.items()):
        found = context_data(comparison, context) if left > MARKUP else {}
        cost = MARKUP + len(json.dumps(found, **COMPACT))
        if cost > left:
            found = {}
        left -= cost
        data.append(found)
        ending = "" if place == 0 else f"-{place + 1}"
        items = _items(comparison, context, tables, found)
        sections.append(
            {
                "id": f"cell{ending}",
                "data": place,
                "title": context,
                "grades": _grades(comparison, context),
                "paragraphs": _paragraphs(comparison, context, found),
                "parts": _parts(items, numbers, ending),
                "gaps": [gap for gap in comparison.gaps if gap.context == context],
            }
        )
    return sections, data
