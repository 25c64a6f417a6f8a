"""results.tex: one booktabs table per cell, for a paper."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.comparison import formats, metrics
from lossbench.comparison.labels import slugs
from lossbench.comparison.statistics import ALPHA, not_distinguishable_from_best
from lossbench.records import files

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

PREAMBLE = (
    r"% Made by lossbench compare. Needs \usepackage{booktabs}; read with \input{results.tex}."
)

SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after the end of a row it would begin an argument of it, like the star
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "–": "--",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}
ACCENTS = {
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0308": r"\"",
    "\u030a": r"\r",
    "\u030c": r"\v",
    "\u0327": r"\c",
}
BLOCK = 3
"""Metrics side by side: what fits into the text width of ``article``; the others stand below."""

HEAD_WIDTH = 14
"""Letters after which the head of a column goes on in its next line."""


def write_latex(comparison: Comparison, path: Path) -> Path:
    """Write the summary table of every context: mean ± standard error over seeds.

    In every column the best mean is bold, and what its seeds cannot tell from the best
    (`not_distinguishable_from_best`) is underlined; the direction is that of the metric.
    """
    tables = [_table(comparison, context) for context in comparison.ranked]
    files.write_text(path, "\n\n".join([PREAMBLE, *tables]) + "\n")
    return path


def escape(text: str) -> str:
    """``text`` on one line in which TeX reads no sign, and which pdflatex can set.

    Accented Latin letters become TeX's accents; what pdflatex has no letter for is named by its
    code point, such as U+2192.
    """
    return "".join(_sign(letter) for letter in " ".join(str(text).split()))


def _sign(letter: str) -> str:
    if letter in SIGNS:
        return SIGNS[letter]
    if letter.isascii():
        return letter if letter.isprintable() else " "
    parts = unicodedata.normalize("NFD", letter)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in ACCENTS:
        return f"{ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"U+{ord(letter):04X}"


def _table(comparison: Comparison, context: str) -> str:
    """One ``table`` environment: caption, label, the columns in blocks, and the note under them."""
    tags = metrics.columns(comparison.split, comparison.runs.columns)
    if comparison.metric not in tags:
        tags = [comparison.metric, *tags]
    slug = slugs(comparison.ranked)[context]
    parts = [tags[start : start + BLOCK] for start in range(0, len(tags), BLOCK)]
    blocks = "\n\n\\medskip\n".join(_block(comparison, context, part) for part in parts)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(_caption(comparison, context))}}}",
            rf"\label{{tab:{slug}}}",
            r"\footnotesize",
            blocks,
            "",
            r"\medskip",
            rf"\parbox{{0.95\linewidth}}{{\footnotesize {escape(_note(comparison))}}}",
            r"\end{table}",
        ]
    )


def _block(comparison: Comparison, context: str, tags: Sequence[str]) -> str:
    """One ``tabular``: a row per label, its n, and a column for each of ``tags``."""
    labels = comparison.ranked[context]
    columns = {tag: _column(comparison, context, tag) for tag in tags}
    counts = {label: comparison.cells[context, label, comparison.metric]["n"] for label in labels}
    heads = [escape(comparison.by), "$n$", *map(_head, tags)]
    rows = [
        [escape(label), str(counts[label]), *(columns[tag][label] for tag in tags)]
        for label in labels
    ]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{'r' * (len(tags) + 1)}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _column(comparison: Comparison, context: str, tag: str) -> dict[str, str]:
    """The cells of one metric by label, the best bold, what is not told from it underlined."""
    labels = comparison.ranked[context]
    runs = comparison.done[context]
    values = {
        str(label): dict(zip(group["seed"], group[tag], strict=True))
        for label, group in runs[runs["label"].isin(labels)].groupby("label", sort=False)
    }
    higher = metrics.facts(tag).higher_is_better
    equal = not_distinguishable_from_best(values, higher_is_better=higher)
    means = {label: comparison.cells[context, label, tag]["mean"] for label in labels}
    known = {label: mean for label, mean in means.items() if mean == mean}
    best = (max if higher else min)(known, key=known.__getitem__) if known else ""
    found = {}
    for label in labels:
        cell = comparison.cells[context, label, tag]
        text = escape(formats.plus_minus(cell["mean"], cell["standard_error"]))
        if label == best:
            text = rf"\textbf{{{text}}}"
        elif label in equal:
            text = rf"\underline{{{text}}}"
        found[label] = text
    return found


def _head(tag: str) -> str:
    r"""The metric's name and arrow, as a ``\shortstack`` of about `HEAD_WIDTH` letters."""
    fact = metrics.facts(tag)
    lines = [""]
    for word in fact.name.split():
        if lines[-1] and len(lines[-1]) + len(word) >= HEAD_WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    lines[-1] = f"{lines[-1]} {fact.arrow}"
    return r"\shortstack{" + r"\\".join(map(escape, lines)) + "}"


def _caption(comparison: Comparison, context: str) -> str:
    return f"{context}: mean ± standard error over n seeds, {comparison.where}."


def _note(comparison: Comparison) -> str:
    return (
        "Bold: the best mean of the column. Underlined: these seeds do not tell it from the best "
        f"(paired t-test over shared seeds, Holm's p over the column at least {ALPHA:g}). "
        "The best is chosen from the data that judge it, so the marks describe. What is judged is "
        f"{comparison.facts.name} against {comparison.baseline} alone, in results.md."
    )
