"""TensorBoard's tab "Losses": loss histograms of arms laid over each other, epoch by epoch.

It reads event files through TensorBoard, so it works wherever the logs are. The page asks once
for what there is, then once for each split, loss and class group; all epochs come at once,
averaged over seeds, so that its slider has to wait for nothing. What the numbers say about arms is
decided by `lossbench compare` and not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.data.provider import RunTagFilter
from tensorboard.plugins import base_plugin
from tensorboard.plugins.histogram import metadata as histogram_metadata
from werkzeug import wrappers

from lossbench.tensorboard.labels import PLUGIN_NAME, TAG, RunLabels
from lossbench.tensorboard.plugin import averages
from lossbench.tensorboard.plugin.arms import Arm, places

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

STATIC = Path(__file__).parent / "static"
FILES = {
    "index.js": "text/javascript",
    "chart.js": "text/javascript",
    "elements.js": "text/javascript",
    "host.js": "text/javascript",
    "losses.css": "text/css",
}
HISTOGRAM = re.compile(
    r"(?P<split>train|val|test)/log10_loss(_(?P<group>head|mid|tail))?/"
    r"(?P<loss>cross_entropy|objective|cross_entropy_at_test_prior)"
)
"""The tags that are drawn."""

EVERY_EPOCH = 1_000_000
"""More than TensorBoard keeps of a series: it draws 500 histograms of those that were written."""


class LossesPlugin(base_plugin.TBPlugin):
    """The routes of the tab, and how TensorBoard shows it."""

    plugin_name = PLUGIN_NAME

    def __init__(self, context: base_plugin.TBContext) -> None:
        self._provider = context.data_provider

    def get_plugin_apps(self) -> dict[str, WSGIApplication]:
        """``/arms``, ``/histograms?place=PLACE&tag=TAG`` and the files of the page."""
        answers = {"/arms": _json(self.arms), "/histograms": _json(self.histograms)}
        return answers | {f"/{name}": _file(name, kind) for name, kind in FILES.items()}

    def is_active(self) -> bool:
        """Whether a run has loss histograms; asked only where no run has labels."""
        if self._provider is None:
            return False
        return bool(self._tags(None, ""))

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """A page of its own in a frame, named Losses."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Losses")

    def arms(self, request: wrappers.Request) -> dict[str, Any]:
        """What can be shown.

        Returns: ``places``, each with its ``name``, its ``arms`` (key, label, seeds, runs,
            classes) and its ``views`` (tag, split, group, loss), in the order of their names.
        """
        tags = self._tags(*_asked(request))
        answer = []
        for name, arms in places(self._labels(*_asked(request), tags)).items():
            found = {tag for arm in arms for run in arm.runs for tag in tags[run]}
            views = [{"tag": tag} | _view(tag) for tag in sorted(found)]
            shown = [
                {
                    "key": arm.key,
                    "label": arm.label,
                    "runs": len(arm.runs),
                    "seeds": arm.seeds,
                    "classes": arm.classes,
                }
                for arm in arms
            ]
            answer.append({"name": name, "arms": shown, "views": views})
        return {"places": answer}

    def histograms(self, request: wrappers.Request) -> dict[str, Any]:
        """The distributions of one tag in one place: all its arms, all their epochs.

        Returns: ``grid``; ``epochs``, all that an arm has; ``arms``: key -> epoch ->
            `averages.describe`; ``left_out``: a sentence for each run that cannot be drawn.
        Raises: InvalidArgumentError and NotFoundError, which TensorBoard answers with 400 and 404.
        """
        context, experiment = _asked(request)
        place, tag = request.args.get("place", ""), request.args.get("tag", "")
        if not HISTOGRAM.fullmatch(tag):
            raise errors.InvalidArgumentError(
                f"'{tag}' is no loss histogram; ask for a tag that /arms names"
            )
        labels = self._labels(context, experiment, self._tags(context, experiment))
        arms = places(labels).get(place)
        if arms is None:
            raise errors.NotFoundError(
                f"no runs of '{place}' are loaded; ask for a place that /arms names"
            )
        runs = [run for arm in arms for run in arm.runs]
        series = self._provider.read_tensors(
            context,
            experiment_id=experiment,
            plugin_name=histogram_metadata.PLUGIN_NAME,
            downsample=EVERY_EPOCH,
            run_tag_filter=RunTagFilter(runs=runs, tags=[tag]),
        )
        grids = (known.grid for run in runs if (known := labels[run]) is not None)
        return _averaged(
            arms,
            {run: {datum.step: datum.numpy for datum in of[tag]} for run, of in series.items()},
            next(grids, averages.GRID),
        )

    def _tags(self, context: Any, experiment: str) -> dict[str, list[str]]:
        """The tags of loss histograms of every run that has one."""
        series = self._provider.list_tensors(
            context, experiment_id=experiment, plugin_name=histogram_metadata.PLUGIN_NAME
        )
        found = {
            run: [tag for tag in tags if HISTOGRAM.fullmatch(tag)] for run, tags in series.items()
        }
        return {run: tags for run, tags in found.items() if tags}

    def _labels(
        self, context: Any, experiment: str, runs: Mapping[str, Any]
    ) -> dict[str, RunLabels | None]:
        """Who each of the ``runs`` is; None where its logs do not say it."""
        series = self._provider.list_tensors(
            context,
            experiment_id=experiment,
            plugin_name=PLUGIN_NAME,
            run_tag_filter=RunTagFilter(tags=[TAG]),
        )
        labels: dict[str, RunLabels | None] = dict.fromkeys(runs)
        for run in series.keys() & labels.keys():
            try:
                labels[run] = RunLabels.parse(series[run][TAG].plugin_content)
            except ValueError:
                continue  # written by another version: a run without labels
        return labels


