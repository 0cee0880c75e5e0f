"""Runs a program apart from everything else: no network, no files but a folder, bounded, and ended with all it started.

Where that cannot be done nothing is run. What a program is run for, and who may, it does not know. docs/sandbox.md says
what holds what, and what is left.
"""

from collections.abc import Callable

from agents.sandbox import looking, running
from agents.sandbox.looking import look
from agents.sandbox.model import CACHE, SOURCE, Ended, Job, Sandboxing, drop

__all__ = ["CACHE", "SOURCE", "Ended", "Job", "Sandboxing", "look", "run"]


def run(job: Job, cancelled: Callable[[], bool], on_output: Callable[[bytes], None] = drop) -> Ended:
    """Runs a job to its end in this thread, which must not end before: with it the job would.

    Raises SandboxUnavailable where nothing can be run apart, or the job is not such as can be; then nothing was run.
    ``cancelled`` is asked many times a second; ``on_output`` gets the output, standard error in it, as it comes.
    """
    return running.run(looking.host(), job, cancelled, on_output)
