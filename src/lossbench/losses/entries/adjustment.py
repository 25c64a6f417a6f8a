"""Facts of the losses that move the logits by the class frequencies."""

from __future__ import annotations

from lossbench.losses.schema import LossFacts
from lossbench.parameters import Parameter

ENTRIES = (
    LossFacts(
        key="balanced_softmax",
        family="adjustment",
        source="Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020",
        formula="CE(z + log n);  deployed logits z",
        summary="Cross-entropy with the training frequencies inside the softmax, so that the bare "
        "logits answer for equal class shares.",
        helps="Long-tailed training data and test data that count all classes alike.",
        fails="Test data with the training shares: the bare logits then predict rare classes too "
        "often (add log n back). It counts on the class shares being all that changes.",
        implementation="lossbench.losses.adjustment:BalancedSoftmax",
        proper=True,
        soft_targets="direct",
        needs=frozenset({"class_counts"}),
    ),
    LossFacts(
        key="logit_adjusted",
        family="adjustment",
        source="Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021",
        formula="CE(z + τ log π),  π_c = n_c/Σn;  deployed logits z",
        summary="Cross-entropy with τ times the log training prior added to the logits; τ = 1 is "
        "balanced softmax.",
        helps="Long-tailed training data and test data that count all classes alike; τ trades "
        "head against tail.",
        fails="Test data with the training shares. With τ other than 1 the deployed logits answer "
        "for no natural prior; a τ tuned on balanced validation data is an oracle's.",
        implementation="lossbench.losses.adjustment:LogitAdjusted",
        proper=True,
        soft_targets="direct",
        needs=frozenset({"class_counts"}),
        parameters=(
            Parameter(
                name="tau",
                default=1.0,
                kind="number",
                minimum=0,
                text="τ, how much of the log prior is added; 0 is cross-entropy",
            ),
        ),
    ),
)
