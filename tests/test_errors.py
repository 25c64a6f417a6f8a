"""What is the machine's fault, however it is told."""

from __future__ import annotations

import errno

import pytest
import torch

from lossbench.errors import machine_fault


class Unreadable(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise OSError(errno.ESTALE, "Stale file handle", "image.png")


def test_a_fault_in_a_process_that_loads_images_is_the_machines() -> None:
    """torch raises it again from its text, without the number."""
    loader = torch.utils.data.DataLoader(Unreadable(), num_workers=1)
    with pytest.raises(OSError, match="Stale file handle") as raised:
        list(loader)
    assert machine_fault(raised.value) == "the file server has lost the folder"


def test_a_fault_of_the_run_is_not() -> None:
    assert machine_fault(OSError("[Errno 2] No such file or directory: 'x'")) is None
    assert machine_fault(ValueError("28")) is None
