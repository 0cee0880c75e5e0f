"""A plan as a picture: memory and tokens a second against the context. Owns the drawing of plans, and no numbers."""

from importlib.util import find_spec
from pathlib import Path

from hub.capacity.advice import PLACEMENT_NAMES, tokens
from hub.capacity.planning import WANTED_TOKENS_S, Plan, Row
from hub.errors import HubError

_FORMATS = {".png", ".svg", ".pdf"}
_GIB = 1 << 30
_KINDS = (("weights", "tab:gray"), ("kv", "tab:blue"), ("state", "tab:cyan"), ("compute", "tab:orange"))
_KINDS_SHOWN = {"weights": "weights", "kv": "KV cache", "state": "recurrent state", "compute": "buffers"}


def check(file: Path) -> None:
    """Raises HubError for what could not be drawn, before anything is computed."""
    if file.suffix.lower() not in _FORMATS:
        raise HubError(f"{file} is no kind of picture that can be drawn.", f"End it in {', '.join(sorted(_FORMATS))}.")
    if find_spec("matplotlib") is None:
        raise HubError("Pictures need matplotlib, which is not installed.", "pip install 'code-knowledge-hub[plots]'")


def draw(file: Path, plan: Plan) -> None:
    """Memory by kind with the KV type that is recommended, all in one place; below, the speed of each placement."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow

    kind = plan.recommended.load.k_type if plan.recommended else plan.rows[0].load.k_type
    rows = [row for row in plan.rows if row.load.k_type is kind]
    whole: dict[int, Row] = {}
    for row in rows:
        whole.setdefault(row.context, row)  # the first placement of a context has all in one place
    contexts = sorted(whole)
    places = range(len(contexts))
    picture = Figure(figsize=(9, 8), layout="constrained")
    memory, speed = picture.subplots(2, 1, sharex=True)
    card = plan.machine.gpu.name if plan.machine.gpu else "no card"
    picture.suptitle(
        f"{plan.shape.name} {plan.shape.quantization}, KV {kind}; {card}, {plan.machine.ram // _GIB} GiB RAM"
    )
    below = [0.0] * len(contexts)
    for name, colour in (*_KINDS, ("overhead", "tab:red")):
        sizes = [
            (getattr(whole[context].need.gpu, name) + getattr(whole[context].need.host, name)) / _GIB
            for context in contexts
        ]
        if any(sizes):
            memory.bar(places, sizes, bottom=below, color=colour, label=_KINDS_SHOWN.get(name, "driver"))
        below = [low + size for low, size in zip(below, sizes, strict=True)]
    if plan.card_room:
        memory.axhline(plan.card_room / _GIB, color="black", linestyle="--", label="room on the card")
    if plan.card_room or plan.host_room:
        both = (plan.card_room + plan.host_room) / _GIB
        memory.axhline(both, color="black", linestyle=":", label="with main memory")
        memory.set_ylim(0, max(1.15 * max(plan.card_room / _GIB, min(max(below), 2 * both)), 1))
    memory.set_ylabel("GiB, all in one place")
    memory.legend(fontsize="small")
    for placement in dict.fromkeys(row.load.placement for row in rows):
        fitting = {row.context: row.decode.tokens_s for row in rows if row.load.placement is placement and row.fits}
        if fitting:
            at = [contexts.index(context) for context in fitting]
            speed.plot(at, list(fitting.values()), marker="o", label=PLACEMENT_NAMES[placement])
    wanted = WANTED_TOKENS_S[plan.wish.task]
    speed.axhline(wanted, color="black", linestyle=":", label=f"needed for {plan.wish.task}")
    speed.set_yscale("log")
    speed.set_ylabel("tokens/s, full window")
    speed.set_xticks(places, [tokens(context) for context in contexts])
    speed.set_xlabel("context")
    speed.legend(fontsize="small")
    try:
        picture.savefig(file)
    except OSError as error:
        raise HubError(f"{file} cannot be written: {error.strerror}.", "Check the path of --plot.") from None
