"""Properties. Where mutants are tried, a failure is enough: it is not made smaller, and the same examples are tried."""

import os

from hypothesis import Phase, settings

if "MUTANT_UNDER_TEST" in os.environ:
    settings.register_profile("mutants", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))
    settings.load_profile("mutants")
