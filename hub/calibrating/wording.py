"""How questions are worded as a user would ask them: out of a comment, about a relation, with a name half remembered.

Pure and deterministic: which of several forms is taken depends on the seed and on what is asked for, so that none of
them stands for one kind of function. Knows nothing of trees.
"""

import re
from collections.abc import Callable, Sequence

from hub.labels import order_of
from hub.tables import Relation

LEAST_LETTERS = 7  # of a name that is mistyped; shorter ones become other names
MOST_PARTS = 2  # of a name that is qualified in part
_NAMED_SHARE = 3  # one in so many comments without the name of their function is asked with it

# What begins a comment in the third person: "Returns", "Looks", "Does". Words that only look like it are left out.
_DOES = re.compile(r"[A-Z][a-z]{1,20}(?:[^su\W]s|ss?es)\b(?!')")
_THINGS = re.compile(r"(?:[eo]rs|ions|ments|ings|ods|ues)\Z")
_NO_VERBS = frozenset({"this", "its", "always", "perhaps", "besides", "unless", "thus", "class", "this's", "contents"})
_SENTENCE = re.compile(r"[.!?]+\s*$")
_FIRST = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(\[])")

_DOING = (
    "Which function {does}?",
    "Where is the code that {does}?",
    "What is it here that {does}?",
)
_DOING_NAMED = (
    "How does {name} work, which {does}?",
    "What exactly happens in {name}, which {does}?",
)
_STATED = (
    "Where is this done: {text}",
    "Which function is described like this: {text}",
    "I look for the place in the code for this. {text}",
)
_STATED_NAMED = (
    "How does {name} work? {text}",
    "What is {name} for, and how is it done? {text}",
)
# None of these is a form that the tables answer alone: what is asked here has to be found.
_RELATED = {
    Relation.CALLERS: (
        "From where in the code is {name} invoked, and what for?",
        "What would have to be changed if {name} took one more argument?",
        "Which code relies on {name}, directly?",
    ),
    Relation.CALLEES: (
        "Which steps does {name} take, and with the help of which functions?",
        "What does {name} rely on to do its work?",
    ),
    Relation.DERIVED: (
        "Which kinds of {name} are there?",
        "Which classes build on {name}?",
        "If I change the interface of {name}, which classes do I have to change with it?",
    ),
    Relation.OVERRIDERS: (
        "Which classes bring their own version of {name}, and how do they differ?",
        "In which variants does {name} exist?",
    ),
}
_ABOUT_A_NAME = ("What does {name} do?", "How does {name} work?", "Explain {name} to me.", "{name}")


def natural(told: str, name: str, seed: int, about: str) -> str:
    """A question out of the words of a comment. What holds the function's name already keeps it; of the others one in
    three is asked with it, for a user often knows what a thing is called.
    """
    text = told.strip()
    holds = re.search(rf"\b{re.escape(name)}\b", text) is not None
    named = not holds and order_of(seed, f"named\0{about}")[0] % _NAMED_SHARE == 0
    sentences = _FIRST.split(text)
    does = _as_deed(sentences[0]) if len(sentences) == 1 else None
    if does is None:
        return _choice(_STATED_NAMED if named else _STATED, seed, about).format(name=name, text=text)
    return _choice(_DOING_NAMED if named else _DOING, seed, about).format(name=name, does=does)


def related(relation: Relation, name: str, seed: int) -> str:
    """A question about what stands in a relation to a name. Raises KeyError for a relation that is not asked so."""
    return _choice(_RELATED[relation], seed, f"{relation}\0{name}").format(name=name)


def about_name(name: str, seed: int) -> str:
    return _choice(_ABOUT_A_NAME, seed, f"name\0{name}").format(name=name)


def mistyped(qualified_name: str, taken: Callable[[str], bool], seed: int) -> str | None:
    """The last part of a name with one slip of the fingers: two letters swapped, one left out, one doubled.

    None where it is too short, or where every such slip gives a name that is ``taken``.
    """
    name = qualified_name.rpartition("::")[2]
    if len(name) < LEAST_LETTERS:
        return None
    slips = {
        slip
        for at in range(1, len(name) - 1)
        for slip in (
            name[:at] + name[at + 1] + name[at] + name[at + 2 :],
            name[:at] + name[at + 1 :],
            name[:at] + name[at] + name[at:],
        )
    }
    ordered = sorted(slips - {name}, key=lambda slip: (order_of(seed, f"slip\0{qualified_name}\0{slip}"), slip))
    return next((slip for slip in ordered if not taken(slip)), None)


def partial(qualified_name: str) -> str | None:
    """The name with the last of what qualifies it; None where that is all of it."""
    parts = qualified_name.split("::")
    return "::".join(parts[-MOST_PARTS:]) if len(parts) > MOST_PARTS else None


def _as_deed(sentence: str) -> str | None:
    """``Returns the size.`` as "returns the size"; None where the sentence does not begin like that."""
    first = _DOES.match(sentence)
    if first is None or first.group().lower() in _NO_VERBS or _THINGS.search(first.group()):
        return None
    bare = _SENTENCE.sub("", sentence)
    return bare[0].lower() + bare[1:]


def _choice(forms: Sequence[str], seed: int, what: str) -> str:
    return forms[int.from_bytes(order_of(seed, f"form\0{what}"), "big") % len(forms)]
