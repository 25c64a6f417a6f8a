"""`lossbench losses`: the catalogue as a table, or one loss with all that is known of it."""

from __future__ import annotations

import textwrap

from lossbench.errors import InputError
from lossbench.losses.catalogue import LOSSES, facts

WIDTH = 96


def losses_command(arguments: list[str]) -> int:
    """Print the catalogue, or the facts of the loss that ``arguments`` name."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        raise InputError(f"lossbench losses takes no more than the NAME of a loss, not {arguments}")
    print(describe(arguments[0]) if arguments else table())
    return 0


def table() -> str:
    """One line per loss: name, family, what it needs, source."""
    rows = [("loss", "family", "needs", "source")]
    rows += [
        (entry.key, entry.family, ", ".join(sorted(entry.needs)) or "-", entry.source)
        for entry in LOSSES.values()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )


def describe(name: str) -> str:
    """Formula, source, parameters with ranges, when it helps and when it fails."""
    entry = facts(name)
    soft = {
        "direct": "taken directly",
        "mixed": "by mixing two losses: lam * loss(z, a) + (1 - lam) * loss(z, b)",
        "none": "not defined",
    }
    parts = [
        f"{entry.key} ({entry.family})",
        _block("formula", entry.formula),
        _block("source", entry.source),
        _block("what it does", entry.summary),
        _block("helps when", entry.helps),
        _block("fails when", entry.fails),
        _block("needs", ", ".join(sorted(entry.needs)) or "nothing but logits and targets"),
        _block("soft targets", soft[entry.soft_targets]),
        _block("proper", "yes" if entry.proper else "no"),
        _block("head", entry.heads),
    ]
    for parameter in entry.parameters:
        default = "null" if parameter.default is None else parameter.default
        words = f"{parameter.text}. Default {default}; allowed: {parameter.allowed}."
        parts.append(_block(f"loss.{parameter.name}", words))
    return "\n".join(parts)


def _block(title: str, text: str) -> str:
    indent = " " * 20
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"  {title}".ljust(20),
        subsequent_indent=indent,
        break_long_words=False,
    )
