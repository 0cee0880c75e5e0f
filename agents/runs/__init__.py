"""Recipes that are run: a queue, a throw-away copy of the tree for each, the sandbox, and what became of them."""

from agents.runs.preparing import Prepared
from agents.runs.running import MOST_QUEUED, Runs
from agents.runs.telling import in_one_line, run_shape, told, told_output

__all__ = ["MOST_QUEUED", "Prepared", "Runs", "in_one_line", "run_shape", "told", "told_output"]
