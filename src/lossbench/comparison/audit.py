"""The audit: what a sceptical colleague asks before believing a comparison.

What was held equal, what was not, whether the runs of a seed really began alike, what is missing,
and what each arm cost. Facts of the records and configs only; nothing is judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.comparison import formats
from lossbench.comparison.posthoc import Derived
from lossbench.comparison.selection import budget_words, selection_sheet
from lossbench.comparison.table import FINGERPRINTS, balanced_validation
from lossbench.comparison.tables import Sheet, gradient_sheet
from lossbench.config import name_of
from lossbench.records import Record
from lossbench.targets import arguments_of

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

Facts = dict[str, str]

_DIGITS = 8  # of a fingerprint
_NAMED = 3  # arms named in a cell, before they are only counted


def audit_sheets(comparison: Comparison, context: str) -> list[Sheet]:
    """The sheets of one context, those that there are. Arms made by post-hoc methods are left out.

    What is equal in all arms; where they differ; the size of the loss's gradient; the fingerprints
    of every seed; tuning, and what
    was chosen before the test; runs, failures, time and energy. Raises `DamagedRecordError`.
    """
    runs = comparison.done[context]
    trained = {
        label: records
        for label in comparison.ranked[context]
        if (records := _trained(comparison.records[row] for row in runs.index[runs.label == label]))
    }
    if not trained:  # along models an arm made by a post-hoc method has a context of its own
        return []
    configs: dict[str, Facts] = {}  # equal configurations share one reading
    facts = {label: _facts_of(records, configs) for label, records in trained.items()}
    if comparison.tuning.arms:
        for label, records in trained.items():
            facts[label]["tuning"] = budget_words(comparison.tuning, records[0].arm)
    names = list(dict.fromkeys(name for found in facts.values() for name in found))
    same = [name for name in names if len({found.get(name) for found in facts.values()}) == 1]
    sheets = [
        _equal_sheet(comparison, next(iter(facts.values())), same),
        _different_sheet(comparison, facts, [name for name in names if name not in same]),
        gradient_sheet(comparison, context),
        _fingerprint_sheet(trained),
        selection_sheet(comparison, [int(seed) for seed in runs["seed"]]),
        _cost_sheet(comparison, context, trained),
    ]
    return [sheet for sheet in sheets if sheet is not None]


def _trained(records: Iterator[Record]) -> list[Record]:
    return [record for record in records if not isinstance(record, Derived)]


def _equal_sheet(comparison: Comparison, facts: Facts, names: Sequence[str]) -> Sheet:
    rows = [("epoch reported", "the last; no epoch was chosen by a result")]
    rows += [(name, facts[name]) for name in names]
    return Sheet(f"Equal for every {comparison.by}", ("setting", "value"), tuple(rows))


def _different_sheet(
    comparison: Comparison, facts: Mapping[str, Facts], names: Sequence[str]
) -> Sheet | None:
    if not names:
        return None
    rows = [
        (label, *(found.get(name, formats.UNDEFINED) for name in names))
        for label, found in facts.items()
    ]
    caption = f"Not equal for every {comparison.by}; a slash separates what differs between runs"
    return Sheet(caption, (comparison.by, *names), tuple(rows))


def _facts_of(records: Sequence[Record], configs: dict[str, Facts]) -> Facts:
    """The facts of one label, in words; where its runs disagree all that occur."""
    texts: dict[str, dict[str, None]] = {}
    for record in records:
        key = record.configuration or str(record.folder)
        if key not in configs:
            configs[key] = _config_facts(record.config()) | _answered_prior(record)
        for name, text in (configs[key] | _record_facts(record)).items():
            texts.setdefault(name, {})[text] = None
    return {name: " / ".join(found) for name, found in texts.items()}


def _config_facts(config: Mapping[str, Any]) -> Facts:
    """What surrounds the training, from a run's config; what it does not say is left out."""
    optimizer, model = config.get("optimizer") or {}, config.get("model") or {}
    data, trainer = config.get("data") or {}, config.get("trainer") or {}
    regime = config.get("regime") or {}
    values = {
        "loss": _words(config.get("loss")),
        "loss scale": config.get("loss_scale"),
        "backbone": _words(model, "head"),
        "head": model.get("head"),
        "regime": _words(regime),
        "optimiser": _words(optimizer, "lr", "weight_decay"),
        "learning rate": optimizer.get("lr"),
        "weight decay": optimizer.get("weight_decay"),
        "schedule": _words(config.get("schedule")),
        "epochs": trainer.get("max_epochs"),
        "batch size": data.get("batch_size"),
        "augmentation": _arguments(data.get("augmentation") or {}),
        "precision": trainer.get("precision"),
    }
    return {name: _text(value) for name, value in values.items() if value not in (None, "")}


def _words(part: Mapping[str, Any] | None, *silent: str) -> str:
    """A chosen part with its arguments: ``sgd (momentum=0.9, nesterov=false)``."""
    if not part:
        return ""
    arguments = _arguments(arguments_of(part, *silent))
    return f"{name_of(dict(part))} ({arguments})" if arguments else name_of(dict(part))