def _averaged(
    arms: list[Arm], series: Mapping[str, Mapping[int, averages.Floats]], grid: averages.Grid
) -> dict[str, Any]:
    """The answer of `LossesPlugin.histograms`, from run -> epoch -> buckets."""
    left_out, answer = [], {}
    for arm in arms:
        by_epoch: dict[int, list[averages.Floats]] = {}
        for run in arm.runs:
            try:
                placed = {
                    epoch: averages.on_grid(buckets, grid)
                    for epoch, buckets in series.get(run, {}).items()
                }
            except ValueError as error:
                left_out.append(f"{run}: {error}")
                continue
            for epoch, fractions in placed.items():
                by_epoch.setdefault(epoch, []).append(fractions)
        answer[arm.key] = {
            epoch: averages.describe(by_epoch[epoch], grid) for epoch in sorted(by_epoch)
        }
    epochs = sorted({epoch for of_arm in answer.values() for epoch in of_arm})
    return {"grid": grid, "epochs": epochs, "arms": answer, "left_out": left_out}


def _view(tag: str) -> dict[str, str]:
    """What a tag shows: split, class group (or all) and loss."""
    parts = HISTOGRAM.fullmatch(tag)
    assert parts is not None
    return {"split": parts["split"], "group": parts["group"] or "all", "loss": parts["loss"]}


def _asked(request: wrappers.Request) -> tuple[Any, str]:
    """The context and the experiment that TensorBoard's data provider wants to know."""
    environment = request.environ
    return plugin_util.context(environment), plugin_util.experiment_id(environment)


def _json(answer: Callable[[wrappers.Request], Any]) -> WSGIApplication:
    """A route that answers with JSON."""

    @wrappers.Request.application
    def app(request: wrappers.Request) -> wrappers.Response:
        return http_util.Respond(request, answer(request), "application/json")

    return app


def _file(name: str, kind: str) -> WSGIApplication:
    """A route that serves one file of the page."""

    @wrappers.Request.application
    def app(request: wrappers.Request) -> wrappers.Response:
        return http_util.Respond(request, (STATIC / name).read_bytes(), kind)

    return app
