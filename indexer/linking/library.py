"""What linking knows of the standard library: the types that its containers, pointers and functions hand out.

Only what leads back to a type of the tree stands here: what is inside a container, behind a pointer, or returned by a
function that passes its argument on. Nothing here looks at the tree.

Source: ISO/IEC 14882:2023, clauses 20 (memory), 22 (utilities), 23 (strings), 24 (containers), 25 (iterators), 27
(algorithms).
"""

from indexer.linking.types import Type

_STRING = Type("outside", "std::string")
_SIZE = Type("builtin", "unsigned long")
_CHAR = Type("builtin", "char")
_BOOL = Type("builtin", "bool")
_INT = Type("builtin", "int")
_CHARS = Type("builtin", "char", pointers=1, const=True)

_SEQUENCES = frozenset(
    f"std::{name}"
    for name in """vector deque list forward_list array span valarray initializer_list set multiset unordered_set
    unordered_multiset queue stack priority_queue basic_string basic_string_view flat_set""".split()
)
_MAPS = frozenset(
    f"std::{name}" for name in "map multimap unordered_map unordered_multimap flat_map flat_multimap".split()
)
_POINTERS = frozenset(
    f"std::{name}" for name in "unique_ptr shared_ptr optional reference_wrapper weak_ptr auto_ptr expected".split()
)
_STRINGS = frozenset(f"std::{name}" for name in "string string_view wstring wstring_view u8string".split())
_ITERATOR = "std::iterator"  # stands for the iterators of all containers; its argument is what it points to
_REVERSE = "std::reverse_iterator"

_RANGES = _SEQUENCES | _MAPS | _STRINGS
_ELEMENT = frozenset({"front", "back", "at", "top", "operator[]", "emplace_back", "emplace_front"})
_ITERATORS = frozenset(
    """begin end cbegin cend find insert erase lower_bound upper_bound emplace_hint
    before_begin insert_after""".split()
)
_REVERSED = frozenset({"rbegin", "rend", "crbegin", "crend"})
_SIZES = frozenset({"size", "length", "capacity", "count", "max_size", "use_count", "find_first_of", "rfind"})
_TESTS = frozenset({"empty", "has_value", "contains", "starts_with", "ends_with", "expired"})
_POINTEES = frozenset({"value", "value_or", "operator*"})
_PASSED_ON = frozenset(
    f"std::{name}"
    for name in """move forward as_const exchange min max clamp next prev find find_if find_if_not lower_bound
    upper_bound remove remove_if unique partition min_element max_element abs""".split()
)
_MADE = {"std::make_unique": "std::unique_ptr", "std::make_shared": "std::shared_ptr"}
_CASTS = frozenset({"std::static_pointer_cast", "std::dynamic_pointer_cast", "std::const_pointer_cast"})
_BEGINS = frozenset({"std::begin", "std::end", "std::cbegin", "std::cend"})
_RESULTS = {
    "std::to_string": _STRING,
    "std::string": _STRING,
    "std::strlen": _SIZE,
    "strlen": _SIZE,
    "std::memcmp": _INT,
    "memcmp": _INT,
    "strcmp": _INT,
    "std::strcmp": _INT,
    "std::getenv": _CHARS._replace(const=False),
}
_EXCEPTIONS = frozenset(
    f"std::{name}"
    for name in """logic_error domain_error invalid_argument length_error out_of_range runtime_error range_error
    overflow_error underflow_error system_error""".split()
)
_OTHERS = frozenset({"std::pair", "std::tuple", "std::function", "std::variant"})
KNOWN_TYPES = _SEQUENCES | _MAPS | _POINTERS | _STRINGS | _EXCEPTIONS | _OTHERS
_ITERATOR_NAMES = {
    "iterator": _ITERATOR,
    "const_iterator": _ITERATOR,
    "reverse_iterator": _REVERSE,
    "const_reverse_iterator": _REVERSE,
}


def first_argument(owner: Type) -> Type | None:
    return owner.arguments[0] if owner.arguments else None


def element(owner: Type) -> Type | None:
    """What a range-for over a value of the type yields, and what its iterators point to."""
    name = owner.name
    if name in _MAPS:
        key, value = (*owner.arguments, None, None)[:2]
        return Type("outside", "std::pair", (key._replace(const=True) if key else None, value))
    if name in _STRINGS:
        return _CHAR._replace(const=owner.const, category="&")
    if name in _SEQUENCES or name in (_ITERATOR, _REVERSE):
        found = first_argument(owner)
        if found is None:
            return None
        return found._replace(category="&", const=found.const or (owner.const and not found.pointers))
    return None


