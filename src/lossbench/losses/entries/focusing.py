"""Facts of the losses that turn down the samples already predicted well."""

from __future__ import annotations

from lossbench.losses.schema import NORMALIZER, LossFacts
from lossbench.parameters import Parameter

ENTRIES = (
    LossFacts(
        key="focal",
        family="focusing",
        source="Lin et al., Focal Loss for Dense Object Detection, ICCV 2017",
        formula="α_y (1−p_y)^γ · (−log p_y),  p = softmax(z)",
        summary="Cross-entropy that fades for samples already predicted well.",
        helps="Very many easy samples drown the hard ones, as the background does in detection; "
        "it also curbs over-confidence (Mukhoti et al. 2020).",
        fails="Not proper: the minimiser is less confident than the posterior (Charoenphakdee et "
        "al. 2021). It knows difficulty, not class frequency, so a rare class gains only while it "
        "is hard, and mislabelled samples gain too.",
        implementation="lossbench.losses.focusing:Focal",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="gamma",
                default=2.0,
                kind="number",
                minimum=0,
                text="γ, how fast easy samples fade; 0 is cross-entropy",
            ),
            Parameter(
                name="alpha",
                optional=True,
                kind="per_class",
                minimum=0,
                text="α_c, a factor on the loss of each class; null for none",
            ),
            NORMALIZER,
        ),
    ),
)
