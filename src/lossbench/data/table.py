"""Tables with numeric and categorical columns, as features for a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lossbench.data.selection import Indices, Selection, arrays_fingerprint
from lossbench.data.split import hold_out
from lossbench.data.table_file import check_cells, is_numeric, of_numbers, read, refuse_dates
from lossbench.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 1000  # of one column: beyond, it is an identifier or free text
MISSING = "missing"
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of numbers and categories with labels.

    Attributes:
        numbers: (N + M, K) float64, training rows first; NaN is a missing number.
        categories: (N + M, J) int64, for each categorical column the index of the category among
            those of the training part, of which missing may be one; -1 for any other.
        sizes: (J,) the number of categories of each of those columns.
        train_targets: (N,) int64.
        test_targets: (M,) int64.
        class_names: by class index.
        feature_names: those of all features, in order; those of the numbers come first.
        places: (N + M,) int64, the row of each in its file, from 1.
        origin: which copy of the data was read, in words.
    """

    numbers: NDArray[np.float64]
    categories: Indices
    sizes: tuple[int, ...]
    train_targets: Indices
    test_targets: Indices
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    places: Indices
    origin: str

    def select(self, train: Indices, validation: Indices) -> Selection:
        """See `lossbench.data.selection.Dataset`.

        The features (F,) are: each number x as (x - mean) / std, mean and population std being
        those of the ``train`` rows, 0 where std is 0 or x is missing; then 0 or 1 for every column
        with missing numbers in the training part; then the one-hot categories.

        Raises `InputError` for a number whose feature is beyond the range of float32.
        """
        rows = len(self.train_targets)
        numbers = self.numbers
        with np.errstate(invalid="ignore", over="ignore"):
            mean, std = _mean_and_std(numbers[train])
            scaled = np.nan_to_num((numbers - mean) / np.where(std > 0, std, 1)) * (std > 0)
        self._check_range(scaled)
        gaps = np.isnan(numbers)
        indicators = gaps[:, gaps[:rows].any(axis=0)]
        one_hot = [
            column[:, None] == np.arange(size)
            for column, size in zip(self.categories.T, self.sizes, strict=True)
        ]
        features = np.concatenate([scaled, indicators, *one_hot], axis=1, dtype=np.float32)
        chosen = features[train], features[validation], features[rows:]
        return Selection(
            *chosen,
            input_shape=features.shape[1:],
            mean=None,
            std=None,
            fingerprint=arrays_fingerprint(
                train, validation, features, self.train_targets, self.test_targets
            ),
            origin=self.origin,
        )

    def _check_range(self, scaled: NDArray[np.float64]) -> None:
        """Raise `InputError` for the first number that is none in float32 once standardised."""
        beyond = np.argwhere(np.abs(scaled) > LARGEST)
        if len(beyond):
            row, column = beyond[0]
            part = "training" if row < len(self.train_targets) else "test"
            name = self.feature_names[column]
            raise InputError(
                f"row {self.places[row]} of the file of the {part} part:"
                f" {name}={self.numbers[row, column]:g} is beyond the range of float32 once"
                f" standardised on the training rows; correct it, or leave the column out with"
                f" data.drop=[{name}]"
            )


