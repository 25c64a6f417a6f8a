"""Statistics over seeds and cells: pure functions on arrays, on numpy and scipy.

``paired``: one cell, what decides. ``sensitivity``: what stands beside it and rests on other
assumptions. ``power``: what a number of seeds can find. ``across``: many cells.
"""

from lossbench.comparison.statistics.paired import (
    ALPHA,
    Estimate,
    PairedTest,
    equivalence_intervals,
    equivalence_test,
    estimate,
    holm,
    holm_intervals,
    holm_levels,
    not_distinguishable_from_best,
    paired_t_test,
    simultaneous_intervals,
)
from lossbench.comparison.statistics.power import (
    fewest_seeds,
    power_of_all,
    power_of_t,
    seeds_needed,
    smallest_difference,
)
from lossbench.comparison.statistics.sensitivity import (
    Sensitivity,
    bootstrap_interval,
    hodges_lehmann,
    hodges_lehmann_interval,
    probability_interval,
    probability_of_improvement,
    sensitivity_of,
    sign_flip_test,
    wilcoxon_test,
)

__all__ = [
    "ALPHA",
    "Estimate",
    "PairedTest",
    "Sensitivity",
    "bootstrap_interval",
    "equivalence_intervals",
    "equivalence_test",
    "estimate",
    "fewest_seeds",
    "hodges_lehmann",
    "hodges_lehmann_interval",
    "holm",
    "holm_intervals",
    "holm_levels",
    "not_distinguishable_from_best",
    "paired_t_test",
    "power_of_all",
    "power_of_t",
    "probability_interval",
    "probability_of_improvement",
    "seeds_needed",
    "sensitivity_of",
    "sign_flip_test",
    "simultaneous_intervals",
    "smallest_difference",
    "wilcoxon_test",
]
