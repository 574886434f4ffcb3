"""What holds for every suite of the workspace: the two profiles of property tests.

`quick` runs the same 100 examples each time; `deep` (TEST_WINTRY_PROFILE=deep) draws thousands at random, and lets a
test have the time that they need.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

DEEP = os.environ.get("TEST_WINTRY_PROFILE") == "deep"
DEEP_SECONDS = 1800

settings.register_profile("quick", max_examples=100, derandomize=True, deadline=None, database=None)
settings.register_profile(
    "deep", max_examples=2_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("TEST_WINTRY_PROFILE", "quick"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DEEP:
        for item in items:
            item.add_marker(pytest.mark.timeout(DEEP_SECONDS), append=False)  # before the test's own
