"""Facts of the losses that weight each class by its frequency."""

from __future__ import annotations

from lossbench.losses.schema import NORMALIZER, LossFacts
from lossbench.parameters import Parameter

BETA = Parameter(
    name="beta",
    default=0.9999,
    kind="number",
    minimum=0,
    maximum=1,
    open_maximum=True,
    text="β: 0 gives equal weights; towards 1 the weights become 1/n_c",
)

ENTRIES = (
    LossFacts(
        key="inverse_frequency",
        family="reweighting",
        source="folklore; compared in Cui et al., CVPR 2019",
        formula="w_y · (−log p_y),  w_c ∝ n_c^−k,  Σ_c w_c = C",
        summary="Cross-entropy with every class weighted by one over its number of samples.",
        helps="Mild imbalance, small models, and test data that count all classes alike; k = 0.5 "
        "is the milder choice.",
        fails="A class of two samples gets the weight of a thousand: noisy gradients, and a "
        "network that fits its training set ends up nearly where it would without weights (Byrd & "
        "Lipton 2019). With normalizer weights a batch of one class is not weighted at all.",
        implementation="lossbench.losses.reweighting:InverseFrequency",
        proper=True,
        soft_targets="direct",
        needs=frozenset({"class_counts"}),
        parameters=(
            Parameter(
                name="power",
                default=1.0,
                kind="number",
                text="k: 0 gives equal weights, 0.5 the square root, 1 the inverse",
                minimum=0,
                maximum=2,
            ),
            NORMALIZER,
        ),
    ),
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
        "Lipton 2019). A few heavy samples make the gradient noisy, so start it late (deferred "
        "re-weighting). With normalizer weights a batch of one class is not weighted at all.",
        implementation="lossbench.losses.reweighting:ClassBalanced",
        proper=True,
        soft_targets="direct",
        needs=frozenset({"class_counts"}),
        parameters=(
            BETA,
            NORMALIZER,
        ),
    ),
    LossFacts(
        key="class_balanced_bce",
        family="reweighting",
        source="Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019 "
        "(its sigmoid form)",
        formula="w_y Σ_j [t_j softplus(−z_j) + (1−t_j) softplus(z_j)],  w as class_balanced;  "
        "deployed logits log σ(z)",
        summary="One sigmoid per class, the sample weighted by its class's effective number.",
        helps="As class_balanced, for one-vs-rest heads.",
        fails="As class_balanced and binary_cross_entropy; the authors start the bias at the log "
        "odds 1/C, which this cannot do from outside the model.",
        implementation="lossbench.losses.reweighting:ClassBalancedBCE",
        proper=True,
        soft_targets="direct",
        needs=frozenset({"class_counts"}),
        parameters=(
            BETA,
            NORMALIZER,
        ),
    ),
    LossFacts(
        key="class_balanced_focal",
        family="reweighting",
        source="Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019",
        formula="w_y Σ_j sigmoid-focal_j (α none), or w_y (1−p_y)^γ (−log p_y);  w as "
        "class_balanced",
        summary="Focal loss with each class weighted by one over its effective number of samples.",
        helps="Long tails with many easy samples; the form that its paper recommends.",
        fails="As class_balanced and focal. Papers say class-balanced focal and mean either "
        "activation: the sigmoid form is the paper's, most ports are softmax. Not proper.",
        implementation="lossbench.losses.reweighting:ClassBalancedFocal",
        proper=False,
        soft_targets="mixed",
        needs=frozenset({"class_counts"}),
        parameters=(
            BETA,
            Parameter(
                name="gamma",
                default=1.0,
                kind="number",
                text="γ of the focal loss (0.5, 1 and 2 were compared)",
                minimum=0,
            ),
            Parameter(
                name="activation",
                default="sigmoid",
                kind="choice",
                choices=("sigmoid", "softmax"),
                text="one-vs-rest as in the paper, or softmax",
            ),
            NORMALIZER,
        ),
    ),
    LossFacts(
        key="influence_balanced",
        family="reweighting",
        source="Park et al., Influence-Balanced Loss for Imbalanced Visual Classification, ICCV "
        "2021",
        formula="w_y α / (‖p−e_y‖₁ ‖h‖₁ + ε) · (−log p_y) from the start on, before it −log p_y;  "
        "w_c ∝ 1/n_c, Σ w_c = C, h the head's input",
        summary="After a phase of cross-entropy, samples that bend the decision boundary most are "
        "weighted down.",
        helps="Networks that over-fit the samples of frequent classes; as a second phase.",
        fails="α must be tuned to the size of the features (try the mean of ‖p−e_y‖₁ ‖h‖₁ over a "
        "batch where it starts), else the loss is tens of times "
        "cross-entropy; the published recipe drops the learning rate with its start. The authors "
        "let the factor have a gradient, which their derivation does not (detach). Not proper.",
        implementation="lossbench.losses.reweighting:InfluenceBalanced",
        proper=False,
        soft_targets="mixed",
        heads="any",
        needs=frozenset({"class_counts", "epoch", "features"}),
        parameters=(
            Parameter(
                name="alpha",
                default=1000.0,
                kind="number",
                text="α, makes up for the size of ‖h‖₁",
                minimum=0,
                open_minimum=True,
            ),
            Parameter(
                name="epsilon",
                default=0.001,
                kind="number",
                text="ε, keeps the factor finite",
                minimum=0,
                open_minimum=True,
            ),
            Parameter(
                name="detach",
                default=False,
                kind="boolean",
                text="treat the factor as a constant in the gradient",
            ),
            Parameter(
                name="start_fraction",
                default=0.5,
                kind="number",
                text="the share of the epochs that is plain cross-entropy",
                minimum=0,
                maximum=1,
            ),
            NORMALIZER,
        ),
    ),
)
