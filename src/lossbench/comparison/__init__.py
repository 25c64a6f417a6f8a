"""Records of many runs -> tables, paired statistics, verdicts, figures, one report.

The door is `lossbench.comparison.compare.compare`; nothing is imported before it is asked for.
"""
