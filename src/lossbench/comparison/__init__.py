"""Records of many runs -> tables, paired statistics, verdicts, figures, one report."""

from __future__ import annotations

from typing import Any

__all__ = ["Comparison", "compare", "evaluate"]


def __getattr__(name: str) -> Any:
    # loaded when first used: a wrong study name is answered without pandas
    if name in ("Comparison", "evaluate"):
        from importlib import import_module

        return getattr(import_module("lossbench.comparison.compare"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
