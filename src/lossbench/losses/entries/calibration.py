"""Facts of the losses that keep the logits from growing without bound, or the confidence honest."""

from __future__ import annotations

from lossbench.losses.schema import MEAN_OVER_CLASSES, LossFacts
from lossbench.parameters import Parameter

ENTRIES = (
    LossFacts(
        key="mbls",
        family="calibration",
        source="Liu et al., The Devil is in the Margin: Margin-based Label Smoothing for Network "
        "Calibration, CVPR 2022",
        formula="−log p_y + α R_j max(0, max_k z_k − z_j − m) (R: mean or sum over classes)",
        summary="Cross-entropy with a price on logits more than m below the largest.",
        helps="Over-confidence, without label smoothing's pull on gaps that are still small.",
        fails="m must fit the scale of the logits: too large and nothing happens. The paper "
        "writes a sum over classes, its code takes the mean: α differs by the factor C. Not "
        "proper once a gap passes m.",
        implementation="lossbench.losses.calibration:MbLS",
        proper=False,
        soft_targets="direct",
        parameters=(
            Parameter(
                name="margin",
                default=10.0,
                kind="number",
                text="m, the gap that is free (6 was used for CIFAR-10)",
                minimum=0,
                open_minimum=True,
            ),
            Parameter(
                name="alpha",
                default=0.1,
                kind="number",
                text="α, the price of the rest",
                minimum=0,
            ),
            MEAN_OVER_CLASSES,
        ),
    ),
    LossFacts(
        key="confidence_penalty",
        family="calibration",
        source="Pereyra et al., Regularizing Neural Networks by Penalizing Confident Output "
        "Distributions, ICLR workshop 2017",
        formula="−log p_y − β H(p),  H(p) = −Σ_j p_j log p_j in nats",
        summary="Cross-entropy with a bonus for the entropy of the prediction.",
        helps="Over-confident networks; like label smoothing, but with less on classes that are "
        "ruled out.",
        fails="Flattens right and wrong predictions alike; not proper, under-confident where the "
        "network was calibrated. Codes that divide the entropy by C mean another β.",
        implementation="lossbench.losses.calibration:ConfidencePenalty",
        proper=False,
        soft_targets="direct",
        parameters=(
            Parameter(
                name="beta",
                default=0.1,
                kind="number",
                text="β, the weight of the entropy",
                minimum=0,
            ),
        ),
    ),
    LossFacts(
        key="maxsup",
        family="calibration",
        source="Zhou et al., MaxSup: Overcoming Representation Collapse in Label Smoothing, "
        "NeurIPS 2025",
        formula="−log p_y + α (max_k z_k − mean_k z_k),  α from α₀ in the first epoch to α₁ in "
        "the last",
        summary="Label smoothing's penalty put on the largest logit instead of the true one.",
        helps="Instead of label smoothing: it presses wrong predictions too, where smoothing "
        "rewards their confidence.",
        fails="Not proper; needs the epoch (without set_epoch it stays at α₀).",
        implementation="lossbench.losses.calibration:MaxSup",
        proper=False,
        soft_targets="direct",
        needs=frozenset({"epoch"}),
        parameters=(
            Parameter(
                name="alpha",
                default=0.1,
                kind="number",
                text="α₀, the weight in the first epoch",
                minimum=0,
            ),
            Parameter(
                name="alpha_end",
                default=0.2,
                kind="number",
                text="α₁, the weight in the last epoch",
                minimum=0,
            ),
        ),
    ),
    LossFacts(
        key="logit_norm",
        family="calibration",
        source="Wei et al., Mitigating Neural Network Overconfidence with Logit Normalization, "
        "ICML 2022",
        formula="CE(z / (T (‖z‖₂ + 1e-7)));  deployed logits: the normalised ones",
        summary="Cross-entropy of logits whose length is fixed: only their direction is learned.",
        helps="Telling in-distribution from out-of-distribution inputs by their confidence.",
        fails="The gap between logits is at most √2/T, so that certainty is out of reach and the "
        "probabilities stay under- or over-confident with T; the gradient grows as 1/‖z‖, and at "
        "z = 0 the direction is undefined. Not proper.",
        implementation="lossbench.losses.calibration:LogitNorm",
        proper=False,
        soft_targets="direct",
        parameters=(
            Parameter(
                name="temperature",
                default=0.04,
                kind="number",
                text="T; smaller allows larger gaps and steeper gradients",
                minimum=0,
                open_minimum=True,
            ),
        ),
    ),
    LossFacts(
        key="label_aware_smoothing",
        family="calibration",
        source="Zhong et al., Improving Calibration for Long-Tailed Recognition, CVPR 2021 "
        "(MiSLAS)",
        formula="(1−ε_y)(−log p_y) − ε_y mean_j log p_j,  ε_c rising with n_c from tail to head",
        summary="Label smoothing for frequent classes only, where over-confidence is worst.",
        helps="Second stage of two-stage training on long tails: calibration of the head classes.",
        fails="Made for a frozen backbone with balanced batches; alone it changes accuracy on the "
        "tail little. The best values depend on the data set (0.4 and 0.1 for CIFAR-100-LT). Not "
        "proper.",
        implementation="lossbench.losses.calibration:LabelAwareSmoothing",
        proper=False,
        soft_targets="mixed",
        needs=frozenset({"class_counts"}),
        parameters=(
            Parameter(
                name="smooth_head",
                default=0.3,
                kind="number",
                text="ε of the most frequent class",
                minimum=0,
                maximum=1,
                open_maximum=True,
            ),
            Parameter(
                name="smooth_tail",
                default=0.0,
                kind="number",
                text="ε of the rarest class",
                minimum=0,
                maximum=1,
                open_maximum=True,
            ),
            Parameter(
                name="shape",
                default="concave",
                kind="choice",
                choices=("concave", "linear", "convex"),
                text="how ε rises with the count: sine, line, or one minus cosine",
            ),
        ),
    ),
    LossFacts(
        key="mmce",
        family="calibration",
        source="Kumar et al., Trainable Calibration Measures for Neural Networks from Kernel Mean "
        "Embeddings, ICML 2018",
        formula="−log p_y + λ Σ_{ij} (c_i−r_i)(c_j−r_j) e^{−|r_i−r_j|/0.4} / N²,  r = max p, c = "
        "whether right",
        summary="Cross-entropy with a kernel estimate of the batch's calibration error.",
        helps="Calibration, with batches large enough to estimate it (hundreds).",
        fails="Noisy with small batches, quadratic in the batch, another loss at every batch "
        "size; once the training set is fitted there is nothing left to calibrate on. The paper "
        "takes a square root, the codes mostly do not.",
        implementation="lossbench.losses.calibration:MMCE",
        proper=False,
        soft_targets="none",
        needs=frozenset({"batch"}),
        parameters=(
            Parameter(
                name="coefficient",
                default=1.0,
                kind="number",
                text="λ (4 in the authors' code for 20 Newsgroups)",
                minimum=0,
                open_minimum=True,
            ),
        ),
    ),
)
