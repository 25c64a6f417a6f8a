"""Files of tables: CSV and Parquet as data frames, and what their columns hold."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_DATE_OR_TIME = r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3\d{4}|\d{1,2}:\d\d(:\d\d)?$)"


def read(source: Path, target: str) -> pd.DataFrame:
    """All columns under their names as text; in ``target`` of a CSV only empty fields are missing.

    Raises `InputError` for a file that is no table, has no rows or two columns of one name.
    """
    import pandas as pd

    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(source.suffix.lower())
    if reader is None:
        raise InputError(f"{source} is not a table that can be read: give a .csv or .parquet file")
    try:
        frame = reader(source, target)
    except ImportError as error:
        raise InputError(
            f"{source}: Parquet files need pyarrow: pip install 'lossbench[parquet]'"
        ) from error
    except pd.errors.ParserWarning as error:
        raise InputError(
            f"{source} row 1 has more fields than the header; give every column a name, or quote"
            " fields that hold a comma"
        ) from error
    except InputError:
        raise
    except (OSError, ValueError) as error:  # pandas' and pyarrow's parsers raise ValueErrors
        raise InputError(f"cannot read {source} ({' '.join(str(error).split())})") from error
    if not len(frame):
        raise InputError(f"{source} has no rows")
    return frame.reset_index(drop=True)


def _read_csv(source: Path, target: str) -> pd.DataFrame:
    import pandas as pd

    header = pd.read_csv(source, header=None, nrows=1, dtype=str, keep_default_na=False)
    _check_names(source, [name for name in header.iloc[0] if name])
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # else fields would be lost
        frame = pd.read_csv(source, index_col=False)
        if target in frame.columns and frame[target].isna().any():
            labels = pd.read_csv(
                source, usecols=[target], index_col=False, keep_default_na=False, na_values=[""]
            )
            frame[target] = labels[target]
    return frame


def _read_parquet(source: Path, target: str) -> pd.DataFrame:
    import pandas as pd
    from pyarrow.parquet import read_schema

    _check_names(source, read_schema(source).names)
    return pd.read_parquet(source).rename(columns=str)


def _check_names(source: Path, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{source} has more than one column {twice[0]!r}; rename all but one")


def check_cells(source: Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise `InputError` for a list or the like, which only Parquet files hold."""
    from pandas.api.types import is_scalar

    for name in columns:
        values = frame[name] if frame[name].dtype == object else ()
        for row, value in enumerate(values, 1):
            if not is_scalar(value):
                raise InputError(
                    f"{source} row {row}: the column {name!r} holds a {type(value).__name__}; make"
                    f" columns of its parts, or leave it out with data.drop=[{name}]"
                )


def of_numbers(column: pd.Series) -> bool:
    """Whether the column is no category: one bad cell must not make categories of numbers."""
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        return False
    if is_numeric(column.dtype) or _of_dates(column):  # dates are refused among numbers
        return True
    present = column.dropna().replace(",", "", regex=True)  # 1,5 is a number, written wrongly
    return bool(pd.to_numeric(present, errors="coerce").notna().sum() > len(present) / 2)


def _of_dates(column: pd.Series) -> bool:
    """Whether most values are dates or times, by their type or as text."""
    import pandas as pd

    if column.dtype.kind in "mM" or isinstance(column.dtype, pd.PeriodDtype):
        return True
    if is_numeric(column.dtype):
        return False
    present = column.dropna().astype(str)
    return bool(present.str.match(_DATE_OR_TIME).sum() > len(present) / 2)


def refuse_dates(source: Path, part: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise `InputError` for a column of dates or times."""
    for name in columns:
        if _of_dates(part[name]):
            raise InputError(
                f"{source}: the column {name!r} holds dates or times; make numbers of"
                f" them, leave it out with data.drop=[{name}], or name it among"
                " data.categorical"
            )


def is_numeric(kind: Any) -> bool:
    """Whether a column's dtype is of numbers or truth values."""
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(kind))
