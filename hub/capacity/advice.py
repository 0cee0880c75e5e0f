"""A plan in words: why a way of loading is recommended, and what to know before relying on it.

Every sentence has a code, so that a program can tell them apart. Sources of facts about models stand beside their
constants. Computes nothing: figures come from the plan.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hub.capacity.model import KvType, Placement
from hub.capacity.planning import BATCH, HOST_MARGIN, LOSS, WANTED_TOKENS_S, Plan, Row, fast_enough

# Beyond this factor YaRN is not known to hold: arXiv 2309.00071 shows more only after training on it, and model cards
# that allow it untrained (Qwen's) stop at 4.
YARN_FACTOR = 4.0
# From here on models read clearly worse than at short contexts: RULER (arXiv 2404.06654) finds half of 17 models that
# claim 32K or more to do well at 32K; NoLiMa (arXiv 2502.05167) finds 11 of 13 below half of their short score there.
DOUBTFUL_CONTEXT = 32768
# llama.cpp's --cache-ram, which Ollama starts its runners with and does not count.
PROMPT_CACHE = 8 << 30
# The hub's own limit for one request (GenerationOptions.timeout_s).
HUB_LIMIT_S = 1800.0
# A prompt that takes longer than this is noticed as waiting. 30 to 120.
NOTICED_S = 60.0

PLACEMENT_NAMES = {
    Placement.GPU: "all on the card",
    Placement.KV_IN_RAM: "KV cache in RAM",
    Placement.LAYERS_ON_CPU: "layers on the CPU",
    Placement.EXPERTS_IN_RAM: "experts in RAM",
    Placement.CPU: "all on the CPU",
    Placement.UNIFIED: "shared memory",
}


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence, and a word for programs to know it by."""

    code: str
    text: str


def reasons(plan: Plan) -> tuple[Note, ...]:
    """Why the recommended way; none where there is none."""
    return tuple(_reasons(plan, plan.recommended)) if plan.recommended else ()


def cautions(plan: Plan) -> tuple[Note, ...]:
    """What to know before relying on the plan."""
    row = plan.recommended
    said = [*_about_the_machine(plan)]
    if row is None:
        return (*said, _nothing_fits(plan), *_beyond_training(plan, max(plan.wish.contexts, default=0)))
    return (*said, *_about_the_context(plan, row), *_about_time(plan, row), *_about_the_cache(plan, row))


def tokens(context: int) -> str:
    """A context as people write it: 32K, 1M, or the number."""
    for unit, name in ((1 << 20, "M"), (1 << 10, "K")):
        if context >= unit and context % unit == 0:
            return f"{context // unit}{name}"
    return f"{context:,}"


