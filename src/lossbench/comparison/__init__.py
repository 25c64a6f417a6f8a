"""Records of many runs -> tables, paired statistics, verdicts, figures, one report."""

from lossbench.comparison.compare import Comparison, compare, evaluate

__all__ = ["Comparison", "compare", "evaluate"]
