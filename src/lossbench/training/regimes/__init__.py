"""How a model is trained around its loss: the classes that ``regime._target_`` names."""

from lossbench.training.regimes.mixing import CutMix, Mixup, Remix
from lossbench.training.regimes.plain import Plain, Setting
from lossbench.training.regimes.rebalancing import DeferredReweighting, Resampling
from lossbench.training.regimes.stages import (
    ClassifierRetraining,
    LearnableWeightScaling,
    TauNormalization,
)

__all__ = [
    "ClassifierRetraining",
    "CutMix",
    "DeferredReweighting",
    "LearnableWeightScaling",
    "Mixup",
    "Plain",
    "Remix",
    "Resampling",
    "Setting",
    "TauNormalization",
]
