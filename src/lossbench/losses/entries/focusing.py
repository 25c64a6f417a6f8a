"""Facts of the losses that turn down the samples already predicted well."""

from __future__ import annotations

from lossbench.losses.schema import NORMALIZER, SUM_OVER_CLASSES, LossFacts
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
    LossFacts(
        key="sigmoid_focal",
        family="focusing",
        source="Lin et al., Focal Loss for Dense Object Detection, ICCV 2017 (RetinaNet's form)",
        formula="R_j α σ(−z_j)^γ softplus(−z_j) at j = y, (1−α) σ(z_j)^γ softplus(z_j) elsewhere; "
        "deployed logits log σ(z)",
        summary="The focal loss of the paper: one sigmoid per class, easy negatives faded out.",
        helps="One-vs-rest heads with very many easy negatives, as in detection.",
        fails="Another loss than focal on softmax, though both go by that name. Not proper. α = "
        "0.25 weighs positives less than negatives, right for detection's balance and rarely for "
        "a classifier's.",
        implementation="lossbench.losses.focusing:SigmoidFocal",
        proper=False,
        soft_targets="direct",
        parameters=(
            Parameter(
                name="gamma",
                default=2.0,
                kind="number",
                text="γ, how fast easy classes fade; 0 is weighted binary cross-entropy",
                minimum=0,
            ),
            Parameter(
                name="alpha",
                default=0.25,
                kind="number",
                text="α, the weight of the true class; the others have 1−α; null for 1 and 1",
                minimum=0,
                maximum=1,
                open_maximum=True,
                optional=True,
            ),
            SUM_OVER_CLASSES,
        ),
    ),
    LossFacts(
        key="focal_flsd",
        family="focusing",
        source="Mukhoti et al., Calibrating Deep Neural Networks using Focal Loss, NeurIPS 2020",
        formula="(1−p_y)^γ · (−log p_y),  γ = γ_i for the i-th interval of p_y, constant in the "
        "gradient",
        summary="Focal with a stronger γ where the true class has little probability (FLSD-53: 5 "
        "below 0.2, else 3).",
        helps="Over-confident networks: calibration without temperature scaling.",
        fails="Jumps at the thresholds; under-confident where cross-entropy was calibrated "
        "already; not proper.",
        implementation="lossbench.losses.focusing:FocalFLSD",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="thresholds",
                default=[0.2],
                kind="numbers",
                text="ascending p_y at which γ changes",
                minimum=0,
                maximum=1,
            ),
            Parameter(
                name="gammas",
                default=[5.0, 3.0],
                kind="numbers",
                text="γ below the first threshold, between the first and the second, and so on",
                minimum=0,
            ),
        ),
    ),
    LossFacts(
        key="dual_focal",
        family="focusing",
        source="Tao et al., Dual Focal Loss for Calibration, ICML 2023",
        formula="(1 − p_y + p_j)^γ · (−log p_y),  p_j = max{p_k : p_k < p_y}, or 0",
        summary="Focal that looks at the lead over the runner-up and not at p_y alone.",
        helps="Calibration where focal is under-confident.",
        fails="Discontinuous where the target ties with another class, which the first steps of a "
        "network are full of; not proper.",
        implementation="lossbench.losses.focusing:DualFocal",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="gamma",
                default=5.0,
                kind="number",
                text="γ, how fast samples with a lead fade; 0 is cross-entropy",
                minimum=0,
            ),
        ),
    ),
    LossFacts(
        key="poly1",
        family="focusing",
        source="Leng et al., PolyLoss, ICLR 2022",
        formula="(1−p_y)^γ · (−log p_y) + ε (1−p_y)^{γ+1}",
        summary="Cross-entropy (or focal) with the first coefficient of its Taylor series in "
        "1−p_y changed by ε.",
        helps="A cheap knob to tune: ε > 0 stresses hard samples near p_y = 1/2 more than "
        "cross-entropy does.",
        fails="The best ε depends on the task and must be chosen on validation data. Positive ε "
        "rewards confidence beyond the posterior, negative ε less than it; not proper.",
        implementation="lossbench.losses.focusing:Poly1",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="epsilon",
                default=2.0,
                kind="number",
                text="ε, added to the first coefficient; 0 is focal",
                minimum=-1,
            ),
            Parameter(
                name="gamma",
                default=0.0,
                kind="number",
                text="γ of the focal form; 0 is the cross-entropy form",
                minimum=0,
            ),
        ),
    ),
    LossFacts(
        key="asymmetric",
        family="focusing",
        source="Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021 (its "
        "single-label form)",
        formula="−Σ_j t'_j w_j log p_j,  w_y = (1−p_y)^γ₊, w_j = p_j^γ₋,  t' = (1−ε)t + ε/C",
        summary="Smoothed cross-entropy whose wrong classes count only where they have "
        "probability.",
        helps="As label smoothing, without the pull on classes that are ruled out already.",
        fails="Without smoothing γ₋ has no effect at all, and it is focal with γ₊; timm turns "
        "smoothing on by default. Not proper.",
        implementation="lossbench.losses.focusing:Asymmetric",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="gamma_pos",
                default=0.0,
                kind="number",
                text="γ₊, focusing of the true class",
                minimum=0,
            ),
            Parameter(
                name="gamma_neg",
                default=4.0,
                kind="number",
                text="γ₋, focusing of the others; without effect at smoothing 0",
                minimum=0,
            ),
            Parameter(
                name="smoothing",
                default=0.1,
                kind="number",
                text="ε, the share of the target that is spread over all classes",
                minimum=0,
                maximum=1,
                open_maximum=True,
            ),
        ),
    ),
    LossFacts(
        key="asymmetric_ovr",
        family="focusing",
        source="Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021",
        formula="R_j (1−s_j)^γ₊ (−log s_j) at j = y, q_j^γ₋ (−log(1−q_j)) elsewhere,  s = σ(z), q "
        "= max(s − clip, 0);  deployed logits log σ(z)",
        summary="One sigmoid per class; negatives below the clip cost nothing, easy ones fade "
        "faster than positives.",
        helps="Many classes one-vs-rest, where negatives drown the positives, and negatives that "
        "may be mislabelled.",
        fails="Made for several labels per image: with one label softmax losses use the "
        "competition that this one ignores. Not proper; clipped negatives never learn to go "
        "lower.",
        implementation="lossbench.losses.focusing:AsymmetricOVR",
        proper=False,
        soft_targets="direct",
        parameters=(
            Parameter(
                name="gamma_pos",
                default=1.0,
                kind="number",
                text="γ₊, focusing of the true class",
                minimum=0,
            ),
            Parameter(
                name="gamma_neg",
                default=4.0,
                kind="number",
                text="γ₋, focusing of the others",
                minimum=0,
            ),
            Parameter(
                name="clip",
                default=0.05,
                kind="number",
                text="the probability that a negative may have for free",
                minimum=0,
                maximum=1,
                open_maximum=True,
            ),
            Parameter(
                name="detach_weight",
                default=False,
                kind="boolean",
                text="treat the focusing factors as constants in the gradient",
            ),
            SUM_OVER_CLASSES,
        ),
    ),
)