def _arguments(values: Mapping[str, Any]) -> str:
    given = {key: value for key, value in values.items() if value is not None}
    return ", ".join(f"{key}={_text(value)}" for key, value in given.items())


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _record_facts(record: Record) -> Facts:
    """The data and the machine, from a run's record."""
    facts = {}
    if record.class_counts:
        total, ratio = sum(record.class_counts), _ratio(record.class_counts)
        facts["training images"] = f"{total}, largest to smallest class {ratio}"
    for split, words in (("val", "validation"), ("test", "test")):
        prior = record.priors.get(split)
        oracle = split == "val" and balanced_validation(record)
        ratio = f"{_ratio(prior)}{', balanced validation (oracle)' * oracle}" if prior else "none"
        facts[f"{words} set, largest to smallest class"] = ratio
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    hardware = ", ".join(f"{name} {_text(value)}" for name, value in record.hardware.items())
    known = {
        "data": record.origin,
        "versions": versions,
        "commit": (record.git or "")[:12] + "+" * (record.git or "").endswith("+"),
        "hardware": hardware,
    }
    return facts | {name: text for name, text in known.items() if text}


def _ratio(sizes: Sequence[float]) -> str:
    """Largest to smallest, the classes without a sample left out: ``100 : 1``."""
    present = [size for size in sizes if size > 0]
    return f"{max(present) / min(present):.4g} : 1" if present else formats.UNDEFINED


def _answered_prior(record: Record) -> Facts:
    """The class prior that the deployed logits answer for: what adjusted numbers start from."""
    log_prior = record.outputs(["log_prior"]).get("log_prior")
    train = record.priors.get("train")
    if log_prior is None or not train:
        return {}
    name = "class prior that the logits answer for"
    if np.isnan(log_prior).any():
        return {name: "unknown, so nothing is adjusted"}
    prior = np.exp(log_prior - np.logaddexp.reduce(log_prior))
    if np.allclose(prior, train, rtol=1e-3):
        words = "that of training"
    elif np.allclose(prior, 1 / len(prior), rtol=1e-3):
        words = "uniform"
    else:
        words = f"largest to smallest class {_ratio(prior.tolist())}"
    return {name: words}


def _fingerprint_sheet(trained: Mapping[str, Sequence[Record]]) -> Sheet:
    """One row per seed; a fingerprint that not all arms share names those with another one."""
    by_seed: dict[int, dict[str, Record]] = {}
    for label, records in trained.items():
        for record in records:
            by_seed.setdefault(record.seed, {})[label] = record
    rows = [
        (str(seed), *(_fingerprint(by_seed[seed], name) for name in FINGERPRINTS))
        for seed in sorted(by_seed)
    ]
    caption = (
        "Fingerprints of what the runs of a seed share: training subset, initial backbone weights, "
        f"first batches (the first {_DIGITS} digits of SHA-256)"
    )
    return Sheet(caption, ("seed", "subset", "initial weights", "batches"), tuple(rows))


def _fingerprint(runs: Mapping[str, Record], name: str) -> str:
    """The fingerprint of the first of ``runs``, and the labels of those that have another."""
    hashes = {label: record.fingerprints.get(name) for label, record in runs.items()}
    first = next(iter(hashes.values()))
    others = [label for label, found in hashes.items() if found != first]
    text = (first or formats.UNDEFINED)[:_DIGITS]
    if not others:
        return text
    more = len(others) - _NAMED
    named = [*others[:_NAMED], f"{more} more"] if more > 0 else others
    return f"{text}; another in {formats.listing(named)}"


def _cost_sheet(
    comparison: Comparison, context: str, trained: Mapping[str, Sequence[Record]]
) -> Sheet:
    """Runs, what is missing, and the time and energy that they took, one row per label."""
    missing: dict[str, list[str]] = {}
    for gap in comparison.gaps:
        if gap.context == context:
            missing.setdefault(gap.label, []).append(gap.sentence.removeprefix(f"{gap.label}: "))
    derived = set(comparison.ranked[context]) - set(trained)
    labels = [label for label in dict.fromkeys([*trained, *missing]) if label not in derived]
    spent = {label: _by_seed(trained.get(label, ()), "seconds") for label in labels}
    used = {label: _by_seed(trained.get(label, ()), "energy_joules") for label in labels}
    quantities = {"seconds": spent} | ({"joules": used} if any(used.values()) else {})
    head = [comparison.by, "finished runs", "failed, missing or not used"]
    for unit in quantities:
        head += [f"{unit} per run", f"{unit} in all", f"{unit} over {comparison.baseline}'s"]
    rows = []
    for label in labels:
        cells = [str(len(trained.get(label, ()))), "; ".join(missing.get(label, ())) or "none"]
        for values in quantities.values():
            cells += _cost(values[label], values.get(comparison.baseline, {}))
        rows.append((label, *cells))
    caption = "Runs and what they took; runs side by side slow each other down"
    if "joules" in quantities:
        caption += ". Joules are the whole GPU's by NVML, other processes on it included"
    return Sheet(caption, tuple(head), tuple(rows))


def _by_seed(records: Sequence[Record], name: str) -> dict[int, float]:
    values = {record.seed: getattr(record, name) for record in records}
    return {seed: value for seed, value in values.items() if value is not None}


def _cost(values: Mapping[int, float], baseline: Mapping[int, float]) -> list[str]:
    """Mean, sum, and the ratio of the sums over the seeds that the baseline has too."""
    if not values:
        return [formats.UNDEFINED] * 3
    shared = values.keys() & baseline.keys()
    own, other = (sum(part[seed] for seed in sorted(shared)) for part in (values, baseline))
    total = sum(values.values())
    ratio = f"{own / other:.2f}" if other > 0 else formats.UNDEFINED
    return [f"{total / len(values):.4g}", f"{total:.4g}", ratio]
