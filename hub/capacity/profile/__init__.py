"""How a model is to be run, told to every engine in its own words. The names that others use stand here."""

from hub.capacity.profile.engines import Binding, Engine, Place, Settled, Status, request_options, settle
from hub.capacity.profile.knobs import (
    FIT,
    FOR_EVER,
    Compared,
    Knob,
    KvPlacement,
    Numa,
    Overflow,
    Profile,
    Switch,
    Verdict,
    compare,
)

__all__ = [
    "FIT",
    "FOR_EVER",
    "Binding",
    "Compared",
    "Engine",
    "Knob",
    "KvPlacement",
    "Numa",
    "Overflow",
    "Place",
    "Profile",
    "Settled",
    "Status",
    "Switch",
    "Verdict",
    "compare",
    "request_options",
    "settle",
]
