"""What holds for all tests: no law fails because a machine is slow, and how often one is tried that does not say."""

import gc
from collections.abc import Generator

import pytest
from hypothesis import settings

# The parents are whatever profile is in force, so that what Hypothesis chooses on CI (no chance, no database) stays.
# A law that says nothing of it is tried with so many examples; by hand with --hypothesis-profile=thorough.
settings.register_profile("suite", settings(), deadline=None, max_examples=50)
settings.register_profile("thorough", settings(), deadline=None, max_examples=1_000, derandomize=False)
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting makes stays to the end: it is never walked through for garbage, neither meanwhile, which is a
    quarter of its time, nor at each of the collections that tests cause.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
