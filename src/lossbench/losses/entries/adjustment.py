"""Facts of the losses that move the logits by the class frequencies."""

from __future__ import annotations

from lossbench.losses.schema import NORMALIZER, WEIGHT, LossFacts
from lossbench.parameters import Parameter

ENTRIES = (
    LossFacts(
        key="ldam",
        family="adjustment",
        source="Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin "
        "Loss, NeurIPS 2019",
        formula="CE(s (z − m_y e_y)),  m_c = m_max (n_min/n_c)^¼;  deployed logits s·z",
        summary="A margin on the true class's cosine, larger the rarer the class.",
        helps="Long tails with a cosine head, and class weights from late in training on "
        "(deferred re-weighting), which is how it was published.",
        fails="Without a cosine head the logits are unbounded and s = 30 saturates them. Alone, "
        "without the late re-weighting, it gains little over cross-entropy. Its gradient on the "
        "cosines is s times cross-entropy's, on purpose. Not proper: the margin stays in the "
        "probabilities.",
        implementation="lossbench.losses.adjustment:LDAM",
        proper=False,
        soft_targets="mixed",
        heads="cosine",
        needs=frozenset({"class_counts"}),
        parameters=(
            Parameter(
                name="max_margin",
                default=0.5,
                kind="number",
                text="m_max, the margin of the rarest class",
                minimum=0,
            ),
            Parameter(
                name="scale",
                default=30.0,
                kind="number",
                text="s, from cosines to logits",
                minimum=0,
                open_minimum=True,
            ),
            WEIGHT,
            NORMALIZER,
        ),
    ),
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
    LossFacts(
        key="vs",
        family="adjustment",
        source="Kini et al., Label-Imbalanced and Group-Sensitive Classification under "
        "Overparameterization, NeurIPS 2021",
        formula="CE(z·Δ + τ log π),  Δ_c = (n_c/n_max)^γ;  deployed logits z",
        summary="Logit adjustment with a factor per class too: the part that still works when the "
        "training set is fitted.",
        helps="Long tails, networks trained far past fitting the training set.",
        fails="A constant added to all logits changes the loss, so that it works against the "
        "bias. γ and τ are tuned together, usually on balanced validation data. The deployed "
        "logits answer for no prior. Not proper unless γ = 0.",
        implementation="lossbench.losses.adjustment:VS",
        proper=False,
        soft_targets="direct",
        needs=frozenset({"class_counts"}),
        parameters=(
            Parameter(
                name="gamma",
                default=0.3,
                kind="number",
                text="γ of the factors; 0 is logit_adjusted",
                minimum=0,
                maximum=1,
                open_maximum=True,
            ),
            Parameter(
                name="tau",
                default=1.0,
                kind="number",
                text="τ, how much of the log prior is added; 0 is cdt",
                minimum=0,
            ),
        ),
    ),
    LossFacts(
        key="cdt",
        family="adjustment",
        source="Ye et al., Identifying and Compensating for Feature Deviation in Imbalanced Deep "
        "Learning, 2020",
        formula="CE(z·Δ),  Δ_c = (n_c/n_max)^γ;  deployed logits z",
        summary="Logits of rare classes are shrunk in training, so that they must grow larger.",
        helps="Networks that fit the rare training samples and yet miss the rare test samples.",
        fails="As vs; the larger γ, the more the head classes pay. Not proper unless γ = 0.",
        implementation="lossbench.losses.adjustment:CDT",
        proper=False,
        soft_targets="direct",
        needs=frozenset({"class_counts"}),
        parameters=(
            Parameter(
                name="gamma",
                default=0.2,
                kind="number",
                text="γ; 0 is cross-entropy",
                minimum=0,
                maximum=1,
                open_maximum=True,
            ),
        ),
    ),
    LossFacts(
        key="seesaw",
        family="adjustment",
        source="Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation, CVPR 2021",
        formula="CE(z_j + log S_yj),  S = min(1, (n_j/n_y)^p) · max(1, (p_j/max(p_y, ε))^q), "
        "constant in the gradient",
        summary="Negative gradients on rare classes are turned down, and up again where they are "
        "taken for the true one.",
        helps="Very many classes with a long tail, and counts that are not known in advance: it "
        "counts the samples as they come.",
        fails="Made for detection heads. The counts are noise in the first steps. Its training "
        "loss does not compare between moments of a run. Not proper.",
        implementation="lossbench.losses.adjustment:Seesaw",
        proper=False,
        soft_targets="mixed",
        needs=frozenset({"state"}),
        parameters=(
            Parameter(
                name="p",
                default=0.8,
                kind="number",
                text="p, how strongly rare classes are spared",
                minimum=0,
            ),
            Parameter(
                name="q",
                default=2.0,
                kind="number",
                text="q, how strongly mistakes are punished after all",
                minimum=0,
            ),
            Parameter(
                name="epsilon",
                default=0.01,
                kind="number",
                text="ε, the least p_y that is divided by",
                minimum=0,
                maximum=1,
                open_minimum=True,
            ),
        ),
    ),
)
