"""The HParams tab: one row per study, arm and cell, with the mean over its seeds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb

from lossbench.errors import InputError, unknown

ColumnValue = str | float | bool | None

COLUMNS: Mapping[str, type] = MappingProxyType(
    {
        "study": str,
        "arm": str,
        "loss": str,
        "loss_parameters": str,
        "dataset": str,
        "imbalance": str,
        "factor": float,
        "model": str,
        "head": str,
        "regime": str,
        "label_noise": str,
        "optimizer": str,
        "learning_rate": float,
        "weight_decay": float,
        "batch_size": float,
        "epochs": float,
    }
)
"""The columns of every run, with their types: `str` or `float`."""

# TensorBoard sorts columns by (not differs, name) and shows the first five.
_SHOWN_FIRST = frozenset({"arm", "dataset", "factor", "imbalance", "model"})
_DATA_TYPES = {str: api_pb2.DATA_TYPE_STRING, float: api_pb2.DATA_TYPE_FLOAT64}


def session_group(study: str, arm: str, configuration: str) -> str:
    """The row that a run belongs to: runs that differ only in their seed share it.

    The arm and a hash of all three; TensorBoard shows it as the trial's name and sorts by it.
    """
    digest = hashlib.sha256("\n".join((study, arm, configuration)).encode()).hexdigest()
    return f"{arm} {digest[:8]}"


def hparams_summary(
    values: Mapping[str, ColumnValue],
    *,
    group: str,
    metrics: Iterable[str],
    columns: Mapping[str, type],
    start_time: float,
) -> Summary:
    """The description of the table and one run's values, in one summary.

    TensorBoard takes the description from whichever run it reads first, so every run of a runs
    folder has to give the same ``columns`` and ``metrics``.

    Args:
        values: column -> value. None (and NaN) is left out; a column keeps one type over all
            runs, so a value is turned into the type of its column. No seed: a row has many.
        group: the row, from `session_group`.
        metrics: tags of scalars; the table shows their last value, averaged over the runs of
            the row that have one.
        columns: name -> `str` or `float`; as `COLUMNS`, with more where wanted.
        start_time: seconds since 1970.

    Raises: InputError for a value without a column (TensorBoard would hide it), and for one
        that is no number in a column of numbers.
    """
    for name in values:
        if name not in columns:
            raise unknown("HParams column", name, columns)
    known = {
        name: _typed(name, value, columns[name])
        for name, value in values.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }
    experiment = api_pb2.Experiment(
        hparam_infos=[
            api_pb2.HParamInfo(name=name, type=_DATA_TYPES[kind], differs=name in _SHOWN_FIRST)
            for name, kind in columns.items()
        ],
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag)
            for tag in metrics
        ],
        time_created_secs=start_time,
    )
    summary = _summary(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment))
    summary.MergeFrom(hparams_pb(known, trial_id=group, start_time_secs=start_time))
    return summary


def session_end_summary(*, success: bool, end_time: float) -> Summary:
    """How a run ended; the HParams tab filters by it. A run without one shows as unknown."""
    status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=end_time)
    return _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _summary(tag: str, content: HParamsPluginData) -> Summary:
    value = Summary.Value(
        tag=tag, metadata=metadata.create_summary_metadata(content), tensor=metadata.NULL_TENSOR
    )
    return Summary(value=[value])


def _typed(name: str, value: str | float | bool, kind: type) -> str | float:
    if kind is str:
        return str(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(
            f"HParams column {name!r} holds numbers, not {value!r}; declare it as str in columns"
        ) from None
