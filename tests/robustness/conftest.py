"""What the tests of this room share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from linear_run import LinearOfTests

from mailnet.nn.registry import NETWORKS, register_model


@pytest.fixture(scope="package", autouse=True)
def linear_network() -> Iterator[None]:
    """The linear network has a name as long as these tests run: others look at all names that there are."""
    register_model("linear_of_tests")(LinearOfTests)
    yield
    NETWORKS.forget("linear_of_tests")
