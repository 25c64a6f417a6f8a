"""Facts of the losses that bound what one mislabelled sample can do."""

from __future__ import annotations

from lossbench.losses.schema import LossFacts
from lossbench.parameters import Parameter

LOG_ZERO = Parameter(
    name="log_zero",
    default=-4.0,
    kind="number",
    text="A, what log 0 is taken for; −9.2103 reproduces the official code",
    maximum=0,
    open_maximum=True,
)

ENTRIES = (
    LossFacts(
        key="mae",
        family="robust",
        source="Ghosh et al., Robust Loss Functions under Label Noise, AAAI 2017",
        formula="1 − p_y",
        summary="The probability that the prediction leaves for all other classes.",
        helps="Symmetric label noise: its minimiser is that of the clean labels.",
        fails="Under-fits with many classes (by C = 100 it hardly learns), because the gradient "
        "has the factor p_y; under imbalance the rare classes are the hard ones that it gives up. "
        "Not proper.",
        implementation="lossbench.losses.robust:MAE",
        proper=False,
        soft_targets="mixed",
    ),
    LossFacts(
        key="gce",
        family="robust",
        source="Zhang & Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks "
        "with Noisy Labels, NeurIPS 2018",
        formula="(1 − p_y^q)/q",
        summary="Between cross-entropy (q → 0) and mae (q = 1).",
        helps="Label noise, without mae's under-fitting on tens of classes.",
        fails="q trades robustness against fitting and must be chosen; rare classes look like "
        "noise to it. Not proper: sharper than the posterior.",
        implementation="lossbench.losses.robust:GCE",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="q",
                default=0.7,
                kind="number",
                text="q; 1 is mae",
                minimum=0,
                maximum=1,
                open_minimum=True,
            ),
        ),
    ),
    LossFacts(
        key="reverse_ce",
        family="robust",
        source="Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, ICCV "
        "2019",
        formula="−A (1 − p_y),  A stands for log 0",
        summary="Cross-entropy with prediction and target exchanged; mae times −A.",
        helps="As a part of sce.",
        fails="Alone it is mae with another learning rate. The papers say A = −4, all official "
        "code clamps at 1e-4, which is A = −9.21.",
        implementation="lossbench.losses.robust:ReverseCE",
        proper=False,
        soft_targets="mixed",
        parameters=(LOG_ZERO,),
    ),
    LossFacts(
        key="sce",
        family="robust",
        source="Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, ICCV "
        "2019",
        formula="α (−log p_y) − β A (1 − p_y)",
        summary="Cross-entropy plus reverse cross-entropy: one fits, the other tolerates noise.",
        helps="Label noise. The defaults are those for CIFAR-10; for CIFAR-100 the paper takes α "
        "6, β 0.1.",
        fails="α, β and A must be tuned together, and published values hold for A = −9.21 only, "
        "whatever the paper says. Not proper.",
        implementation="lossbench.losses.robust:SCE",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="alpha",
                default=0.1,
                kind="number",
                text="α, the weight of cross-entropy",
                minimum=0,
            ),
            Parameter(
                name="beta",
                default=1.0,
                kind="number",
                text="β, the weight of reverse cross-entropy",
                minimum=0,
            ),
            LOG_ZERO,
        ),
    ),
    LossFacts(
        key="nce",
        family="robust",
        source="Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, ICML "
        "2020",
        formula="log p_y / Σ_k log p_k",
        summary="Cross-entropy divided by what it would be summed over all labels, so that these "
        "sum to 1.",
        helps="Label noise, joined with a passive loss (nce_rce, nce_mae).",
        fails="Alone it under-fits: at the start its gradient is more than twenty times smaller "
        "than cross-entropy's with ten classes, and it can lower the loss by pushing the wrong "
        "classes apart. Not proper.",
        implementation="lossbench.losses.robust:NCE",
        proper=False,
        soft_targets="mixed",
    ),
    LossFacts(
        key="nce_rce",
        family="robust",
        source="Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, ICML "
        "2020",
        formula="α log p_y/Σ_k log p_k − β A (1 − p_y)",
        summary="An active loss that fits plus a passive one that tolerates noise.",
        helps="Label noise up to heavy. The defaults are those for CIFAR-10; CIFAR-100 takes α "
        "10, β 0.1.",
        fails="α must grow with the number of classes, or it under-fits. Published values hold "
        "for A = −9.21. Not proper.",
        implementation="lossbench.losses.robust:NCERCE",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="alpha",
                default=1.0,
                kind="number",
                text="α, the weight of nce",
                minimum=0,
            ),
            Parameter(
                name="beta",
                default=1.0,
                kind="number",
                text="β, the weight of reverse_ce",
                minimum=0,
            ),
            LOG_ZERO,
        ),
    ),
    LossFacts(
        key="nce_mae",
        family="robust",
        source="Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, ICML "
        "2020",
        formula="α log p_y/Σ_k log p_k + β (1 − p_y)",
        summary="An active loss that fits plus mae.",
        helps="As nce_rce.",
        fails="As nce_rce; CIFAR-100 takes α 10. Not proper.",
        implementation="lossbench.losses.robust:NCEMAE",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="alpha",
                default=1.0,
                kind="number",
                text="α, the weight of nce",
                minimum=0,
            ),
            Parameter(
                name="beta",
                default=1.0,
                kind="number",
                text="β, the weight of mae",
                minimum=0,
            ),
        ),
    ),
    LossFacts(
        key="normalized_focal",
        family="robust",
        source="Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, ICML "
        "2020",
        formula="(1−p_y)^γ log p_y / Σ_k (1−p_k)^γ log p_k",
        summary="The focal loss divided by its sum over all labels.",
        helps="Label noise, joined with a passive loss.",
        fails="As nce: alone it under-fits. The official code takes the gradient with (1−p)^γ "
        "held constant, this one does not. Not proper.",
        implementation="lossbench.losses.robust:NormalizedFocal",
        proper=False,
        soft_targets="mixed",
        parameters=(
            Parameter(
                name="gamma",
                default=0.5,
                kind="number",
                text="γ of the focal loss; 0 is nce",
                minimum=0,
            ),
        ),
    ),
    LossFacts(
        key="bi_tempered",
        family="robust",
        source="Amid et al., Robust Bi-Tempered Logistic Loss Based on Bregman Divergences, "
        "NeurIPS 2019",
        formula="Σ_j y_j (log_t1 y_j − log_t1 p_j) − (y_j^{2−t1} − p_j^{2−t1})/(2−t1),  p_j = "
        "exp_t2(z_j − λ(z)), Σ p = 1;  deployed logits log p",
        summary="Logistic loss with a bounded logarithm (t1 < 1) and a heavy-tailed softmax (t2 > "
        "1).",
        helps="Outliers and label noise: t1 bounds the loss of a far-off sample, t2 keeps "
        "near-boundary noise from bending it.",
        fails="Two more numbers to tune; the normaliser is found by iteration, which costs tens "
        "of times a softmax. Its probabilities are those of the tempered softmax: decode the "
        "logits.",
        implementation="lossbench.losses.robust:BiTempered",
        proper=True,
        soft_targets="direct",
        parameters=(
            Parameter(
                name="t1",
                default=0.8,
                kind="number",
                text="t1; 1 is the logarithm, smaller bounds the loss at 1/(1−t1)",
                minimum=0,
                maximum=1,
            ),
            Parameter(
                name="t2",
                default=1.2,
                kind="number",
                text="t2; 1 is softmax, larger has heavier tails",
                minimum=1,
                maximum=4,
            ),
            Parameter(
                name="smoothing",
                default=0.0,
                kind="number",
                text="ε, spread over the C−1 other classes",
                minimum=0,
                maximum=1,
                open_maximum=True,
            ),
        ),
    ),
)
