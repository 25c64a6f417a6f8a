"""lossbench: which classification loss is better, by how much, how surely, and where.

Importing the package imports neither torch nor Lightning; names are loaded when first used.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["InputError", "__version__", "create_loss", "list_losses"]

_HOMES = {
    "create_loss": "lossbench.losses",
    "list_losses": "lossbench.losses",
    "InputError": "lossbench.errors",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lossbench' has no attribute {name!r}")
