"""Facts of the losses that are a (tempered, smoothed, weighted) log-likelihood."""

from __future__ import annotations

from lossbench.losses.schema import IGNORE_INDEX, MEAN_OVER_CLASSES, NORMALIZER, WEIGHT, LossFacts
from lossbench.parameters import Parameter

ENTRIES = (
    LossFacts(
        key="cross_entropy",
        family="likelihood",
        source="Good, Rational Decisions, JRSS B 1952 (the logarithmic score)",
        formula="−Σ_j t_j w_j log p_j,  p = softmax(z)",
        summary="The negative log-likelihood of the target; the baseline of every comparison.",
        helps="Probabilities are wanted, and test data have the class shares of training data.",
        fails="Rare classes: they add little to the sum, so their recall stays low when the test "
        "set counts all classes alike; and it fits noisy labels.",
        implementation="lossbench.losses.likelihood:CrossEntropy",
        proper=True,
        soft_targets="direct",
        parameters=(
            WEIGHT,
            Parameter(
                name="label_smoothing",
                default=0.0,
                kind="number",
                minimum=0,
                maximum=1,
                open_maximum=True,
                text="share of the target that is spread evenly over all C classes",
            ),
            IGNORE_INDEX,
            NORMALIZER,
        ),
    ),
    LossFacts(
        key="label_smoothing",
        family="likelihood",
        source="Szegedy et al., Rethinking the Inception Architecture, CVPR 2016",
        formula="−Σ_j t'_j w_j log p_j,  t' = (1−ε)t + ε/C  (off_target: ε(1−t)/(C−1))",
        summary="Cross-entropy against a target that leaves a little to every other class.",
        helps="Over-confident networks: it bounds the logit gap that pays, and often helps "
        "accuracy on balanced data a little.",
        fails="The minimiser is the smoothed posterior, not the posterior, so confident correct "
        "predictions become under-confident; the even spread gives a rare class more than its "
        "share, whatever the input; it blurs what a student could learn from the logits "
        "(Müller et al. 2019).",
        implementation="lossbench.losses.likelihood:LabelSmoothing",
        proper=False,
        soft_targets="direct",
        parameters=(
            Parameter(
                name="smoothing",
                default=0.1,
                kind="number",
                minimum=0,
                maximum=1,
                open_maximum=True,
                text="ε, the share of the target that is spread",
            ),
            Parameter(
                name="variant",
                default="uniform",
                kind="choice",
                choices=("uniform", "off_target"),
                text="spread over all C classes (torch, timm), or over the C−1 others, which is "
                "uniform with ε·C/(C−1)",
            ),
            WEIGHT,
            NORMALIZER,
        ),
    ),
    LossFacts(
        key="temperature_scaled",
        family="likelihood",
        source="Hinton et al., Distilling the Knowledge in a Neural Network, 2015",
        formula="CE(z/T) · {1, T, T²};  deployed logits z/T",
        summary="Cross-entropy of the logits divided by a temperature during training.",
        helps="As a control: it changes only the scale on which the logits are learned, and with "
        "it the effective learning rate.",
        fails="Not a remedy for imbalance or, by itself, for calibration: the weights rescale to "
        "make up for T (temperature after training is another thing: Guo et al. 2017). A "
        "learnable T does the same against the norm of the weights, and with rescale T or T2 it "
        "only shrinks. T2 suits soft targets; with hard ones the gradient grows with T.",
        implementation="lossbench.losses.likelihood:TemperatureScaled",
        proper=True,
        soft_targets="direct",
        parameters=(
            Parameter(
                name="temperature",
                default=2.0,
                kind="number",
                minimum=0,
                open_minimum=True,
                text="T, or its first value where it is learned",
            ),
            Parameter(
                name="rescale",
                default="none",
                kind="choice",
                choices=("none", "T", "T2"),
                text="factor that makes up for the smaller gradient: T for hard targets, T² for "
                "soft ones",
            ),
            Parameter(
                name="learnable",
                default=False,
                kind="boolean",
                text="learn log T with the weights of the model",
            ),
        ),
    ),
    LossFacts(
        key="binary_cross_entropy",
        family="likelihood",
        source="Wightman et al., ResNet Strikes Back, 2021 (one sigmoid per class)",
        formula="R_j [t'_j w_j softplus(−z_j) + (1−t'_j) softplus(z_j)],  t' = (1−ε)t + ε/C;  "
        "deployed logits log σ(z)",
        summary="One yes-or-no question per class instead of one choice among all.",
        helps="Labels that may be incomplete or several at once, as under mixup; each class keeps "
        "its own threshold.",
        fails="With many classes nearly all terms are easy negatives, which hold the scores down "
        "for long unless the bias starts at the log odds 1/C. The mean over classes makes its "
        "gradient C times smaller than the sum: the learning rate does not carry over. pos_weight "
        "shifts the odds and not the prior, so with it the loss is not proper.",
        implementation="lossbench.losses.likelihood:BinaryCrossEntropy",
        proper=True,
        soft_targets="direct",
        parameters=(
            MEAN_OVER_CLASSES,
            Parameter(
                name="pos_weight",
                optional=True,
                kind="per_class",
                minimum=0,
                text="w_c, a factor on the term of the true class; null for none",
            ),
            Parameter(
                name="smoothing",
                default=0.0,
                kind="number",
                text="ε, the share of the target that is spread evenly over all classes",
                minimum=0,
                maximum=1,
                open_maximum=True,
            ),
        ),
    ),
    LossFacts(
        key="multi_margin",
        family="likelihood",
        source="Weston & Watkins, Support Vector Machines for Multi-Class Pattern Recognition, "
        "ESANN 1999 (Crammer & Singer, JMLR 2001, take the largest term)",
        formula="(1/C) Σ_{j≠y} max(0, m − z_y + z_j)^q  (q is p)",
        summary="The hinge: no loss for a class that the target leads by the margin.",
        helps="Only the decision counts, and samples that are safely right should stop pulling.",
        fails="The logits are no probabilities: confidence and calibration mean nothing. In the "
        "form that sums over all rivals it is not even consistent where no class has the majority "
        "(Tewari & Bartlett 2007).",
        implementation="lossbench.losses.likelihood:MultiMargin",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="margin",
                default=1.0,
                kind="number",
                text="m, the lead that the target must have",
                minimum=0,
                open_minimum=True,
            ),
            Parameter(
                name="p",
                default=1,
                kind="integer",
                text="q, the power of the shortfall",
                minimum=1,
                maximum=2,
            ),
        ),
    ),
)
