"""What doctor says of the sandbox; a module of its own, because the examination takes longer to load than to make."""

from agents.sandbox import look
from hub.health import Check, Finding, Grade, Group, Surroundings


def examined(_around: Surroundings) -> Finding:
    """Doctor's line: what holds, or why nothing is run. Nothing but running builds needs it."""
    found = look()
    if not found.available:
        detail = f"{found.missing[0]}: agents run nothing" if found.missing else "agents run nothing"
        return Finding("sandbox", Grade.WARNING, detail, f"{found.hint} Searching and asking need none.")
    detail = ", ".join(found.layers)
    if found.missing:
        return Finding("sandbox", Grade.WARNING, f"{detail}; {'; '.join(found.missing)}", found.hint)
    return Finding("sandbox", Grade.OK, detail + "".join(f"; {warning}" for warning in found.warnings))


CHECK = Check("sandbox", Group.MACHINE, examined, outward=True)
