"""The tools of agents, in the order in which they are listed. Knows nothing of protocols, policy and permission."""

from agents.tools.asking import ASK
from agents.tools.explore import EXPLORE
from agents.tools.knowing import REMEMBER, SEARCH_KNOWLEDGE
from agents.tools.model import Tool
from agents.tools.reading import READ_FILE
from agents.tools.relations import CALL_GRAPH, FIND_REFERENCES, IMPACT
from agents.tools.running import JOB, RUN
from agents.tools.searching import FIND_SYMBOL, SEARCH_CODE

__all__ = ["TOOLS", "Tool"]

TOOLS: tuple[Tool, ...] = (
    EXPLORE,
    ASK,
    SEARCH_CODE,
    FIND_SYMBOL,
    FIND_REFERENCES,
    CALL_GRAPH,
    READ_FILE,
    IMPACT,
    SEARCH_KNOWLEDGE,
    REMEMBER,
    RUN,
    JOB,
)
