"""Facts of the softmax losses with a margin on the angle."""

from __future__ import annotations

from lossbench.losses.schema import LossFacts
from lossbench.parameters import Parameter

SCALE = Parameter(
    name="scale",
    default=30.0,
    kind="number",
    minimum=0,
    open_minimum=True,
    text="s, from cosines to logits (30 for thousands of images, 64 in face recognition)",
)


def _annealing(default: list[float]) -> Parameter:
    return Parameter(
        name="annealing",
        default=default,
        kind="numbers",
        text="[base, rate, power, minimum] of λ = max(minimum, base (1 + "
        "rate·epoch/max_epochs)^−power)",
        minimum=0,
    )


ENTRIES = (
    LossFacts(
        key="norm_softmax",
        family="margin",
        source="Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, ACM MM 2017",
        formula="CE(s cos θ);  deployed logits s·cos θ",
        summary="Cross-entropy of scaled cosines: the control for every margin on a cosine head.",
        helps="Features compared by angle; classes whose weights would otherwise grow with their "
        "frequency.",
        fails="s bounds the confidence: too small and it cannot fit (for p_y ≥ P it takes s ≥ "
        "(C−1)/C · log((C−1)P/(1−P))), too large and gradients vanish early.",
        implementation="lossbench.losses.margin:NormSoftmax",
        proper=True,
        soft_targets="direct",
        heads="cosine",
        parameters=(SCALE,),
    ),
    LossFacts(
        key="am_softmax",
        family="margin",
        source="Wang et al., CosFace, CVPR 2018; Wang et al., Additive Margin Softmax, IEEE SPL "
        "2018",
        formula="CE(s (cos θ − m e_y));  deployed logits s·cos θ",
        summary="A fixed margin on the cosine of the true class.",
        helps="Verification and retrieval, where classes must stay apart; fine-grained classes.",
        fails="The same margin for every class, whatever its frequency (ldam adapts it). Training "
        "probabilities carry the margin; not proper.",
        implementation="lossbench.losses.margin:AMSoftmax",
        proper=False,
        soft_targets="mixed",
        heads="cosine",
        parameters=(
            SCALE,
            Parameter(
                name="margin",
                default=0.35,
                kind="number",
                text="m, on the cosine",
                minimum=0,
                maximum=2,
                open_maximum=True,
            ),
        ),
    ),
    LossFacts(
        key="arcface",
        family="margin",
        source="Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, "
        "CVPR 2019",
        formula="CE with s cos(θ_y + m) at the target, s cos θ_j elsewhere;  deployed logits "
        "s·cos θ",
        summary="A fixed margin on the angle of the true class.",
        helps="Face recognition and retrieval with very many classes and clean labels.",
        fails="m is in radians (0.5 is 28.6 degrees, the unit of some libraries). Hard on noisy "
        "labels and on the first epochs. Not proper.",
        implementation="lossbench.losses.margin:ArcFace",
        proper=False,
        soft_targets="mixed",
        heads="cosine",
        parameters=(
            SCALE,
            Parameter(
                name="margin",
                default=0.5,
                kind="number",
                text="m, in radians",
                minimum=0,
                maximum=3.141592653589793,
            ),
            Parameter(
                name="fallback",
                default="linear",
                kind="choice",
                choices=("linear", "easy", "none"),
                text="where θ+m passes π: cos θ − m sin m; or no margin wherever cos θ ≤ 0; or "
                "nothing special",
            ),
        ),
    ),
    LossFacts(
        key="large_margin_softmax",
        family="margin",
        source="Liu et al., Large-Margin Softmax Loss for Convolutional Neural Networks, ICML 2016",
        formula="CE with ‖W_y‖‖x‖ (λ cos θ_y + ψ(θ_y))/(1+λ) at the target,  ψ = (−1)^k cos(mθ) − "
        "2k;  deployed logits z",
        summary="The angle to the true class's weight must be m times smaller than to the others'.",
        helps="Features that cluster by class, on plain linear heads.",
        fails="Often diverges for m ≥ 3 unless λ is annealed: its schedule is part of it; without "
        "set_epoch λ stays at its base and the loss is nearly cross-entropy. The paper's head has "
        "no bias. Not proper.",
        implementation="lossbench.losses.margin:LargeMarginSoftmax",
        proper=False,
        soft_targets="mixed",
        heads="linear",
        needs=frozenset({"epoch", "features"}),
        parameters=(
            Parameter(
                name="margin",
                default=2,
                kind="integer",
                text="m, the factor on the angle (2 for CIFAR, 4 for MNIST)",
                minimum=1,
            ),
            _annealing([1000.0, 0.5, 35.0, 0.0]),
        ),
    ),
    LossFacts(
        key="sphereface",
        family="margin",
        source="Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition, CVPR 2017",
        formula="CE with ‖x‖ (λ cos θ_y + ψ(θ_y))/(1+λ) at the target, ‖x‖ cos θ_j elsewhere;  "
        "deployed logits ‖x‖·cos θ",
        summary="large_margin_softmax with class weights of length 1.",
        helps="Face recognition; superseded by the additive margins, which need no annealing.",
        fails="As large_margin_softmax; the length of the features stands for the scale. Not "
        "proper.",
        implementation="lossbench.losses.margin:SphereFace",
        proper=False,
        soft_targets="mixed",
        heads="cosine",
        needs=frozenset({"epoch", "features"}),
        parameters=(
            Parameter(
                name="margin",
                default=4,
                kind="integer",
                text="m, the factor on the angle",
                minimum=1,
            ),
            _annealing([1000.0, 3360.0, 1.0, 5.0]),
        ),
    ),
)
