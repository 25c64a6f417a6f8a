"""What tuning changed: defaults and tuned side by side, in tables and in sentences.

All of it is described and none of it judged: what is judged is every arm against the baseline, in
one family. The seeds on which trials were judged are left out here, for they favour what tuning
chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from lossbench.comparison import formats
from lossbench.comparison.across_cells import PLURAL
from lossbench.comparison.columns import Columns
from lossbench.comparison.pairing import pair_runs
from lossbench.comparison.posthoc import split_baseline
from lossbench.comparison.statistics import Estimate, estimate
from lossbench.comparison.tables import Sheet
from lossbench.comparison.tuning import Trial, Tuned, budget_curve
from lossbench.settings import leaves

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

NOTHING = estimate([])


@dataclass(frozen=True)
class Effect:
    """What tuning did to one arm in one context.

    ``default`` and ``tuned`` are labels, None without a finished run. ``values`` are the means of
    the metric that decides, ``gain`` the paired difference tuned minus default.
    """

    arm: str
    entry: Tuned
    default: str | None
    tuned: str | None
    values: Mapping[str, Estimate]
    gain: Estimate

    @property
    def kept(self) -> bool:
        """Whether the defaults were the best trial."""
        return self.entry.tuned_arm == self.entry.default_arm


def effects(comparison: Comparison, context: str) -> list[Effect]:
    """The effect on every tuned arm that has a finished run in ``context``.

    Empty along models, whose contexts hold one arm each.
    """
    if comparison.by == "model" or context not in comparison.done:
        return []
    found = []
    for arm, entry in comparison.tuning.arms.items():
        first = entry.trials[0] if entry.trials and entry.trials[0].number == 0 else None
        default = _label(comparison, context, entry.default_arm, first)
        tuned = _label(comparison, context, entry.tuned_arm, entry.chosen)
        labels = [label for label in (default, tuned) if label is not None]
        if labels:
            values = {label: _value(comparison, context, label) for label in labels}
            same = default is None or tuned is None or default == tuned
            gain = NOTHING if same else paired(comparison, context, str(tuned), str(default))
            found.append(Effect(arm, entry, default, tuned, values, gain))
    return found


def _label(comparison: Comparison, context: str, arm: str, trial: Trial | None) -> str | None:
    """The label of ``arm``; of several configurations the one with the parameters of ``trial``."""
    runs = comparison.done[context]
    rows = runs[runs["arm"] == arm].drop_duplicates("label")["label"]
    if len(rows) > 1 and trial is not None:
        known = {row: dict(leaves(comparison.records[row].config())) for row in rows.index}
        fitting = [row for row in rows.index if trial.parameters.items() <= known[row].items()]
        rows = rows.loc[fitting]
    return str(rows.iloc[0]) if len(rows) == 1 else None


def _unseen(comparison: Comparison, context: str) -> pd.DataFrame:
    """The finished runs with a value, on seeds that tuning never saw."""
    runs = comparison.done[context].dropna(subset=[comparison.metric])
    return runs[~runs["seed"].isin(comparison.tuning.trial_seeds)]


def _value(comparison: Comparison, context: str, label: str) -> Estimate:
    runs = _unseen(comparison, context)
    return estimate(runs.loc[runs["label"] == label, comparison.metric].to_numpy())


def paired(comparison: Comparison, context: str, label: str, other: str) -> Estimate:
    """``label`` minus ``other`` on the seeds that both have: mean and plain 95 % t-interval."""
    runs = _unseen(comparison, context)
    names = {"baseline": other, "metric": comparison.metric, "by": comparison.by}
    two = runs[runs["label"].isin([label, other])]
    pairs = pair_runs(two, comparison.records, **names)
    return estimate(pairs.loc[pairs["refused"] == "", "difference"].to_numpy())


def budget(comparison: Comparison, context: str, number: Mapping[str, int]) -> Columns:
    """The data of the budget curve of one context; ``number`` is the place of every label.

    An arm is drawn as its tuned form, else as its default one.
    """
    labels = {effect.arm: effect.tuned or effect.default for effect in effects(comparison, context)}
    places = {arm: number[label] for arm, label in labels.items() if label is not None}
    return budget_curve(comparison.tuning, places)


def tuning_sheets(comparison: Comparison, context: str) -> list[Sheet]:
    """The tables of one context: defaults beside tuned, and the order of the arms under either."""
    found = effects(comparison, context)
    if not found:
        return []
    order = _order_sheet(comparison, context, found)
    return [_effect_sheet(comparison, found), *([order] if order else [])]


def _effect_sheet(comparison: Comparison, found: Sequence[Effect]) -> Sheet:
    tuning, fact = comparison.tuning, comparison.facts
    rows = []
    for effect in found:
        chosen, entry = effect.entry.chosen, effect.entry
        best = formats.UNDEFINED if chosen is None else formats.number(chosen.value or 0.0)
        rows.append(
            (
                effect.arm,
                _mean(effect, effect.default),
                _mean(effect, effect.tuned),
                *_difference(effect.gain),
                formats.UNDEFINED if chosen is None else str(chosen.number),
                "the defaults" if effect.kept else _parameters(chosen),
                best,
                str(len(entry.trials)),
                str(entry.failed),
            )
        )
    head = (
        *(comparison.by, f"defaults {fact.arrow}", f"tuned {fact.arrow}"),
        *("tuned minus defaults", "95 % t-interval", "paired seeds", "trial chosen"),
        *("its parameters", "its validation value", "trials", "failed"),
    )
    without = f", without {_seeds(tuning.trial_seeds)} of the trials" if tuning.trial_seeds else ""
    caption = (
        f"Defaults and tuned: {fact.name}, {comparison.where}, mean ± standard error over "
        f"seeds{without}. The interval is that of each difference by itself: "
        f"described, not judged; all {PLURAL[comparison.by]} are judged in one family, against "
        f"{comparison.baseline}. Trials were chosen by {tuning.words}: the value of "
        "the one chosen is the best of several, and too good for that reason; the difference is of "
        "other seeds. Trial 0 has the defaults"
    )
    return Sheet(caption, head, tuple(rows))


def _mean(effect: Effect, label: str | None) -> str:
    if label is None:
        return formats.UNDEFINED
    number = effect.values[label]
    return formats.plus_minus(number.mean, number.standard_error)


def _difference(gain: Estimate) -> tuple[str, str, str]:
    if gain.n == 0:
        return (formats.UNDEFINED,) * 3
    mean, low, high = formats.difference(gain.mean, gain.low, gain.high)
    return mean, formats.UNDEFINED if low == formats.UNDEFINED else f"{low} to {high}", str(gain.n)


def _parameters(trial: Trial | None) -> str:
    if trial is None:
        return "no trial finished"
    return ", ".join(f"{path}={_short(value)}" for path, value in trial.parameters.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) != 1)} {formats.some(list(map(str, seeds)))}" if seeds else ""


@dataclass(frozen=True)
class Order:
    """The arms by their lead over ``baseline``, the best first, all in one form."""

    baseline: str
    leads: dict[str, Estimate]

    def place(self, arm: str) -> int:
        """The place of ``arm``; 1 is the best mean."""
        return 1 + list(self.leads).index(arm)


def orders(
    comparison: Comparison, context: str, found: Sequence[Effect]
) -> tuple[Order, Order] | None:
    """The order of the arms with their defaults and that when tuned; None if there are not two.

    Each against the same form of the baseline's arm, so that like is compared with like. An arm
    takes part if both of its forms are paired with those of the baseline.
    """
    own = comparison.tuning.tuned_by(split_baseline(comparison.baseline)[0])
    base = next((effect for effect in found if effect.entry is own), None)
    if base is None or base.default is None or base.tuned is None:
        return None
    itself = replace(NOTHING, mean=0.0)
    leads: dict[str, tuple[Estimate, Estimate]] = {}
    for effect in found:
        if effect is base:
            leads[effect.arm] = (itself, itself)
        elif effect.default is not None and effect.tuned is not None:
            defaults = paired(comparison, context, effect.default, base.default)
            tuned = paired(comparison, context, effect.tuned, base.tuned)
            if defaults.n and tuned.n:
                leads[effect.arm] = (defaults, tuned)
    if len(leads) < 2:
        return None
    sign = -1 if comparison.facts.higher_is_better else 1

    def ordered(form: int, baseline: str) -> Order:
        arms = sorted(leads, key=lambda arm: sign * leads[arm][form].mean)
        return Order(baseline, {arm: leads[arm][form] for arm in arms})

    return ordered(0, base.default), ordered(1, base.tuned)


def _order_sheet(comparison: Comparison, context: str, found: Sequence[Effect]) -> Sheet | None:
    both = orders(comparison, context, found)
    if both is None:
        return None
    defaults, tuned = both
    rows = []
    for arm in tuned.leads:
        cells: list[str] = []
        for order in both:
            cells += [*_difference(order.leads[arm])[:2], str(order.place(arm))]
        rows.append((arm, *cells))
    head = (
        *(comparison.by, f"defaults minus {defaults.baseline}", "95 % t-interval", "place"),
        *(f"tuned minus {tuned.baseline}", "95 % t-interval ", "place "),
    )
    caption = (
        f"Like with like: the {PLURAL[comparison.by]} with their defaults, and when each is "
        f"tuned, in {comparison.facts.name}, by their mean paired differences; each "
        f"interval is that of its row alone: described, not judged. To judge them "
        f'when each is tuned: baseline="{tuned.baseline}"'
    )
    return Sheet(caption, head, tuple(rows))


def tuning_remarks(comparison: Comparison, context: str) -> list[str]:
    """What tuning changed, and where the comparison is not of like with like; empty without it."""
    found = effects(comparison, context)
    if not found:
        return []
    said = [_changed(comparison, found), _order_words(comparison, context, found)]
    said += [_unequal(comparison, context), _seen(comparison, context)]
    return [sentence for sentence in said if sentence]


def _changed(comparison: Comparison, found: Sequence[Effect]) -> str:
    tuning = comparison.tuning
    counts = sorted({len(effect.entry.trials) for effect in found})
    trials = f"{counts[0]} trial{'s' * (counts[0] != 1)}{' each' * (len(found) > 1)}"
    if len(counts) > 1:
        trials = f"{counts[0]} to {counts[-1]} trials"
    how = f"with {trials} on {tuning.where}"
    gained = [effect for effect in found if effect.gain.n]
    kept = [effect.arm for effect in found if effect.kept]
    if not gained:
        if len(kept) == len(found):
            return f"Tuning {how} changed nothing: the defaults of {formats.some(kept)} won."
        return f"Tuned {how}; no tuned {comparison.by} is paired with its defaults yet."
    sizes = formats.some(
        [_size(effect, first=place == 0) for place, effect in enumerate(gained)], 5
    )
    still = f" The defaults of {formats.some(kept)} won." if kept else ""
    return (
        f"Tuning {how} changes {comparison.facts.name} ({comparison.where}) by {sizes}; "
        f"described, not judged.{still}"
    )


def _size(effect: Effect, first: bool) -> str:
    mean, interval, _ = _difference(effect.gain)
    words = "95 % t-interval " * first
    told = "one seed" if interval == formats.UNDEFINED else f"{words}{interval}"
    return f"{mean} for {effect.arm} ({told})"


def _order_words(comparison: Comparison, context: str, found: Sequence[Effect]) -> str:
    both = orders(comparison, context, found)
    if both is None:
        return ""
    defaults, tuned = (list(order.leads) for order in both)
    if defaults == tuned:
        return "The order of their means is the same with defaults and tuned."
    if defaults[0] != tuned[0]:
        return f"The best mean is {defaults[0]}'s with defaults, {tuned[0]}'s when each is tuned."
    return f"Tuned, the order of their means changes below the best, {tuned[0]}."


def _unequal(comparison: Comparison, context: str) -> str:
    """Which arms had another number of trials than the baseline; "" if none."""
    arms = _arms(comparison, context)
    budget = comparison.tuning.budgets
    own = budget(arms.get(comparison.baseline, comparison.baseline))
    other: dict[int, list[str]] = {}
    for label, arm in arms.items():
        if label != comparison.baseline and not own & budget(arm):
            other.setdefault(max(budget(arm)), []).append(label)
    if not other:
        return ""
    parts = [
        f"{formats.some(labels)} {'was' if len(labels) == 1 else 'were'} {_trials(count)}"
        for count, labels in sorted(other.items())
    ]
    parts.append(f"{comparison.baseline} was {_trials(max(own))}")
    return f"Not like with like: {formats.listing(parts)}.{_instead(comparison, context)}"


def _trials(count: int) -> str:
    return f"tuned with {count} trial{'s' * (count != 1)}" if count else "not tuned"


def _instead(comparison: Comparison, context: str) -> str:
    """Which baseline compares tuned arms with each other; "" if that is the baseline already."""
    arm, _ = split_baseline(comparison.baseline)
    own = comparison.tuning.tuned_by(arm)
    if own is None or own.tuned_arm == own.default_arm:
        return ""
    if arm == own.tuned_arm:
        return f' Defaults are compared with baseline="{own.default_arm}".'
    there = _label(comparison, context, own.tuned_arm, own.chosen)
    return f' Tuned ones are compared with baseline="{there}".' if there else ""


def _seen(comparison: Comparison, context: str) -> str:
    """Which seeds of tuned labels chose their parameters; "" if none."""
    runs = comparison.done[context]
    tuned = {t.tuned_arm for t in comparison.tuning.arms.values() if t.tuned_arm != t.default_arm}
    of_tuned = runs[runs["arm"].isin(tuned)]
    seeds = sorted(set(of_tuned["seed"]) & set(comparison.tuning.trial_seeds))
    if not seeds:
        return ""
    concerned = set(of_tuned.loc[of_tuned["seed"].isin(seeds), "label"])
    labels = [label for label in comparison.ranked[context] if label in concerned]
    return (
        f"The parameters of {formats.some(labels)} were chosen on {_seeds(seeds)}, so these runs "
        "favour them; fresh seeds would not."
    )


def _arms(comparison: Comparison, context: str) -> dict[str, str]:
    """The arm of every label of ``context``, in the order of its table."""
    runs = comparison.done[context].drop_duplicates("label").set_index("label")
    return {label: str(runs.at[label, "arm"]) for label in comparison.ranked[context]}
