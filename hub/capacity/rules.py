"""The rules of thumb that people plan memory and speed with, beside what is computed for one model.

Each says what it says and what it should have said, so that a reader sees for which models it may be used: the older
ones were made for dense models whose layers all keep keys and values of every token.
"""

from dataclasses import dataclass

from hub.capacity import memory, speed
from hub.capacity.model import Calibration, Load, Machine, ModelShape, Placement

GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of thumb for one model: what it ``says`` of ``quantity``, and what is ``computed``."""

    name: str
    quantity: str
    says: float
    computed: float
    unit: str  # "bytes" or "tokens/s"

    @property
    def off(self) -> float:
        """As a share: 0.2 means that the rule says 20% too much."""
        return self.says / self.computed - 1 if self.computed else 0.0


def rules(
    shape: ModelShape, context: int, machine: Machine, calibration: Calibration | None = None
) -> tuple[Rule, ...]:
    """The usual rules for the model with f16 keys and values of ``context`` tokens, all of it on a card."""
    load = Load(context, placement=Placement.UNIFIED if machine.unified else Placement.GPU)
    need = memory.need(shape, load, calibration)
    whole = need.gpu.total
    kv = memory.kv_bytes(shape, load)
    kept = [layer for layer in shape.layers if layer.kv_heads]
    length = max((layer.key_length for layer in kept), default=0)
    heads = [layer.kv_heads for layer in kept] or [0]
    cells = 2 * len(shape.layers) * context * 2  # keys and values, two bytes each
    predicted = shape.weight_bytes + cells * min(heads) * (shape.embedding_length // max(1, shape.heads))
    listed = [
        Rule(
            "2 GB a billion parameters (fp16)",
            "memory (fp16)",
            2 * shape.parameters,
            whole - need.gpu.weights + 2 * shape.parameters,
            "bytes",
        ),
        Rule("0.7 GB a billion parameters (Q4)", "weights", 0.7 * shape.parameters, shape.weight_bytes, "bytes"),
        Rule("file size + 20%", "memory", 1.2 * shape.weight_bytes, whole, "bytes"),
        Rule("KV: 2 L heads D x 2 x tokens", "KV cache", cells * shape.heads * length, kv, "bytes"),
        Rule("KV: 2 L KV-heads D x 2 x tokens", "KV cache", cells * max(heads) * length, kv, "bytes"),
        Rule("Ollama's own prediction", "memory", predicted, whole, "bytes"),
    ]
    if machine.gpu:
        full = speed.decode(shape, load, machine, calibration).tokens_s
        empty = speed.decode(shape, load, machine, calibration, used=0).tokens_s
        quotient = machine.gpu.bandwidth / max(1, shape.weight_bytes)
        listed += [
            Rule("bandwidth / file size", "speed, empty", quotient, empty, "tokens/s"),
            Rule("bandwidth / file size", "speed, full", quotient, full, "tokens/s"),
        ]
    return tuple(rule for rule in listed if rule.says > 0)
