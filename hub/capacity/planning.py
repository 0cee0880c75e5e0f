"""What of a model fits a machine, how fast it is there, and which way of loading it to take.

Every context is tried with every KV type and placement; of what has to leave the card (layers, or the experts of some
layers) the least that makes the rest fit is taken. Arithmetic stands in ``memory`` and ``speed``; this module only
chooses, and ``advice`` says in words what it chose. Knows no engine, file or terminal.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from hub.capacity import memory, speed
from hub.capacity.model import Calibration, KvType, Load, Machine, MemoryNeed, ModelShape, Placement
from hub.capacity.speed import Decoding, Prefilling

# 8K to 1M.
STANDARD_CONTEXTS = tuple(1 << power for power in range(13, 21))
# Less is no context to plan for. 256 to 2,048.
LEAST_CONTEXT = 512
# No model reads more; a file that says so is not believed.
MOST_CONTEXT = 1 << 30
# What stays free beside a model, for the screen and for what planning gets wrong: it is within 5% of the engine's own
# account of a whole device, usually within 2%. Range 128 MiB to 1 GiB (llama-server's own --fit keeps 1 GiB).
CARD_MARGIN, CARD_MARGIN_SHARE = 256 << 20, 0.02
HOST_MARGIN, HOST_MARGIN_SHARE = 1 << 30, 0.05
# Of a memory that processor and graphics share, what graphics may take (macOS: two thirds to three quarters).
UNIFIED_SHARE = 0.75
# Tokens that batches of a prompt hold: the engine's default, and one that copies what lies in RAM a quarter as often.
BATCH, STREAMING_BATCH = 512, 2048
# A question that follows a prefix which is in the cache.
QUESTION_TOKENS = 4096
# The longest cold prompt that is worth waiting for, once a session. Range 300 to 1,800: then the hub itself gives up.
PATIENCE_S = 900.0
# What writes at least this share of the fastest may keep more precise numbers instead. Range 0.6 to 0.9.
NEARLY_AS_FAST = 0.7
MOST_USERS = 256


class Task(StrEnum):
    """What the tokens are for, as far as it decides how fast they must come."""

    COMPLETION = "completion"
    REVIEW = "review"
    REFACTORING = "refactoring"


# Tokens a second below which a user waits for the model: from 30, 10 to 15, 5 to 10.
WANTED_TOKENS_S = {Task.COMPLETION: 30.0, Task.REVIEW: 10.0, Task.REFACTORING: 5.0}


@dataclass(frozen=True, slots=True)
class Wish:
    """What to plan for. Without ``contexts`` the standard ones are tried and the largest that is good is taken."""

    contexts: tuple[int, ...] = ()  # tokens of one user
    users: int = 1
    kv_type: KvType | None = None  # None: f16, q8_0 and q4_0 are tried
    task: Task = Task.REVIEW


@dataclass(frozen=True, slots=True)
class Row:
    """One way to load the model. Speeds are those of a full window."""

    context: int  # tokens of one user; ``load.context`` is of all together
    load: Load
    need: MemoryNeed
    card_short: int  # bytes missing on the card, 0 where it fits
    host_short: int  # likewise in main memory
    beyond_training: bool
    decode: Decoding
    decode_start: Decoding  # with an empty cache
    cold: Prefilling  # the whole window of one user
    warm: Prefilling  # a question of 4,096 tokens behind a window that is in the cache

    @property
    def fits(self) -> bool:
        return not self.card_short and not self.host_short


@dataclass(frozen=True, slots=True)
class UsersAt:
    """How many users can each have a context at once, loaded the recommended way; ``tokens_s`` is of each."""

    context: int
    users: int
    tokens_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    shape: ModelShape
    machine: Machine
    wish: Wish
    calibration: Calibration
    card_room: int  # bytes that may be filled
    host_room: int
    rows: tuple[Row, ...]  # by context, KV type, placement
    recommended: Row | None
    users: tuple[UsersAt, ...]


def plan(shape: ModelShape, machine: Machine, wish: Wish | None = None, calibration: Calibration | None = None) -> Plan:
    """Every way to load the model, and the one to take; ``recommended`` is None where none fits."""
    wish, calibration = wish or Wish(), calibration or Calibration()
    planner = _Planner(shape, machine, calibration)
    kinds = (wish.kv_type,) if wish.kv_type else (KvType.F16, KvType.Q8_0, KvType.Q4_0)
    contexts = _contexts(shape, wish)
    rows = [row for context in contexts for kind in kinds for row in planner.rows(context, kind, wish.users)]
    chosen = _chosen(rows, wish)
    users: list[UsersAt] = []
    if chosen:
        wanted = WANTED_TOKENS_S[wish.task]
        asked = {row.context for row in rows if wish.contexts or not row.beyond_training} | {chosen.context}
        users = [at for context in sorted(asked) if (at := planner.users_at(context, chosen, wanted))]
    return Plan(
        shape, machine, wish, calibration, planner.card_room, planner.host_room, tuple(rows), chosen, tuple(users)
    )


def survey(
    shapes: Iterable[ModelShape], machine: Machine, wish: Wish | None = None, calibration: Calibration | None = None
) -> tuple[Plan, ...]:
    """A plan of each model, those that are fast enough first, among them the larger ones: size stands for ability.

    Rows are only those that the choice is made of: one KV type (q8_0 if none is wished for), contexts within training
    unless they are wished for, and no way beside having all on the card where that fits. Users are left out.
    """
    wish, calibration = wish or Wish(), calibration or Calibration()
    plans = []
    for shape in shapes:
        planner = _Planner(shape, machine, calibration)
        rows: list[Row] = []
        for context in _contexts(shape, wish):
            if wish.contexts or context <= shape.trained_context:
                for row in planner.rows(context, wish.kv_type or KvType.Q8_0, wish.users):
                    rows.append(row)
                    if row.load.placement is Placement.GPU and row.fits:
                        break
        rooms = planner.card_room, planner.host_room
        plans.append(Plan(shape, machine, wish, calibration, *rooms, tuple(rows), _chosen(rows, wish), ()))
    return tuple(sorted(plans, key=_rank))


def _contexts(shape: ModelShape, wish: Wish) -> list[int]:
    """Those wished for, or the usual ones and as much as the model is trained on."""
    trained = {shape.trained_context} if LEAST_CONTEXT <= shape.trained_context <= MOST_CONTEXT else set()
    return sorted(set(wish.contexts) or {*STANDARD_CONTEXTS, *trained})


def _rank(plan: Plan) -> tuple[bool, bool, int, str]:
    row = plan.recommended
    return (row is None, row is None or not fast_enough(row, plan.wish), -plan.shape.parameters, plan.shape.name)


class _Planner:
    """One model on one machine; the rooms are bytes that may be filled."""

    def __init__(self, shape: ModelShape, machine: Machine, calibration: Calibration) -> None:
        self._shape, self._machine, self._calibration = shape, machine, calibration
        self.card_room = self.host_room = 0
        margin = max(HOST_MARGIN, int(machine.ram * HOST_MARGIN_SHARE))
        if machine.unified:
            free = machine.gpu.free if machine.gpu else int(machine.ram_free * UNIFIED_SHARE)
            self.card_room = max(0, free - max(CARD_MARGIN, int(free * CARD_MARGIN_SHARE)))
        else:
            self.host_room = max(0, machine.ram_free - margin)
            if machine.gpu:
                keep = max(CARD_MARGIN, int(machine.gpu.memory * CARD_MARGIN_SHARE))
                self.card_room = max(0, machine.gpu.free - keep)

    def rows(self, context: int, kind: KvType, users: int) -> Iterator[Row]:
        """The ways to load one context, the one with all in one place first."""
        whole = False
        for placement in self._placements():
            if whole and placement in {Placement.EXPERTS_IN_RAM, Placement.LAYERS_ON_CPU}:
                continue  # nothing has to leave the card
            ways = self._ways(context, kind, placement, users)
            whole = whole or (placement is Placement.GPU and ways[0].fits)
            yield from ways

    def _placements(self) -> tuple[Placement, ...]:
        if self._machine.unified:
            return (Placement.UNIFIED,)
        if not self._machine.gpu:
            return (Placement.CPU,)
        experts = (Placement.EXPERTS_IN_RAM,) if any(layer.expert_bytes for layer in self._shape.layers) else ()
        return (Placement.GPU, *experts, Placement.LAYERS_ON_CPU, Placement.KV_IN_RAM, Placement.CPU)

    def _ways(self, context: int, kind: KvType, placement: Placement, users: int) -> list[Row]:
        """The least that has to leave the card, in large batches, and in usual ones where those let more stay."""
        streams = placement in {Placement.EXPERTS_IN_RAM, Placement.LAYERS_ON_CPU, Placement.KV_IN_RAM}
        ways: list[Row] = []
        for batch in (STREAMING_BATCH, BATCH) if streams else (BATCH,):
            load = Load(context * users, kind, kind, placement, batch=batch, parallel=users)
            row = self._row(context, self._least_spilled(load))
            if not ways or not ways[0].fits or _spilled(row) != _spilled(ways[0]):
                ways.append(row)
        # What fits in neither is told once, as near as it comes.
        return [row for row in ways if row.fits] or ways[-1:]

    def _least_spilled(self, load: Load) -> Load:
        layers = len(self._shape.layers)
        if load.placement is Placement.EXPERTS_IN_RAM:
            return replace(load, ram_experts=_least(1, layers, lambda n: self._on_card(replace(load, ram_experts=n))))
        if load.placement is Placement.LAYERS_ON_CPU:
            spilled = _least(1, layers, lambda n: self._on_card(replace(load, gpu_layers=layers + 1 - n)))
            return replace(load, gpu_layers=layers + 1 - spilled)
        return load

    def _on_card(self, load: Load) -> bool:
        return memory.need(self._shape, load, self._calibration).gpu.total <= self.card_room

    def _row(self, context: int, load: Load) -> Row:
        shape, machine, calibration = self._shape, self._machine, self._calibration
        need = memory.need(shape, load, calibration)
        question = min(QUESTION_TOKENS, context)
        return Row(
            context,
            load,
            need,
            max(0, need.gpu.total - self.card_room),
            max(0, need.host.total - self.host_room) if not machine.unified else 0,
            context > shape.trained_context > 0,
            speed.decode(shape, load, machine, calibration),
            speed.decode(shape, load, machine, calibration, used=0),
            speed.prefill(shape, load, machine, context, calibration),
            speed.prefill(shape, load, machine, question, calibration, cached=context - question),
        )

    def users_at(self, context: int, chosen: Row, wanted: float) -> UsersAt | None:
        """The most users that fit, and that get the ``wanted`` tokens a second if one alone does."""

        def fastest(users: int) -> float:
            ways = self._ways(context, chosen.load.k_type, chosen.load.placement, users)
            return max((row.decode.tokens_s for row in ways if row.fits), default=0.0)

        alone = fastest(1)
        if not alone:
            return None
        enough = min(alone, wanted)
        users = _least(2, MOST_USERS + 1, lambda users: fastest(users) < enough) - 1
        return UsersAt(context, users, fastest(users))


def _spilled(row: Row) -> tuple[int, int | None]:
    return row.load.ram_experts, row.load.gpu_layers


def _least(first: int, last: int, holds: Callable[[int], bool]) -> int:
    """The least number from first to last for which it holds, which it does for all above; ``last`` if for none."""
    while first < last:
        middle = (first + last) // 2
        if holds(middle):
            last = middle
        else:
            first = middle + 1
    return first


# What numbers of the cache lose, from 0. q8_0: perplexity +0.002 of 6.23 (llama.cpp pull request 7412), no more than
# f16 weights lose to q8_0 ones. Four bits are seen in long texts first, and are taken only where they are asked for.
LOSS = {KvType.Q5_1: 1, KvType.Q5_0: 1, KvType.Q4_1: 2, KvType.Q4_0: 2, KvType.IQ4_NL: 2}


def _chosen(rows: Sequence[Row], wish: Wish) -> Row | None:
    """Contexts that were asked for are taken as they come; of the others those that a task can work with.

    More memory only adds rows, or makes them faster, so that it never leads to a smaller context.
    """
    fitting = [row for row in rows if row.fits]
    if not wish.contexts:
        fitting = [row for row in fitting if not row.beyond_training]
    kept = [row for row in fitting if not LOSS.get(row.load.k_type)]
    usual = kept if kept and not wish.kv_type else fitting
    if not usual:
        return None
    fast = [row for row in usual if fast_enough(row, wish)]
    if wish.contexts:
        context = max(row.context for row in usual)
        candidates = [row for row in fast if row.context == context] or [row for row in usual if row.context == context]
    elif fast:
        context = max(row.context for row in fast)
        candidates = [row for row in fast if row.context == context]
    else:
        context = min(row.context for row in usual)
        candidates = [row for row in usual if row.context == context]
    return best_of(candidates)


def best_of(rows: Sequence[Row]) -> Row:
    """Of those that write nearly as fast as the fastest: the most precise, then the one that has read soonest."""
    fastest = max(row.decode.tokens_s for row in rows)
    near = [row for row in rows if row.decode.tokens_s >= NEARLY_AS_FAST * fastest]
    return min(near, key=lambda row: (_PRECISION.index(row.load.k_type), row.cold.seconds, row.load.placement))


_PRECISION = tuple(KvType)


def fast_enough(row: Row, wish: Wish) -> bool:
    """Whether its tokens come as the task needs them, and the first one before a user gives up."""
    return row.decode.tokens_s >= WANTED_TOKENS_S[wish.task] and row.cold.seconds <= PATIENCE_S
