"""The JSON shapes of plans: which models fit a machine, how, and how fast. Keys only ever get added."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hub.capacity import advice
from hub.capacity.advice import missing
from hub.capacity.model import ModelShape, Placement
from hub.capacity.planning import Plan, Row
from hub.capacity.rules import Rule
from hub.capacity.speed import Decoding, Prefilling

Json = dict[str, Any]


def plan_shape(made: Plan, compared: Sequence[Rule]) -> Json:
    """One model on one machine: everything, with every way to load it. Sizes in bytes, times in seconds."""
    return _told(made) | {
        "machine": asdict(made.machine),
        "wish": asdict(made.wish),
        "calibration": asdict(made.calibration),
        "room": {"card": made.card_room, "host": made.host_room},
        "rows": [_row_shape(row) for row in made.rows],
        "rules": [asdict(rule) | {"off": rule.off} for rule in compared],
    }


def survey_shape(plans: Sequence[Plan]) -> Json:
    """Several models on one machine, each with what is recommended of it."""
    return {"machine": asdict(plans[0].machine), "models": [_told(made) for made in plans]}


def profile_of(shape: ModelShape, row: Row) -> dict[str, str | int | float]:
    """The settings that load the model as the row says, by their keys in the file."""
    load = row.load
    made: dict[str, str | int | float] = {
        "context": row.context,
        "k_type": str(load.k_type),
        "v_type": str(load.v_type),
        "flash_attention": "on",
        "prefill_chunk": load.batch,
        "parallel": load.parallel,
    }
    if load.placement is Placement.KV_IN_RAM:
        made["kv_placement"] = "ram"
    if load.placement is Placement.LAYERS_ON_CPU and load.gpu_layers is not None:
        made["gpu_layers"] = load.gpu_layers
    if load.placement is Placement.CPU:
        made["gpu_layers"] = 0
    if load.placement is Placement.EXPERTS_IN_RAM:
        made["ram_experts"] = str(load.ram_experts)
    if row.beyond_training:
        made["yarn_factor"] = round(row.context / (shape.original_context or shape.trained_context), 4)
    return made


def _told(made: Plan) -> Json:
    shape = made.shape
    return {
        "model": {
            "name": shape.name,
            "architecture": shape.architecture,
            "quantization": shape.quantization,
            "source": shape.source,
            "parameters": shape.parameters,
            "weight_bytes": shape.weight_bytes,
            "layers": len(shape.layers),
            "trained_context": shape.trained_context,
            "original_context": shape.original_context,
            "window": shape.window,
            "experts": shape.experts,
            "experts_used": shape.experts_used,
            "notes": list(shape.notes),
        },
        "recommended": _row_shape(made.recommended) if made.recommended else None,
        "profile": profile_of(shape, made.recommended) if made.recommended else None,
        "reasons": [asdict(note) for note in advice.reasons(made)],
        "cautions": [asdict(note) for note in advice.cautions(made)],
        "users": [asdict(at) for at in made.users],
    }


def _row_shape(row: Row) -> Json:
    load = row.load
    return {
        "context": row.context,
        "users": load.parallel,
        "k_type": load.k_type,
        "v_type": load.v_type,
        "placement": load.placement,
        "gpu_layers": load.gpu_layers,
        "ram_experts": load.ram_experts,
        "batch": load.batch,
        "fits": row.fits,
        "missing": {"card": row.card_short, "host": row.host_short, "text": missing(row)},
        "beyond_training": row.beyond_training,
        "memory": {
            where: asdict(device) | {"total": device.total}
            for where, device in (("card", row.need.gpu), ("host", row.need.host))
        },
        "decode_full": _speed_shape(row.decode),
        "decode_empty": _speed_shape(row.decode_start),
        "prefill_cold": _speed_shape(row.cold),
        "prefill_warm": _speed_shape(row.warm),
    }


def _speed_shape(speed: Decoding | Prefilling) -> Json:
    return {
        "tokens_s": speed.tokens_s,
        "seconds": speed.seconds,
        "limit": speed.limit,
        "terms": [asdict(term) for term in speed.terms],
    }
