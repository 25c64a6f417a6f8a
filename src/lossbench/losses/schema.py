"""What can be said about a loss without torch: the facts a reader needs, and its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lossbench.parameters import Parameter


@dataclass(frozen=True, kw_only=True)
class LossFacts:
    """What there is to know about one loss before it is built.

    key             its name in configs, `create_loss` and tables
    needs           what it takes besides logits and target: "class_counts"; "epoch" (`set_epoch`);
                    "features" (of the head, at the call); "batch" (it couples the samples of a
                    batch); "state" (it keeps running counts of what it was trained on)
    soft_targets    "direct": takes (N, C) probabilities; "mixed": mix two losses instead,
                    lam * loss(z, a) + (1 - lam) * loss(z, b); "none": neither
    proper          with the default parameters, the logits that minimise the expected loss, decoded
                    and less `log_prior_shift`, are log p(y|x) up to a constant
    heads           the heads it accepts: "any", "linear" or "cosine"
    implementation  "module:Class"
    """

    key: str
    family: str
    source: str
    formula: str
    summary: str
    helps: str
    fails: str
    implementation: str
    proper: bool
    soft_targets: Literal["direct", "mixed", "none"]
    heads: Literal["any", "linear", "cosine"] = "linear"
    needs: frozenset[str] = frozenset()
    parameters: tuple[Parameter, ...] = ()


WEIGHT = Parameter(
    name="weight",
    optional=True,
    kind="per_class",
    minimum=0,
    text="w_c, a factor on the loss of each class; null for none",
)
IGNORE_INDEX = Parameter(
    name="ignore_index",
    default=-100,
    kind="integer",
    text="samples with this target have no loss, no gradient and no part in the mean",
)
NORMALIZER = Parameter(
    name="normalizer",
    default="weights",
    kind="choice",
    choices=("weights", "batch"),
    text="what the mean divides by: the sum of the class weights of the targets (torch's rule), or "
    "N; where (N, C) targets are taken it is N for them",
)


def _over_classes(default: str) -> Parameter:
    return Parameter(
        name="class_reduction",
        default=default,
        kind="choice",
        choices=("sum", "mean"),
        text="R, over the classes of a sample; the mean is the sum divided by C",
    )


SUM_OVER_CLASSES = _over_classes("sum")
MEAN_OVER_CLASSES = _over_classes("mean")