def member(owner: Type, name: str) -> Type | None:  # noqa: C901, PLR0911 - one line a rule
    """The type of ``object.name`` or of what ``object.name(...)`` returns."""
    if owner.name in ("std::pair", "std::tuple"):
        at = {"first": 0, "second": 1}.get(name, -1)
        found = owner.arguments[at] if 0 <= at < len(owner.arguments) else None
        return found._replace(category="&") if found else None
    if owner.name in (_ITERATOR, _REVERSE):
        return dereferenced(owner) if name == "operator*" else None
    if name in _SIZES:
        return _SIZE
    if name in _TESTS:
        return _BOOL
    if owner.name in _POINTERS:
        return _member_of_pointer(owner, name)
    if owner.name in _STRINGS:
        if name in ("substr", "append", "assign", "replace"):
            return _STRING if name != "substr" else owner._replace(category="&&", const=False)
        if name in ("c_str", "data"):
            return _CHARS
    if name in _ELEMENT:
        return subscripted(owner)
    if (name in _ITERATORS or name in _REVERSED) and owner.name in _RANGES:
        return Type("outside", _REVERSE if name in _REVERSED else _ITERATOR, (element(owner),))
    if name == "data" and owner.name in _SEQUENCES:
        found = first_argument(owner)
        return found._replace(pointers=found.pointers + 1) if found else None
    return None


def _member_of_pointer(owner: Type, name: str) -> Type | None:
    pointee = first_argument(owner)
    if pointee is None:
        return None
    if name in ("get", "release"):
        if owner.name == "std::reference_wrapper":
            return pointee._replace(category="&")
        return pointee._replace(pointers=pointee.pointers + 1)
    if name in _POINTEES:
        return pointee._replace(category="&")
    if name == "lock":
        return Type("outside", "std::shared_ptr", (pointee,))
    return None


def dereferenced(owner: Type) -> Type | None:
    """What ``*object`` is, and what ``object->`` leads to."""
    if owner.name in _POINTERS:
        found = first_argument(owner)
        return found._replace(category="&") if found else None
    if owner.name in (_ITERATOR, _REVERSE):
        found = first_argument(owner)
        return found._replace(category=found.category or "&") if found else None
    return None


def subscripted(owner: Type) -> Type | None:
    if owner.name in _MAPS:
        found = owner.arguments[1] if len(owner.arguments) > 1 else None
        return found._replace(category="&") if found else None
    if owner.name == "std::unique_ptr":
        return dereferenced(owner)
    return element(owner)


def part(owner: Type, index: int) -> Type | None:
    """What a structured binding takes out of a value."""
    if owner.name in ("std::pair", "std::tuple"):
        return owner.arguments[index] if index < len(owner.arguments) else None
    return first_argument(owner) if owner.name == "std::array" else None


def nested(owner: str, arguments: tuple[Type | None, ...], name: str) -> Type | None:
    """A type inside a type: ``std::vector<Foo>::iterator``."""
    whole = Type("outside", owner, arguments)
    if name in _ITERATOR_NAMES:
        return Type("outside", _ITERATOR_NAMES[name], (element(whole),))
    if name == "value_type":
        return element(whole)
    if name == "size_type":
        return _SIZE
    return None


def returned(  # noqa: C901, PLR0911 - one line a function
    name: str, arguments: list[Type | None], explicit: list[Type | None]
) -> Type | None:
    """What a function of the library returns, by its qualified name, arguments and explicit template arguments."""
    if name in _PASSED_ON:
        found = arguments[0] if arguments else None
        if name == "std::forward" and explicit and explicit[0]:
            return explicit[0]._replace(category="&&")
        return found._replace(category="&&") if found and name == "std::move" else found
    if name in _MADE and explicit:
        return Type("outside", _MADE[name], (explicit[0],), category="&&")
    if name in _CASTS and explicit:
        return Type("outside", "std::shared_ptr", (explicit[0],))
    if name == "std::make_pair":
        return Type("outside", "std::pair", tuple(t._replace(category="") if t else None for t in arguments))
    if name == "std::make_optional" and arguments:
        return Type("outside", "std::optional", (arguments[0],))
    if name in ("std::ref", "std::cref") and arguments:
        return Type("outside", "std::reference_wrapper", (arguments[0],))
    if name == "std::addressof" and arguments and arguments[0]:
        return arguments[0]._replace(pointers=arguments[0].pointers + 1, category="")
    if name == "std::get" and explicit and explicit[0] and explicit[0].kind == "class":
        return explicit[0]._replace(category="&")
    if name in _BEGINS and arguments and arguments[0]:
        return Type("outside", _ITERATOR, (element(arguments[0]),))
    if name in KNOWN_TYPES:
        return Type("outside", name, tuple(explicit), category="&&")
    return _RESULTS.get(name)
