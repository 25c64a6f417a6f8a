"""Who a run is, in its event file: study, arm, cell and seed, for whatever reads the logs.

HParams cannot say it. TensorBoard gives a row of several runs the values of the run that it read
first, so a seed among them would be shown as if it were that of all. The labels therefore stand
in the metadata of a tag of their own, ``lossbench/run``, whose owner is the plugin of the tab
"Losses": TensorBoard shows that tab where it finds such a tag, and gives the plugin the labels of
all runs in one call, without reading a tensor::

    series = data_provider.list_tensors(
        context, experiment_id=experiment, plugin_name=PLUGIN_NAME,
        run_tag_filter=RunTagFilter(tags=[TAG]),
    )
    labels = {run: RunLabels.parse(tags[TAG].plugin_content) for run, tags in series.items()}
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
from tensorboard.util.tensor_util import make_tensor_proto

PLUGIN_NAME = "lossbench"
"""The owner of the tag, and so the ``plugin_name`` of the tab "Losses"."""

TAG = "lossbench/run"


@dataclass(frozen=True)
class RunLabels:
    """Runs with equal ``group`` differ in nothing but their ``seed``.

    Attributes:
        study, arm, cell: as in the record.
        seed: as in the record.
        configuration: the identity of the run without its seed.
        group: its row in the HParams tab, `lossbench.tensorboard.hparams.session_group`.
        grid: lowest edge, highest edge and number of bins of the loss histograms, in log10 of
            the loss; a bin of the same width lies below and above for what is beyond.
        classes: their number C; log C is the loss of a uniform guess.
    """

    study: str
    arm: str
    cell: str
    seed: int
    configuration: str
    group: str
    grid: tuple[float, float, int]
    classes: int | None = None

    @classmethod
    def parse(cls, content: bytes) -> RunLabels:
        """From the ``plugin_content`` of the tag.

        Raises: ValueError where it is not what `labels_summary` wrote.
        """
        try:
            given = json.loads(content)
            low, high, bins = given.pop("grid")
            return cls(**given, grid=(float(low), float(high), int(bins)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the tag '{TAG}' holds no labels of a run: {error}") from None


def labels_summary(labels: RunLabels) -> Summary:
    """The tag `TAG` with the labels as JSON in its metadata, and no value worth reading."""
    content = json.dumps(asdict(labels), ensure_ascii=False).encode()
    metadata = SummaryMetadata(
        plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=content),
        data_class=DATA_CLASS_TENSOR,  # TensorBoard lists nothing without a class of data
    )
    value = Summary.Value(tag=TAG, metadata=metadata, tensor=make_tensor_proto(0.0))
    return Summary(value=[value])
