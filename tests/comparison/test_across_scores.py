"""The deciding metric over cells: what needs ten of them."""

from __future__ import annotations

import numpy as np
import pytest

from lossbench.comparison.across_scores import Across


@pytest.mark.parametrize(("cells", "groups"), [(9, []), (10, [(0, 1)])])
def test_groups_are_formed_from_ten_cells_on(cells: int, groups: list[tuple[int, ...]]) -> None:
    runs = np.zeros((2, cells, 1))  # two labels that tie everywhere
    names = tuple(f"cell {number}" for number in range(cells))
    seen = Across(("a", "b"), names, runs, 1, left_out={}, uneven={}, undefined=[])
    assert seen.groups == groups