def _mean_and_std(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per column, of the numbers that are there; 0 and 0 where there are none."""
    there = ~np.isnan(numbers)
    counts = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, numbers, 0).sum(axis=0) / counts
    # around the mean: the sum of squares would lose everything of a large mean
    squares = np.where(there, numbers - mean, 0) ** 2
    std = np.sqrt(squares.sum(axis=0) / counts)
    constant = std <= 1e-12 * np.abs(mean)  # rounding of the mean is no spread
    return mean, np.where(constant, 0, std)


def table(
    archive: str | Path,
    target: str,
    test: str | None = None,
    test_share: float = 0.2,
    drop: Sequence[str] | None = None,
    categorical: Sequence[str] | None = None,
) -> Table:
    """A CSV or Parquet file with a column of labels; all other columns are features.

    Labels of any type become class names, sorted. Numbers are standardised on the training subset
    of each run; categories are those of the training part, and one that only the test part has is
    all zeros, which ``origin`` counts.

    Args:
        archive: ``FILE.csv`` or ``FILE.parquet``.
        target: the column of the labels.
        test: file with the test part, relative to the folder of ``archive`` or absolute; or None.
        test_share: where ``test`` is None: this share of each class is the test part, the same for
            every seed (`lossbench.data.split.hold_out`).
        drop: columns to leave out, such as identifiers.
        categorical: columns of categories; None: every column of text of which at most half reads
            as numbers, and pandas' own categories in Parquet files.

    In a CSV file an empty field is a missing value, and in features so are NA, None and the like;
    in the column of the labels these are labels.

    Raises `InputError` for an unknown column, two columns of one name, a missing or unseen label, a
    number that is infinite or beyond float32, text among numbers, dates, times, lists, a class
    without a training row, a row with more fields than the header, a file that cannot be read.
    """
    target = str(target)  # the command line makes a number of a name such as 1
    drop, categorical = _listed("data.drop", drop), _listed("data.categorical", categorical)
    source = Path(archive).expanduser()
    other = None if test is None else source.parent / Path(test).expanduser()
    frame = read(source, target)
    columns = _feature_columns(frame, target, drop, categorical)
    if not columns:
        raise InputError(f"{source} has no column beside data.target={target} and those of drop")
    check_cells(source, frame, [target, *columns])
    labels, names = _labels(source, frame[target])
    if other is None:
        held_out = hold_out(labels, test_share, names)
        parts = [(source, frame[~held_out]), (source, frame[held_out])]
        targets = labels[~held_out], labels[held_out]
    else:
        tested = read(other, target)
        for name in [target, *columns]:
            if name not in tested.columns:
                raise InputError(f"{other} has no column {name!r}, which {source} has; add it")
        check_cells(other, tested, [target, *columns])
        parts = [(source, frame), (other, tested)]
        targets = labels, _labels(other, tested[target], names)[0]
    if categorical is None:
        categorical = [name for name in columns if not of_numbers(frame[name])]
    for file, part in parts:
        refuse_dates(file, part, [name for name in columns if name not in categorical])
    origin = f"{archive}; test part: {test or f'{test_share:g} of each class'}"
    return _encoded(parts, columns, categorical, targets, names, origin)


def _feature_columns(
    frame: pd.DataFrame,
    target: str,
    drop: Sequence[str] | None,
    categorical: Sequence[str] | None,
) -> list[str]:
    """The columns that are features; raises `InputError` for a name that is no column."""
    _check_column("data.target", target, list(frame.columns))
    rest = [name for name in frame.columns if name != target]
    for name in drop or ():
        _check_column("data.drop", name, rest)
    columns = [name for name in rest if name not in (drop or ())]
    for name in categorical or ():
        _check_column("data.categorical", name, columns)
    return columns


def _encoded(
    parts: Sequence[tuple[Path, pd.DataFrame]],
    columns: Sequence[str],
    categorical: Sequence[str],
    targets: tuple[Indices, Indices],
    class_names: tuple[str, ...],
    origin: str,
) -> Table:
    """Numbers and categories of the training and the test part, one below the other."""
    numeric = [name for name in columns if name not in categorical]
    numbers = [_numbers(file, part, numeric) for file, part in parts]
    gaps = np.isnan(numbers[0]).sum(axis=0)
    coded = {name: _categories(name, *(part[name] for _, part in parts)) for name in categorical}
    rows = sum(len(part) for _, part in parts)
    codes = np.array([column for column, _ in coded.values()], np.int64).reshape(-1, rows).T
    features = [
        *numeric,
        *(f"{name} {MISSING}" for name, gap in zip(numeric, gaps, strict=True) if gap > 0),
        *(feature for _, names in coded.values() for feature in names),
    ]
    unseen = int((codes[len(targets[0]) :] < 0).any(axis=1).sum())
    note = f"; {unseen} test rows hold categories that training rows do not" if unseen else ""
    return Table(
        numbers=np.concatenate(numbers),
        categories=codes,
        sizes=tuple(len(names) for _, names in coded.values()),
        train_targets=targets[0],
        test_targets=targets[1],
        class_names=class_names,
        feature_names=tuple(features),
        places=np.concatenate([part.index.to_numpy(np.int64) + 1 for _, part in parts]),
        origin=f"{origin}; {len(features)} features{note}",
    )


def _listed(key: str, names: Sequence[str] | None) -> Sequence[str] | None:
    """``names`` as text; raises `InputError` for what is no list."""
    if names is not None and (isinstance(names, str) or not isinstance(names, Sequence)):
        raise InputError(f"{key}={names} must be null or a list of columns, such as [{names}]")
    return None if names is None else [str(name) for name in names]


def _check_column(key: str, name: str, columns: Sequence[str]) -> None:
    if name not in columns:
        raise unknown(key, name, columns)


def _coded(column: pd.Series) -> tuple[Indices, list[str]]:
    """(N,) int64, indices of the words that stand for the values, -1 where one is missing.

    Words are sorted, numbers by size; 1.0 and 1 are the same word.
    """
    import pandas as pd

    codes, values = pd.factorize(column, sort=is_numeric(column.dtype))
    words = [_word(value) for value in values]
    names = list(dict.fromkeys(words)) if is_numeric(column.dtype) else sorted(set(words))
    index = {word: at for at, word in enumerate(names)}
    # the last entry is what -1 picks
    return np.array([index[word] for word in words] + [-1], np.int64)[codes], names


def _word(value: Any) -> str:
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def _labels(
    source: Path, column: pd.Series, known: Sequence[str] | None = None
) -> tuple[Indices, tuple[str, ...]]:
    """(N,) int64, and the class names: ``known``, or those that are found."""
    codes, words = _coded(column)
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        raise InputError(
            f"{source} row {missing[0] + 1} has no label in the column {column.name!r};"
            f" {len(missing)} of {len(codes)} rows have none; fill them in or take them out"
        )
    if known is None:
        return codes, tuple(words)
    unseen = [word for word in words if word not in known]
    if unseen:
        row = int(np.flatnonzero(codes == words.index(unseen[0]))[0]) + 1
        raise InputError(
            f"{source} row {row}: the label {unseen[0]!r} is not one of the training part's"
            f" ({', '.join(known)}); take such rows out, or add training rows"
        )
    return np.array([known.index(word) for word in words], np.int64)[codes], tuple(known)


def _numbers(source: Path, part: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    """(N, K) float64, NaN where a number is missing."""
    import pandas as pd

    numbers = np.empty((len(part), len(columns)))
    for at, name in enumerate(columns):
        column = part[name]
        numbers[:, at] = pd.to_numeric(column, errors="coerce").to_numpy(
            np.float64, na_value=np.nan
        )
        words = np.isnan(numbers[:, at]) & column.notna().to_numpy()
        bad = words | (np.abs(numbers[:, at]) > LARGEST)
        if bad.any():
            first = int(np.argmax(bad))
            finite = np.isfinite(numbers[first, at])
            reason = "beyond the range of float32" if finite else "not a finite number"
            raise InputError(
                f"{source} row {part.index[first] + 1}: {name}={column.iloc[first]} is {reason};"
                f" {int(bad.sum())} rows of this column are so; correct them, leave the column out"
                f" with data.drop=[{name}], or list the columns of categories in data.categorical"
            )
    return numbers


def _categories(name: str, train: pd.Series, test: pd.Series) -> tuple[Indices, list[str]]:
    """(N + M,) int64, the indices among the categories of ``train``, -1 for any other; features.

    Missing is the last category where ``train`` has it; the word "missing" is another.
    """
    codes, words = _coded(train)
    gaps = bool((codes < 0).any())
    missing = len(words) if gaps else -1
    codes = np.where(codes < 0, missing, codes)
    if len(words) + gaps > MOST_CATEGORIES:
        raise InputError(
            f"the column {name!r} has {len(words) + gaps} categories, more than {MOST_CATEGORIES};"
            f" leave it out with data.drop=[{name}]"
        )
    test_codes, test_words = _coded(test)
    index = {word: at for at, word in enumerate(words)}
    known = [index.get(word, -1) for word in test_words] + [missing]
    features = [f"{name}={word}" for word in words] + [f"{name} {MISSING}"] * gaps
    return np.concatenate([codes, np.array(known, np.int64)[test_codes]]), features
