"""Settings of the fuzzers: FUZZ_EXAMPLES examples each. Hypothesis keeps the failing ones in .hypothesis/, and tries
those first next time."""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))

settings.register_profile(
    "fuzz", max_examples=EXAMPLES, deadline=30_000, print_blob=True, suppress_health_check=list(HealthCheck)
)
