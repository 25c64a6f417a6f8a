"""The catalogue in words: tables, one loss with all that is known of it, class docstrings.

All from the same facts, for `lossbench losses`, the README and help(). Imports no torch.

The README's table is written anew by ``python -m lossbench.losses.display README.md``.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from lossbench.errors import InputError
from lossbench.losses.catalogue import LOSSES, LossFacts, facts
from lossbench.parameters import Parameter

WIDTH = 100
"""Columns of the terminal that everything fits."""
MARKERS = ("<!-- losses: python -m lossbench.losses.display README.md -->", "<!-- losses end -->")
"""What encloses the table in the README; the first says how it is made."""

_SOFT_TARGETS = {
    "direct": "taken directly",
    "mixed": "by mixing two losses: lam * loss(z, a) + (1 - lam) * loss(z, b)",
    "none": "not defined",
}
_NEEDS = {
    "class_counts": "class_counts (training samples per class)",
    "epoch": "epoch (call set_epoch)",
    "features": "features (what the head was given, at the call)",
    "batch": "batch (it couples the samples of a batch)",
    "state": "state (it counts what it was trained on)",
    "cosines": "cosines for logits (model.head=cosine)",
}


def table() -> str:
    """Family by family, one line per loss: its name, what it needs, who proposed it."""
    needed = {entry.key: " ".join(_needed(entry)) or "-" for entry in LOSSES.values()}
    key_width = max(map(len, LOSSES))
    needs_width = max(map(len, needed.values()))

    def line(key: str, needs: str, source: str) -> str:
        start = f"  {key:{key_width}}  {needs:{needs_width}}  "
        return start + textwrap.shorten(source, WIDTH - len(start), placeholder=" ...")

    lines = [line("loss", "needs", "source")]
    for family, entries in _families():
        lines += ["", family]
        lines += [line(e.key, needed[e.key], short_source(e.source)) for e in entries]
    return "\n".join(
        [*lines, "", f"{len(LOSSES)} losses. One with all that is known: lossbench losses NAME"]
    )


def short_source(source: str) -> str:
    """``source`` without titles and remarks in brackets: "Lin et al., ICCV 2017"."""
    papers = [paper.strip().split(", ") for paper in re.sub(r"\(.*?\)", "", source).split(";")]
    return ", ".join(dict.fromkeys(part for paper in papers for part in (paper[0], paper[-1])))


def _families() -> Iterable[tuple[str, list[LossFacts]]]:
    by_family = groupby(LOSSES.values(), key=lambda entry: entry.family)
    return [(family, list(entries)) for family, entries in by_family]


def describe(name: str) -> str:
    """Formula, source, parameters with ranges, when it helps and when it fails."""
    entry = facts(name)
    parts = [
        f"{entry.key} ({entry.family})",
        _block("formula", entry.formula),
        _block("source", entry.source),
        _block("what it does", entry.summary),
        _block("helps when", entry.helps),
        _block("fails when", entry.fails),
        _block("needs", _needs(entry)),
        _block("soft targets", _SOFT_TARGETS[entry.soft_targets]),
        _block("proper", "yes" if entry.proper else "no"),
        _block("head", entry.heads),
        *(_block(f"loss.{p.name}", _parameter(p)) for p in entry.parameters),
    ]
    return "\n".join(parts)


def docstring(key: str) -> str:
    """The facts of the loss ``key`` as the docstring of its class, without indentation."""
    entry = facts(key)
    raises = ["shapes, dtypes and target values that `Loss` does not take"]
    raises += ["a parameter out of its range"] if entry.parameters else []
    if "class_counts" in entry.needs:
        raises.append("class counts that are missing or not positive integers")
    raises += ["missing features"] if "features" in entry.needs else []
    paragraphs = [
        _wrap(entry.summary),
        _wrap(entry.formula, " " * 4, " " * 4),
        "\n".join(
            [
                _block("Helps when", entry.helps, 0),
                _block("Fails when", entry.fails, 0),
                _block("Needs", _needs(entry), 0),
                _block("Soft targets", _SOFT_TARGETS[entry.soft_targets], 0),
                _block("Proper", "yes" if entry.proper else "no", 0),
                _block("Head", entry.heads, 0),
            ]
        ),
        "\n".join(_block(f"``{p.name}``", _parameter(p), 0) for p in entry.parameters),
        _wrap(f"Raises `InputError` for {', '.join(raises)}."),
        _wrap(f"Source: {entry.source}."),
    ]
    return "\n\n".join(filter(None, paragraphs))


def _needed(entry: LossFacts) -> list[str]:
    return sorted(entry.needs | ({"cosines"} if entry.heads == "cosine" else set()))


def _needs(entry: LossFacts) -> str:
    return "; ".join(_NEEDS[need] for need in _needed(entry)) or "nothing but logits and targets"


def _parameter(parameter: Parameter) -> str:
    default = parameter.default
    default = default if isinstance(default, str) else json.dumps(default)
    return f"{parameter.text}. Default {default}; allowed: {parameter.allowed}."


def _block(title: str, text: str, indent: int = 2) -> str:
    width = 22 + indent
    return _wrap(text, f"{' ' * indent}{title} ".ljust(width), " " * width)


def _wrap(text: str, first: str = "", indent: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH - 4,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def readme_table() -> str:
    """Every loss as a row of a Markdown table: name, family, formula, source."""
    rows = [("loss", "family", "formula", "source"), ("---",) * 4]
    for entry in LOSSES.values():
        formula = f"`{entry.formula}`".replace("|", "\\|")  # a bar ends a cell, in code too
        rows.append((f"`{entry.key}`", entry.family, formula, entry.source))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_table(readme: str) -> str:
    """``readme`` with `readme_table` between the two `MARKERS`.

    Raises `InputError` unless each of them is there once, in that order.
    """
    start, end = MARKERS
    before, found_start, rest = readme.partition(start)
    _, found_end, after = rest.partition(end)
    if not found_start or not found_end or start in after or end in after:
        raise InputError(f"the README must hold {start} and, after it, {end}, once each")
    return f"{before}{start}\n{readme_table()}\n{end}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
