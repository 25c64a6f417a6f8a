"""Statistics on arrays of numbers: no records, no tables, nothing that trains."""

from lossbench.comparison.statistics.paired import (
    ALPHA,
    Estimate,
    PairedTest,
    estimate,
    holm,
    holm_intervals,
    holm_levels,
    paired_t_test,
)
from lossbench.comparison.statistics.power import (
    power_of_all,
    power_of_t,
    seeds_needed,
    smallest_difference,
)

__all__ = [
    "ALPHA",
    "Estimate",
    "PairedTest",
    "estimate",
    "holm",
    "holm_intervals",
    "holm_levels",
    "paired_t_test",
    "power_of_all",
    "power_of_t",
    "seeds_needed",
    "smallest_difference",
]
