"""report.html: one file that needs no network, with verdicts, tables and figures."""

from __future__ import annotations

import contextlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.comparison import figures
from lossbench.comparison.aggregate import LOSS_SPLITS, VIEWS, context_data
from lossbench.comparison.notes import measured
from lossbench.comparison.tables import sheets
from lossbench.records import files

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

BUDGET = 7_000_000
"""Bytes for all that is not the Vega libraries (0.9 MB), so that the page stays below 8 MB."""

MARKUP = 5_000
"""Bytes that the words around the figures of one context take."""

COMPACT: dict[str, Any] = {"separators": (",", ":")}
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
VIEW_WORDS = {
    "raw": "logits as deployed",
    "adjusted": "adjusted to the prior",
    "temperature": "with temperature",
}


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
        bundle = bundle.replace("</script", "<\\/script")
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(kept, bundle)
    return bundle


def render(comparison: Comparison, bundle: str) -> str:
    """The page as text. All that comes from records is escaped by jinja."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    sections, data = _sections(comparison)
    specifications = figures.specifications(comparison.facts, comparison.baseline)
    for specification in specifications.values():
        del specification["$schema"]  # a URL that nobody needs here
    environment = Environment(
        loader=PackageLoader("lossbench.comparison"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = COMPACT
    content = {
        "labels": comparison.labels,
        "specifications": specifications,
        "contexts": data,
    }
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        sections=sections,
        measured=measured(comparison),
        content=content,
        bundle=bundle,
    )


def _sections(comparison: Comparison) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the template shows per context, and the data of its figures.

    When the budget of the page is spent, later contexts keep their tables and lose the figures.
    """
    number = {label: place for place, label in enumerate(comparison.labels)}
    sections: list[dict[str, Any]] = [
        {
            "title": context,
            "labels": [(number[label], label) for label in labels],
            "verdicts": [entry for entry in comparison.verdicts if entry.context == context],
            "sheets": sheets(comparison, context),
            "gaps": [gap for gap in comparison.gaps if gap.context == context],
        }
        for context, labels in comparison.ranked.items()
    ]
    left = BUDGET - sum(_bytes(section) for section in sections)
    data = []
    for section in sections:
        found = context_data(comparison, section["title"]) if left > MARKUP else {}
        cost = MARKUP + len(json.dumps(found, **COMPACT))
        if cost > left:
            found = {}
        left -= cost
        data.append(found)
        section["figures"] = _figures(found)
    return sections, data


def _bytes(section: dict[str, Any]) -> int:
    """About as many bytes as the words and tables of a section take on the page."""
    rows = [row for sheet in section["sheets"] for row in (sheet.head, *sheet.rows)]
    cells = sum(len(cell.encode()) + 10 for row in rows for cell in row)
    sentences = [entry.sentence for entry in [*section["verdicts"], *section["gaps"]]]
    return 1000 + cells + sum(len(sentence.encode()) + 40 for sentence in sentences)


def _figures(data: dict[str, Any]) -> dict[str, Any]:
    """The choices (value, words) of each figure that has data."""
    found: dict[str, Any] = {name: [] for name in data if name != "marks"}
    if "losses" in found:
        splits = data["losses"]["split"]
        found["losses"] = [(name, SPLIT_WORDS[name]) for name in LOSS_SPLITS if name in splits]
        found["overfitting"] = sorted(set(data["losses"]["arm"]))  # a post-hoc arm has none
    if "curves" in found:
        found["curves"] = [(name, name) for name in dict.fromkeys(data["curves"]["curve"])]
    if "reliability" in found:
        views = data["reliability"]["view"]
        found["reliability"] = [(name, VIEW_WORDS[name]) for name in VIEWS if name in views]
    return found
