"""Facts of the losses that weight each class by its frequency."""

from __future__ import annotations

from lossbench.losses.schema import NORMALIZER, LossFacts
from lossbench.parameters import Parameter

ENTRIES = (
    LossFacts(
        key="class_balanced",
        family="reweighting",
        source="Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019",
        formula="w_y CE,  w_c ∝ (1−β)/(1−β^{n_c}),  Σ_c w_c = C",
        summary="Cross-entropy with each class weighted by one over its effective number of "
        "samples.",
        helps="Moderate imbalance, small models or few epochs, and test data that count all "
        "classes alike.",
        fails="Networks that fit the training set: there weights hardly move the solution (Byrd & "
        "Lipton 2019). A few heavy samples make the gradient noisy, so start it late (drw). With "
        "normalizer weights a batch of one class is not weighted at all.",
        implementation="lossbench.losses.reweighting:ClassBalanced",
        proper=True,
        soft_targets="direct",
        needs=frozenset({"class_counts"}),
        parameters=(
            Parameter(
                name="beta",
                default=0.9999,
                kind="number",
                minimum=0,
                maximum=1,
                open_maximum=True,
                text="β: 0 gives equal weights; towards 1 the weights become 1/n_c",
            ),
            NORMALIZER,
        ),
    ),
)
