"""What can go wrong between an agent and its tools, each error with the next step.

HubError
└── AgentError
    ├── ToolRefused           it may not be called so: no such tool for this caller, a rule, a scope
    │   └── ApprovalNeeded        a person has to let it pass first
    ├── ArgumentError         the arguments make no sense
    │   └── BadCursor             a cursor that is none, or of another question or caller
    ├── RecipeError           the administrator's file of recipes is wrong, or a recipe is not as asked for
    ├── PatchError            a patch is refused before anything is done with it
    ├── TreeStateError        no work tree can be made of the state that is asked for
    ├── SandboxUnavailable    nothing can be run apart here, so nothing is run
    ├── UnknownRun            no such run, or none that the caller may know of
    └── ConnectError          a client's configuration cannot be read or changed
"""

from hub.errors import HubError


class AgentError(HubError):
    """One sentence for the agent, and a hint that says its next step."""


class ToolRefused(AgentError):
    """It may not be called so. The same text for a tool that is hidden from the caller as for one that is not there."""


class ApprovalNeeded(ToolRefused):
    """A person has to let it pass; it was asked for, and may be called again with the approval's id."""

    def __init__(self, message: str, hint: str, approval_id: str) -> None:
        super().__init__(message, hint)
        self.approval_id = approval_id


class ArgumentError(AgentError):
    """The arguments make no sense."""


class BadCursor(ArgumentError):
    """A cursor that this server did not give, or not to this caller for this question."""


class RecipeError(AgentError):
    """The file of recipes is wrong, or there is no such recipe, or its arguments are not such as it takes."""


class PatchError(AgentError):
    """A patch is refused: it cannot be read, does not apply, or does what no patch may."""


class TreeStateError(AgentError):
    """There is no such commit, no git, or the state of the tree cannot be read."""


class SandboxUnavailable(AgentError):
    """Nothing can be run apart on this machine, so nothing is run."""


class UnknownRun(AgentError):
    """No such run, or none that the caller may know of."""


class ConnectError(AgentError):
    """A client's configuration cannot be found, read, or changed without losing something."""
