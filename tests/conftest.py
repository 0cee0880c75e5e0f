"""What holds for all tests: no law fails because a machine is slow."""

from hypothesis import settings

# The parent is whatever profile is in force, so that what Hypothesis chooses on CI (no chance, no database) stays.
settings.register_profile("timeless", settings(), deadline=None)
settings.load_profile("timeless")
