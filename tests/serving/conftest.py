"""What every serving test shares."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Two OpenMP threads beside another busy process can be ten times slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
