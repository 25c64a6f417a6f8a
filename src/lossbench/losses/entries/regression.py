"""Facts of the regression losses on probabilities."""

from __future__ import annotations

from lossbench.losses.schema import SUM_OVER_CLASSES, LossFacts
from lossbench.parameters import Parameter

ENTRIES = (
    LossFacts(
        key="l1",
        family="regression",
        source="Ghosh et al., Robust Loss Functions under Label Noise, AAAI 2017",
        formula="R_j |p_j − t_j|, which is 2(1−p_y) for a class index (R: sum or mean over "
        "classes)",
        summary="The absolute error of the probabilities: bounded, so that no sample can cost "
        "more than 2.",
        helps="Labels wrong at random: symmetric noise leaves its minimiser where it is.",
        fails="The gradient has the factor p_y and vanishes for confident mistakes and at the "
        "start with many classes: it under-fits there (start from cross-entropy, or raise the "
        "learning rate). Its minimiser is the most likely class alone, not the posterior.",
        implementation="lossbench.losses.regression:L1",
        proper=False,
        soft_targets="direct",
        parameters=(SUM_OVER_CLASSES,),
    ),
    LossFacts(
        key="mse",
        family="regression",
        source="Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly "
        "Weather Review 1950",
        formula="R_j (p_j − t_j)²,  p = softmax(z) (R: sum or mean over classes)",
        summary="The Brier score: squared error of the probabilities.",
        helps="Calibrated probabilities from a loss that is bounded, and so milder with wrong "
        "labels than cross-entropy.",
        fails="Its gradient vanishes for confident mistakes: slow starts with many classes. The "
        "mean over classes divides the gradient by C.",
        implementation="lossbench.losses.regression:MSE",
        proper=True,
        soft_targets="direct",
        parameters=(SUM_OVER_CLASSES,),
    ),
    LossFacts(
        key="smooth_l1",
        family="regression",
        source="Girshick, Fast R-CNN, ICCV 2015",
        formula="R_j d_j²/2β if |d_j| < β else |d_j| − β/2,  d = p − t",
        summary="Absolute error with a rounded tip: quadratic below β.",
        helps="Between l1 and mse: bounded slope for wrong labels, smooth where the fit is good.",
        fails="Everything that l1 fails at. With β of 1 or more, torch's default, it is mse "
        "divided by 2β, because |d| never passes 1; it warns then.",
        implementation="lossbench.losses.regression:SmoothL1",
        proper=False,
        soft_targets="direct",
        parameters=(
            Parameter(
                name="beta",
                default=0.1,
                kind="number",
                text="β, where it turns from quadratic to linear; below 1",
                minimum=0,
                open_minimum=True,
            ),
            SUM_OVER_CLASSES,
        ),
    ),
    LossFacts(
        key="huber",
        family="regression",
        source="Huber, Robust Estimation of a Location Parameter, Annals of Mathematical "
        "Statistics 1964",
        formula="δ · smooth_l1 with β = δ",
        summary="smooth_l1 times δ, so that the quadratic part does not depend on δ.",
        helps="As smooth_l1.",
        fails="As smooth_l1; and at δ = 0.1 its gradient is ten times smaller still, so that it "
        "stands still at a learning rate made for cross-entropy. With δ of 1 or more it is mse/2.",
        implementation="lossbench.losses.regression:Huber",
        proper=False,
        soft_targets="direct",
        parameters=(
            Parameter(
                name="delta",
                default=0.1,
                kind="number",
                text="δ, where it turns from quadratic to linear; below 1",
                minimum=0,
                open_minimum=True,
            ),
            SUM_OVER_CLASSES,
        ),
    ),
)