def duration(seconds: float) -> str:
    """A time in two or three digits and the unit that suits it."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 1 else f"{seconds:.1g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.0f} h"


def rate(tokens_s: float) -> str:
    """Tokens a second, with a digit behind the point where it tells something."""
    return f"{tokens_s:,.0f}" if tokens_s >= 20 else f"{tokens_s:.1f}" if tokens_s >= 1 else f"{tokens_s:.2g}"


def missing(row: Row) -> str:
    """What a row lacks, such as "2.1 GiB on the card"; empty where it fits."""
    lacks = ((row.card_short, "on the card"), (row.host_short, "of RAM"))
    return " and ".join(f"{size / (1 << 30):,.1f} GiB {where}" for size, where in lacks if size)


def _reasons(plan: Plan, row: Row) -> Iterator[Note]:
    yield Note("placement", _placement_reason(plan, row))
    yield Note("context", _context_reason(plan, row))
    if plan.wish.kv_type is None:
        yield Note("kv", _kv_reason(plan, row))
    if row.load.batch != BATCH:
        text = f"Batches of {row.load.batch:,} tokens: what lies in RAM is copied to the card once for each of them."
        yield Note("batch", text)
    yield Note(
        "speed",
        f"{rate(row.decode.tokens_s)} tokens/s with a full window, {rate(row.decode_start.tokens_s)} with an empty one;"
        f" most of the time goes into: {row.decode.limit}.",
    )
    yield Note(
        "prefill",
        f"Reading a full window takes {duration(row.cold.seconds)} the first time (most of it: {row.cold.limit}), a"
        f" question of {row.warm.tokens:,} tokens behind what is in the cache {duration(row.warm.seconds)}.",
    )


def _placement_reason(plan: Plan, row: Row) -> str:
    load, shape = row.load, plan.shape
    layers = len(shape.layers)
    return {
        Placement.GPU: "Weights and KV cache all fit the card.",
        Placement.UNIFIED: "Weights and KV cache all fit the memory that graphics may take.",
        Placement.CPU: "There is no card, so the processor does it all."
        if plan.machine.gpu is None
        else "So little fits the card that the processor alone is no slower.",
        Placement.EXPERTS_IN_RAM: (
            f"The experts of {load.ram_experts} of {layers} layers go to RAM, the fewest with which the rest fits the"
            f" card: a token needs {shape.experts_used} of {shape.experts} experts, but the whole KV cache."
        ),
        Placement.LAYERS_ON_CPU: (
            f"{load.gpu_layers} of {layers + 1} layers (the output counts as one) stay on the card, the most that fit."
        ),
        Placement.KV_IN_RAM: "The weights fill the card, so the KV cache goes to RAM and over the link for each token.",
    }[load.placement]


def _context_reason(plan: Plan, row: Row) -> str:
    wanted, task = WANTED_TOKENS_S[plan.wish.task], plan.wish.task
    allowed = [other.context for other in plan.rows if plan.wish.contexts or not other.beyond_training]
    if plan.wish.contexts:
        said = f"{tokens(row.context)} is the largest context asked for that fits"
    elif not fast_enough(row, plan.wish):
        said = f"No context is fast enough for {task} ({wanted:g} tokens/s), so this is the smallest"
    elif row.context == max(allowed):
        return f"{tokens(row.context)} is as much as the model is trained on, and fits."
    else:
        said = f"{tokens(row.context)} is the largest context that fits and is fast enough for {task}"
    larger = [
        other
        for other in plan.rows
        if other.context > row.context and other.context in allowed and not LOSS.get(other.load.k_type)
    ]
    if not larger:
        return f"{said}."
    least = min(other.context for other in larger)
    following = [other for other in larger if other.context == least]
    fitting = [other for other in following if other.fits]
    if not fitting:
        nearest = min(following, key=lambda other: other.card_short + other.host_short)
        return f"{said}; {tokens(least)} lacks {missing(nearest)}."
    fastest = max(fitting, key=lambda other: other.decode.tokens_s)
    if fastest.decode.tokens_s < wanted:
        return f"{said}; {tokens(least)} would write {rate(fastest.decode.tokens_s)} tokens/s."
    return f"{said}; {tokens(least)} would take {duration(fastest.cold.seconds)} to read."


def _kv_reason(plan: Plan, row: Row) -> str:
    kind = row.load.k_type
    wanted = KvType.Q8_0 if kind is KvType.F16 else KvType.F16
    same = [other for other in plan.rows if other.context == row.context and other.load.k_type is wanted and other.fits]
    fastest = max((other.decode.tokens_s for other in same), default=0.0)
    if kind is KvType.F16:
        return f"The KV cache stays f16: it fits, and q8_0 would not gain much ({rate(fastest)} tokens/s)."
    lead = f"The KV cache as {kind}, about half of f16, at a loss that perplexity hardly shows"
    return f"{lead}; f16 would write {rate(fastest)} tokens/s." if same else f"{lead}; f16 fits nowhere."


def _about_the_machine(plan: Plan) -> Iterator[Note]:
    for assumed in plan.shape.notes:
        yield Note("model", assumed)
    gpu = plan.machine.gpu
    if gpu is None:
        yield Note("no-card", "No graphics card: the processor reads prompts 20 to 100 times slower than a card would.")
    elif gpu.count > 1:
        text = f"The {gpu.count} cards add up their memory, not their speed: one computes after the other."
        yield Note("cards", text)


def _about_the_context(plan: Plan, row: Row) -> Iterator[Note]:
    shape, asked = plan.shape, max(plan.wish.contexts, default=0)
    trained, original = shape.trained_context, shape.original_context or shape.trained_context
    if asked > row.context:
        refused = [other for other in plan.rows if other.context == asked]
        nearest = min(refused, key=lambda other: other.card_short + other.host_short)
        yield Note("too-large", f"{tokens(asked)} does not fit: at best it lacks {missing(nearest)}.")
    stretched = [*_beyond_training(plan, max(asked, row.context))]
    yield from stretched
    if not stretched and original and trained > original and row.context > original:
        yield Note(
            "scaled",
            f"The model's {trained:,} tokens are {original:,} stretched {trained / original:.0f} times (RoPE scaling);"
            " it reads best within those.",
        )
    if row.context > DOUBTFUL_CONTEXT:
        yield Note(
            "effective-context",
            "Models read less well than they are trained to: of 17 that claim 32K or more half did well at 32K (RULER),"
            " and 11 of 13 fell there below half of their score at short contexts (NoLiMa).",
        )


def _beyond_training(plan: Plan, context: int) -> Iterator[Note]:
    trained = plan.shape.trained_context
    original = plan.shape.original_context or trained
    if not trained or context <= trained:
        return
    yield Note(
        "beyond-training",
        f"{context:,} tokens are {context / trained:.1f} times what the model is trained on ({trained:,}). That"
        " needs YaRN (codehub extend-context), with which answers get worse, those about short prompts included.",
    )
    if context > YARN_FACTOR * original:
        yield Note(
            "yarn",
            f"It stretches positions {context / original:.0f} times over the {original:,} of the first training;"
            f" beyond {YARN_FACTOR:g} only models that were trained for it are known to read well. Check with"
            " codehub measure-context --needle.",
        )


def _about_time(plan: Plan, row: Row) -> Iterator[Note]:
    task = plan.wish.task
    wanted = WANTED_TOKENS_S[task]
    if row.decode.tokens_s < wanted:
        text = f"{rate(row.decode.tokens_s)} tokens/s with a full window is less than {task} needs ({wanted:g})."
        yield Note("slow", text)
    if row.cold.seconds > HUB_LIMIT_S:
        yield Note(
            "cold",
            f"The first answer about a full window comes after {duration(row.cold.seconds)}, longer than the hub waits"
            f" ({duration(HUB_LIMIT_S)}): ask about less, or keep what was read on disk (codehub warm).",
        )
    elif row.cold.seconds > NOTICED_S:
        yield Note(
            "cold",
            f"The first answer about a full window comes after {duration(row.cold.seconds)}: ask many questions about"
            " one prefix, in the cache or on disk (codehub warm), rather than each about a new prompt.",
        )
    if row.load.placement is Placement.KV_IN_RAM and plan.shape.experts:
        yield Note("experts", "With experts it is faster to move those to RAM and keep the KV cache on the card.")


def _about_the_cache(plan: Plan, row: Row) -> Iterator[Note]:
    kind, machine = row.load.k_type, plan.machine
    if LOSS.get(kind) == 2:
        yield Note(
            "kv-quality",
            f"A KV cache of 4 bits ({kind}) loses first what long texts need; compare its answers with those of q8_0.",
        )
    if machine.gpu and kind not in {KvType.F16, KvType.F32, KvType.BF16}:
        yield Note(
            "kv-kernels",
            "Where a card has no attention kernel for a quantised cache, the engine computes attention on the processor"
            " and does not say so: measure once (codehub measure-context).",
        )
    left = plan.machine.ram_free - row.need.host.total - (row.need.gpu.total if machine.unified else 0)
    if left < PROMPT_CACHE:
        yield Note(
            "prompt-cache",
            "Up to 8 GiB of earlier prompts are kept in RAM by llama.cpp, uncounted by Ollama; that much is not left"
            " here. Set LLAMA_ARG_CACHE_RAM (MiB) or --cache-ram.",
        )


def _nothing_fits(plan: Plan) -> Note:
    machine, name = plan.machine, plan.shape.name
    if machine.ram_free <= HOST_MARGIN and not machine.unified:
        return Note("no-ram", "There is no main memory left to load a model with: end other programs first.")
    refused = [row for row in plan.rows if not row.fits]
    if not refused:
        return Note("beyond-training", f"{name} is trained on {plan.shape.trained_context:,} tokens only.")
    nearest = min(refused, key=lambda row: (row.context, row.card_short + row.host_short))
    return Note(
        "nothing-fits",
        f"Nothing fits: {name} at {tokens(nearest.context)} lacks {missing(nearest)}, with {nearest.load.k_type} and"
        f" {PLACEMENT_NAMES[nearest.load.placement]}. Take a smaller model, quantisation or context.",
    )
