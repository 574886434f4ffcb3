"""What holds for every suite of the workspace: the two profiles of property tests.

`quick` runs the same 100 examples each time; `deep` (TEST_WINTRY_PROFILE=deep) draws thousands at random.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=100, derandomize=True, deadline=None, database=None)
settings.register_profile(
    "deep", max_examples=5_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("TEST_WINTRY_PROFILE", "quick"))
