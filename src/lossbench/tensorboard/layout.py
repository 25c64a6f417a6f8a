"""The Custom Scalars tab: which charts it has, and in which order.

Every run carries the layout, so it is there wherever TensorBoard is pointed: at one run, a study
or all of them. TensorBoard merges the layouts of all runs: charts that are equal are shown once.
Each chart overlays all runs that are ticked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.util.tensor_util import make_tensor_proto

Layout = Mapping[str, Mapping[str, str]]
"""Category -> title of a chart -> regular expression for the whole tag."""


def _of(*tags: str) -> Mapping[str, str]:
    return MappingProxyType({tag: re.escape(tag) for tag in tags})


RUN_LAYOUT: Layout = MappingProxyType(
    {
        "Decides": _of(
            "val/cls/balanced_accuracy",
            "val/cls/worst_class_recall",
            "val/cls/head_recall",
            "val/cls/mid_recall",
            "val/cls/tail_recall",
        ),
        "Losses": _of(
            "train/running/cross_entropy",
            "val/loss/cross_entropy",
            "train/loss/cross_entropy",
            "train/running/objective",
        ),
        "Calibration": _of(
            "val/cal/expected_calibration_error",
            "val/cal_adjusted/expected_calibration_error",
            "val/cal/classwise_calibration_error",
            "val/cal/brier_score",
        ),
        "Gradients": _of(
            "train/gradient/norm",
            "train/gradient/relative_to_cross_entropy",
            "learning_rate",
        ),
    }
)
"""Of every run. ``train/loss/cross_entropy`` has points at the few epochs with a training pass;
``train/running/objective`` is on each loss's own scale."""


def layout_summary(layout: Layout) -> Summary:
    """The layout as TensorBoard reads it; the first category is open, the others are closed.

    A closed category asks for no data until somebody opens it.
    """
    categories = [
        layout_pb2.Category(
            title=title,
            closed=place > 0,
            chart=[
                layout_pb2.Chart(
                    title=chart, multiline=layout_pb2.MultilineChartContent(tag=[f"^{pattern}$"])
                )
                for chart, pattern in charts.items()
            ],
        )
        for place, (title, charts) in enumerate(layout.items())
    ]
    content = layout_pb2.Layout(category=categories).SerializeToString()
    value = Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        metadata=metadata.create_summary_metadata(),
        tensor=make_tensor_proto(content),
    )
    return Summary(value=[value])
