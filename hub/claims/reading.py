"""Reads what sentences assert of code: who calls whom, what derives from what, what stands where. Pure, no tree.

Names, paths and labels become single signs first, so that what is left is plain English in a few forms. A sentence in
another form asserts nothing here: what is found should be right rather than complete. Negations, questions and
conditions assert nothing either.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from hub.claims.model import Claim, Relation
from hub.claims.names import CODE_WORD, LANGUAGE
from indexer.patterns import later

MOST_SIGNS = 1_000  # of one kind in a text; each takes a character of its own
MOST_TEXT = 60_000  # characters that are read; an answer has 3,000
MOST_SENTENCE = 800  # characters; a longer one asserts nothing here, whatever it says
MOST_ITEMS = 60  # of one list
MOST_CLAIMS = 200  # of one text

# Signs stand in Unicode's private use area: names, paths, other code, labels, each from here on.
_NAMES, _PATHS, _CODES, _LABELS = 0xE000, 0xEC00, 0xF400, 0xF800
_N, _P, _L = "[\ue000-\uebff]", "[\uec00-\uf3ff]", "[\uf800-\uf8fe]"
_BLOCK = "\uf8ff"
_DOT = "\u2024"  # of an abbreviation, which ends no sentence
_SIGN = later("[\ue000-\uf8ff]")

_FENCE = later(r"^[ \t]{0,8}(`{3,9}|~{3,9})[^`\n]*\n(.*?)(?:^[ \t]{0,8}\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_LABEL = later(r"\s?\[([0-9]{1,7}(?:[ \t]{0,4},[ \t]{0,4}[0-9]{1,7}){0,40})\]")
_CODE_SPAN = later(r"`([^`\n]{1,400})`")
PATH = later(
    r"(?<![\w/.~-])((?:[\w.+~-]{1,80}/){0,20}[\w+~-][\w.+~-]{0,80}"
    r"\.(?:hpp|hxx|hh|h|cpp|cxx|cc|cppm|ccm|cuh|cu|c|inl|ipp|ixx|inc|tcc|tpp|txt|cmake|py|proto))"
    r"(?::([0-9]{1,7})(?:[-\u2013]([0-9]{1,7}))?)?(?![\w/-]|\.\w)"
)
# A code span that is one name: what it returns before it, arguments after it.
_ONE_NAME = later(
    r"(?:[\w:<>,*& ]{1,80}[\s*&])??((?:(?:::)?[A-Za-z_]\w{0,80}(?:<[^<>`]{0,80}>)?(?:::|\.|->)){0,8}"
    r"(?:operator ?(?:\(\)|\[\]|[^\w\s(]{1,3})|~?[A-Za-z_]\w{0,80}))(?:<[^<>`]{0,80}>)?"
    r"(?:\([^`]{0,200}\)(?: const)?(?: noexcept)?(?: override)?)?;?"
)
# What makes a code span more than a name.
OPERATOR = later(
    r"[-+*/%|&^=!]=|&&|\|\||\+\+|--|\s(?:[-+*/%?=<>]|<<|>>)\s|(?<![\w)])!(?=\w)|\w=\w|^return\s|^#\s*(?:include"
    r"|define|if)"
)
_SUITE = later(r"[A-Z]\w*\.\w+")
_ARGUMENTS = later(r"<[^<>]{0,80}>")
_CAPITAL = later(r"(?<![\w`:.>~-])[A-Z][A-Za-z0-9]{2,}(?![\w:]|\.\w)")
# Capitalised words that begin sentences and name nothing.
_PLAIN = frozenset(
    """About Above After Again All Also Although And Another Any Are Arguments As At Base Bases Be Because Before Below
    Besides Both But By Call Called Callees Caller Callers Calls Can Class Classes Code Constructor Consequently
    Declared Defined Definition Definitions Derived Descendants Destructor Did Do Does During Each Either
    Evidence Every Everything Example False File Files Finally First Following For From Function Functions
    Further Given Has Have Header Hence Here How However If Implementation Implementations Implemented In Inside
    Instead Internally Into Is It Its Just Last Later Lastly Let Line Lines Macro Many May Meanwhile Member
    Method Methods Might More Most Moreover Must Namely Neither Next No Nobody None Nor Not Note Nothing Now
    Number Of On Once One Only Or Other Otherwise Our Out Over Overridden Override Overrides Parent Per Please
    Question Rather Same Second See Several Should Similarly Since So Some Specifically Struct Subclasses Such
    Superclass Sure Template Than That The Their Them Then There Therefore These They Third This Those Three
    Through Thus To Together True Two Type Types Under Unless Unlike Until Upon Use Used Users Uses Using Was We
    Well Were What When Whenever Where Whereas Whether Which While Who Whose Why Will With Within Without Yes
    You Your Answer API CPU GPU HTTP JSON RAII STL UTF ASCII POSIX Linux Windows Unix Google""".split()
)
_ABBREVIATION = later(r"\b(e\.g|i\.e|etc|vs|cf|resp|approx)\.", re.IGNORECASE)
_SENTENCE_END = later(rf"(?<=[.!?])(?:\s*{_L})*(?:\s+|$)|\n+")
_ITEM = later(rf"\s*(?:[-*+\u2022]|[0-9]{{1,3}}[.)])\s+(?:the |in )?({_N})")
_IS_ITEM = later(r"\s*(?:[-*+\u2022]|[0-9]{1,3}[.)])\s")

# Words that may stand around a name or before a verb and change nothing.
_QUALITY = (
    r"member|static|virtual|free|helper|template|base|derived|abstract|overloaded|public|private|pure|protected"
    r"|internal"
    r"|global|utility|friend|nested|concrete|local|inline|const|new|nearby|related"
)
_KIND = (
    rf"(?:(?:{_QUALITY}) )*(?:functions?|methods?|class(?:es)?|structs?|macros?|constructors?|destructors?"
    rf"|interfaces?|types?|templates?"
    r"|overloads?|routines?|helpers?|callbacks?|operators?|objects?|instances?|members?|implementations?)"
)
_ARTICLE = r"the|an?|its own|its|their|another|this|that|both|either|all|each|only|same|own|other"
_BEFORE_NAME = later(
    rf"(?:\b(?:(?:{_ARTICLE}|{_QUALITY}) )+(?:{_KIND} )?|\b{_KIND} )(?:(?:named|called) )?(?={_N})", re.IGNORECASE
)
_AFTER_NAME = later(rf"(?<={_N})(?!(?:'s)?(?: \w+)? (?:base|parent|derived) )(?:'s)? {_KIND}\b(?! (?:of|in|from)\b)")
_DESTRUCTOR = later(rf"({_N})(?:'s)? destructor\b|\bdestructor of ({_N})")
_OWNER = later(rf"({_N})(?: class| struct)?'s ({_N})|({_N})(?: {_KIND})? of ({_N})")
_FROM_OWNER = later(rf"\b(overrides?) ({_N}) (?:from|in|declared in|inherited from) ({_N})")
_ASIDE = later(rf"(?<={_N}) ?(?:\((?:in |at |see |from )?{_P}(?:,? {_P})*\)|(?:in|at) {_P}(?:(?: and|,) {_P})*)")
_ADVERB = later(
    r"(?<=\s)(?:also|then|directly|simply|internally|itself|just|always|in turn|subsequently|repeatedly|immediately|"
    r"explicitly|implicitly|publicly|privately|virtually|usually|normally|typically|finally|first|again|lastly|next|"
    r"currently|therefore|thus|once|twice|mainly|primarily|merely|both|conditionally|recursively|safely|(?:two|three|"
    r"four|five|several|many|multiple|[0-9]+) times|only|exclusively|solely|at least|respectively|afterwards|later)"
    r"(?=[\s,.:;]|$),? ?",
    re.IGNORECASE,
)
_INDIRECTLY = later(r"\b(?:indirectly|eventually|ultimately|transitively|in the end)\b ?", re.IGNORECASE)
_LINE_AFTER = later(rf"({_P}),?(?: at| on)? \(?(?:at )?lines? ([0-9]{{1,7}})(?:(?:-|\u2013| to )([0-9]{{1,7}}))?\)?")
_LINE_BEFORE = later(rf"\blines? ([0-9]{{1,7}})(?:(?:-|\u2013| to )([0-9]{{1,7}}))? (?:of|in) ({_P})")
_FOLLOWING = later(
    r"(?: (?:the following|these|several|some|many|various|other|two|three|four|five|[0-9]+|different|helper))*"
    r" (?:functions|methods|classes|places|others|ones|structs|types|macros|helpers)?"
    rf"(?:(?: here)?:|,? (?:including|such as|namely|notably)) ?(?={_N})",
    re.IGNORECASE,
)
_BARE_ASIDE = later(r" \([^()\ue000-\uf8ff]{1,60}\)")
_IS_ONE = later(
    rf"(?<={_N}) (?:is|are) (?:an? |the )?(?:\w+ ){{0,2}}(?:class|struct|function|method|macro|type)(?:es|s)? "
    r"(?:(?:that|which) (?=calls|invokes|derives|inherits|extends|implements|overrides|is )|(?=defined|declared"
    r"|derived))"
)
_IT_DOES = later(
    r"(?:;|,? and)(?: rather| instead| then| here)? it (?=calls |invokes |derives |inherits |extends |implements "
    r"|overrides |is defined)"
)
_ENUMERATED = later(rf"(?<=[,;:] )(?:(?:and|in) )?(?:[(]?[0-9a-c][.)] )(?={_N})")

_AND = r"(?:, and |, or |, | and | or | & | as well as |; )"
_LIST = rf"{_N}(?:{_AND}{_N}){{0,40}}"
_VERBS = r"(?:calls?|invokes?|delegates?|forwards?|derives?|inherits?|extends?|implements?|overrides?)"
_OBJECTS = rf"{_LIST}(?! {_VERBS}\b)"  # what a verb follows is the subject of that
_BE = r"(?:is|are|was|were|gets|get|being|has been|have been|is being|can be seen to be)"
_CALL = (
    r"(?:calls? into|calls?|invokes?|delegates? to|forwards? to|makes? (?:a |an )?(?:call|calls) to"
    r"|contains? (?:a )?calls? to|is calling|are calling|will call)"
)
_DERIVE = (
    r"(?:(?:is |are )?derived? from|derives? from|inherits? from|inherits|descends? from|extends?"
    r"|subclasses|implements?)"
)
_CHILD = r"(?:subclass(?:es)?|child(?:ren)?|derived class(?:es)?|descendants?|child class(?:es)?|subtypes?)"
_PARENT = r"(?:base(?: class(?:es)?| type)?|parent(?: class(?:es)?)?|superclass(?:es)?|ancestor)"
_EQUALS = r"(?: (?:is|are|includes?|being)|:)+:?"
_DEFINED = r"(?:defined|declared|implemented|located|found|placed|written)"


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of sentences: ``subject`` and ``object`` are groups of its expression."""

    relation: Relation
    expression: re.Pattern[str]
    reverse: bool = False


def _form(relation: Relation, expression: str, *, reverse: bool = False) -> _Form:
    return _Form(relation, later(expression, re.IGNORECASE), reverse)


_FORMS = (
    _form(Relation.CALLS, rf"({_LIST})(?:,? which|,? that|,? who)? {_CALL}:? ({_OBJECTS})"),
    _form(
        Relation.CALLS,
        rf"({_LIST}),?(?: which| that)?(?: {_BE})? (?:called|invoked)(?: (?:with|for|on) [\w ]{{1,30}})?,? (?:by"
        rf"|from within|from inside|from|inside"
        rf"|within|in)"
        rf":? ({_LIST})",
        reverse=True,
    ),
    _form(Relation.CALLS, rf"({_LIST})(?: {_BE}|,) (?:one of )?(?:the |a |an )?(?:only |sole )?callers? of ({_LIST})"),
    _form(Relation.CALLS, rf"\bcallers? of ({_N}){_EQUALS} ({_LIST})", reverse=True),
    _form(Relation.CALLS, rf"({_N})(?:'s callers?{_EQUALS}| has [\w ]{{1,20}}callers?[:,]) ({_LIST})", reverse=True),
    _form(
        Relation.CALLS, rf"\bcalls? to ({_N})(?: [\w ]{{1,30}})? (?:in|from|by|inside|within) ({_LIST})", reverse=True
    ),
    _form(Relation.CALLS, rf"\b(?:callees of ({_N})|({_N})'s callees){_EQUALS} ({_LIST})"),
    _form(
        Relation.CALLS,
        rf"\b(?:following|functions|methods|places|ones|others)(?: \w+){{0,3}} {_CALL} ({_N}): ({_LIST})",
        reverse=True,
    ),
    _form(Relation.DERIVES, rf"({_LIST})(?:,? which|,? that)?(?: both| all)? {_DERIVE} ({_LIST})"),
    _form(
        Relation.DERIVES,
        rf"({_LIST})(?:,| {_BE})? \(?(?:a |an |the |(?!not |no |never )\w+ ){{0,4}}{_CHILD} of ({_LIST})",
    ),
    _form(
        Relation.DERIVES,
        rf"\b(?:following|classes|types|structs|ones)(?: \w+){{0,3}} {_DERIVE} ({_N}): ({_LIST})",
        reverse=True,
    ),
    _form(
        Relation.DERIVES,
        rf"({_LIST}) {_BE} (?:inherited|extended|implemented|subclassed) (?:by|in) ({_LIST})",
        reverse=True,
    ),
    _form(
        Relation.DERIVES,
        rf"\b(?:classes|types|structs) (?:derived|inheriting|deriving) from ({_N}){_EQUALS} ({_LIST})",
        reverse=True,
    ),
    _form(Relation.DERIVES, rf"\b{_CHILD} of ({_N}){_EQUALS} ({_LIST})", reverse=True),
    _form(Relation.DERIVES, rf"({_N})(?:'s {_CHILD}{_EQUALS}| has [\w ]{{1,20}}{_CHILD}[:,]) ({_LIST})", reverse=True),
    _form(
        Relation.DERIVES,
        rf"({_N})(?:,| is| serves as| acts as) (?:a |an |the |common )*{_PARENT} (?:of|for) ({_LIST})",
        reverse=True,
    ),
    _form(Relation.DERIVES, rf"\b{_PARENT} of ({_N}){_EQUALS} ({_LIST})"),
    _form(Relation.DERIVES, rf"({_N})'s (?:direct |only |immediate )?{_PARENT}{_EQUALS} ({_LIST})"),
    _form(
        Relation.OVERRIDES,
        rf"({_LIST})(?:,? which|,? that)? (?:overrides?|reimplements?|redefines?|(?:provides|has"
        rf"|defines) (?:its own |an? |the )?override of)"
        rf" ({_LIST})",
    ),
    _form(
        Relation.OVERRIDES,
        rf"({_LIST}),?(?: which| that)?(?: {_BE})? (?:overridden|reimplemented) (?:by|in):? ({_LIST})",
        reverse=True,
    ),
    _form(Relation.OVERRIDES, rf"({_LIST})(?: {_BE}|,) (?:an? |the )?overrid(?:e|er)s? (?:of|for) ({_LIST})"),
    _form(Relation.OVERRIDES, rf"\boverrid(?:e|er)s? of ({_N}){_EQUALS} ({_LIST})", reverse=True),
    _form(
        Relation.DEFINED,
        rf"(?<!for )({_LIST}),?(?: which| that)?(?: (?:is|are|was|were|can be))?,? \(?{_DEFINED} (?:in|at|on|inside"
        rf"|within) ({_P})",
    ),
    _form(Relation.DEFINED, rf"(?<!of )({_LIST}) (?:lives|stands|sits|resides|is|are) (?:in|at) ({_P})"),
    _form(
        Relation.DEFINED,
        rf"\b(?:definition|declaration|implementation) of ({_N}) (?:is|stands|lives|can be found|is located"
        rf"|is found|is given) (?:in|at) ({_P})",
    ),
    _form(
        Relation.DEFINED,
        rf"({_P}) (?:defines|declares|implements|contains the (?:definition|declaration"
        rf"|implementation)s? of) ({_LIST})",
        reverse=True,
    ),
    _form(Relation.INCLUDES, rf"({_P}) includes ({_P})"),
    _form(Relation.INCLUDES, rf"({_P}) is included (?:by|from|in) ({_P})", reverse=True),
)
# What is said further on of the name that a sentence begins with.
_LEADING = later(rf"^(?:in |inside |within )?({_N})")
_LATER = (
    _form(
        Relation.CALLS,
        rf"(?:\band|\bthen|\bbut|,|\bbefore|\bafter|\bby|\bwhile) (?:{_CALL}|calling|invoking):? ({_LIST})",
    ),
    _form(Relation.CALLS, rf"(?:\band|,) (?:is )?(?:called|invoked) (?:by|from|in) ({_LIST})", reverse=True),
    _form(Relation.DERIVES, rf"(?:\band|,) {_DERIVE} ({_LIST})"),
    _form(Relation.OVERRIDES, rf"(?:\band|,) overrides ({_LIST})"),
    _form(Relation.OVERRIDES, rf"(?:\band|,) (?:is )?overridden (?:by|in) ({_LIST})", reverse=True),
    _form(Relation.DEFINED, rf"(?:\band|\bbut|,) (?:is )?{_DEFINED} (?:in|at) ({_P})"),
)
_OTHER_SUBJECT = later(r"\b(?:which|that|who|whose|where|when|if|because|since|so)\b", re.IGNORECASE)
_PRONOUN = later(
    r"(?:it|(?:this|the) (?:function|method|class|struct|macro|constructor|destructor)|this)(?= )", re.IGNORECASE
)
_TAKEN_BACK_AFTER = later(
    r"\W*(?:,|\bbut|\band)? ?(?:which|that|this|it) (?:is|would be) (?:in|un|not |wrong|false)", re.IGNORECASE
)
# What takes an assertion back where it stands in the same clause before it.
_TAKEN_BACK = later(
    r"\b(?:not|no|none|never|nothing|nobody|neither|nor|without|cannot|if|whether|unless|suppose|supposing|assume"
    r"|assuming|"
    r"imagine|should|would|could|might|may|unclear|false|incorrect|wrong|untrue|doubtful|unlikely|impossible"
    r"|instead of|"
    r"rather than|hardly|rarely|like|as if|in case|say)\b|n't\b",
    re.IGNORECASE,
)
_CLAUSE = later(r"[,;:()]|\bbut\b|\bhowever\b|\u2014| - ", re.IGNORECASE)
_ANTECEDENT = later(r",? (?:which|that|who) ")  # behind a name: the name is also a subject
_BASE_FORM = later(
    r",?(?: which| that| who)? (?:call|invoke|delegate|forward|make|contain|derive|inherit|descend|extend"
    r"|subclass|implement"
    r"|override|reimplement|redefine)\b"
)
_IMPERATIVE = later(r"\W*(?:\w+ )?(?:call|invoke|delegate|forward|make|contain|derive|inherit|extend|implement)\b")
_ONE_DOES = later(
    r"(?:,? (?:which|that|who))? (?:is|was|gets|has been|(?:call|invoke|delegate|forward|make|contain|derive|inherit"
    r"|descend|extend|subclass|implement|override|reimplement|redefine)s)\b"
)
# A string or number that is said to be the code's own, not a count of what the sentence speaks of.
_VALUES = later(
    r"\b(?:returns?|prints?|logs?|writes?|outputs?|messages?|strings?|texts?|prefix|suffix|equals?|is|to|key)"
    r"(?: the| an?)?(?: string| text| message| literal| value)?:? [\"\u201c]([^\"\u201d\n]{3,120})[\"\u201d]"
    r"|\b(?:returns|defaults? to|default (?:value )?(?:of|is)|(?:is|are|be) set to|initiali[sz]ed (?:to|with)"
    r"|equals|equal to"
    r"|values? (?:of|is)|capacity (?:of|is)|limit (?:of|is)|limited to|timeout (?:of|is)|maximum (?:of|is)"
    r"|minimum (?:of|is)"
    r"|size (?:of|is)) (-?[0-9][0-9_,'.]{0,18}(?<![,.])|0x[0-9a-fA-F]{1,16})(?![\w%])",
    re.IGNORECASE,
)
_ASKED = later(r"\s*(?:so )?(?:does|do|did|is|are|was|were)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as written, with what it cites, names for sure, and quotes."""

    text: str
    labels: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    code: tuple[str, ...] = ()  # code spans that are more than a name
    values: tuple[str, ...] = ()  # strings and numbers that it says the code to have


@dataclass(frozen=True, slots=True)
class Read:
    """A text taken apart. ``blocks`` is fenced code, each with the sentence before it."""

    sentences: tuple[Sentence, ...]
    claims: tuple[Claim, ...]
    blocks: tuple[tuple[str, Sentence], ...]


@dataclass(slots=True)
class _Signs:
    """What the signs of one text stand for."""

    values: dict[str, str] = field(default_factory=dict)  # a name, a path with lines, numbers of labels
    written: dict[str, str] = field(default_factory=dict)
    weak: set[str] = field(default_factory=set)  # names that may be plain words
    blocks: list[str] = field(default_factory=list)
    _next: dict[int, int] = field(default_factory=dict)

    def sign(self, kind: int, value: str, written: str) -> str:
        number = self._next.get(kind, 0)
        if number >= (0xFF if kind == _LABELS else MOST_SIGNS):
            return written
        self._next[kind] = number + 1
        sign = chr(kind + number)
        self.values[sign], self.written[sign] = value, written
        return sign

    def plain(self, text: str) -> str:
        """The text as it was written."""
        while (shown := _SIGN.sub(lambda match: self.written.get(match.group(), ""), text)) != text:
            text = shown
        return text.replace(_DOT, ".")


def read(text: str, topic: str = "") -> Read:
    """The sentences of a text and what they assert. ``topic`` is the name that "it" may mean in the first one."""
    signs = _Signs()
    signed = _signed(text[:MOST_TEXT], signs)
    sentences: list[Sentence] = []
    blocks: list[tuple[str, Sentence]] = []
    claims: dict[tuple[Relation, str, str], Claim] = {}
    about = signs.sign(_NAMES, topic, topic) if topic else ""
    lines = [line for line in signed.split("\n") if line.strip()]
    for number, line in enumerate(lines):
        if line == _BLOCK:
            blocks.append((signs.blocks[len(blocks)], sentences[-1] if sentences else Sentence("")))
            continue
        for one in _sentences(line):
            sentences.append(_sentence(one, signs))
            stated = one
            if one.endswith(":") and (items := _items(lines[number + 1 : number + 1 + MOST_ITEMS])):
                stated = f"{one} {', '.join(items)}."
            if len(stated) > MOST_SENTENCE or len(claims) > MOST_CLAIMS:
                continue
            for claim in _claims(stated, sentences[-1].text, about, signs):
                claims.setdefault((claim.relation, claim.subject, claim.object), claim)
            leading = _LEADING.match(_normal(one, signs))
            about = leading[1] if leading and leading[1] not in signs.weak else about
    return Read(tuple(sentences), tuple(claims.values()), tuple(blocks))


def asked(question: str) -> tuple[Claim, ...]:
    """What a question of yes or no suggests: "does A call B" suggests that A calls B."""
    signs = _Signs()
    signed = _signed(question[:MOST_TEXT], signs)
    found: list[Claim] = []
    for one in (one for line in signed.split("\n") for one in _sentences(line)):
        form = _ASKED.match(one)
        if form and len(one) <= MOST_SENTENCE:
            stated = one[form.end() :].rstrip("?. ")
            found += _claims(stated, signs.plain(one), "", signs, suggested=True)
    return tuple(dict.fromkeys(found))


def _signed(text: str, signs: _Signs) -> str:
    def block(match: re.Match[str]) -> str:
        signs.blocks.append(match[2])
        return f"\n{_BLOCK}\n"

    def span(match: re.Match[str]) -> str:
        inner = match[1].strip()
        if found := PATH.fullmatch(inner):
            return signs.sign(_PATHS, inner, match.group()) if found else match.group()
        one = None if _computes(inner) else _ONE_NAME.fullmatch(inner)
        if one and one[1].rpartition("::")[2] not in LANGUAGE:
            return signs.sign(_NAMES, _bare(one[1]), match.group())
        return signs.sign(_CODES, inner, match.group())

    def capital(match: re.Match[str]) -> str:
        if match.group() in _PLAIN:
            return match.group()
        sign = signs.sign(_NAMES, match.group(), match.group())
        signs.weak.add(sign)
        return sign

    text = _SIGN.sub("", text.replace("\r\n", "\n")).replace("**", "")
    text = _FENCE.sub(block, text)
    text = _CODE_SPAN.sub(span, text)
    text = _LABEL.sub(lambda m: signs.sign(_LABELS, m[1], m.group()), text)
    text = PATH.sub(lambda m: signs.sign(_PATHS, m.group(), m.group()), text)
    text = CODE_WORD.sub(lambda m: signs.sign(_NAMES, m.group(), m.group()), text)
    text = _CAPITAL.sub(capital, text)
    text = re.sub(rf"(?<={_N})\([^()\n]{{0,80}}\)", "", text)
    return _ABBREVIATION.sub(lambda m: m.group().replace(".", _DOT), text)


def _computes(code: str) -> bool:
    """Whether code does something, so that it is more than a name or a signature."""
    return OPERATOR.search(code) is not None and "operator" not in code


def _bare(name: str) -> str:
    """A qualified name without template arguments; of a member of an object, the member. ``Suite.Test`` stays whole."""
    while (shorter := _ARGUMENTS.sub("", name)) != name:
        name = shorter
    return (name if _SUITE.fullmatch(name) else re.split(r"\.|->", name)[-1]).removeprefix("::")


def _sentences(line: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(line):
        one = line[start : end.end()].strip()
        if one:
            yield one
        start = end.end()
    if line[start:].strip():
        yield line[start:].strip()


def _sentence(signed: str, signs: _Signs) -> Sentence:
    held = [match.group() for match in _SIGN.finditer(signed)]
    labels = [
        int(number) for sign in held if ord(sign) >= _LABELS for number in re.findall(r"[0-9]+", signs.values[sign])
    ]
    names = [signs.values[sign] for sign in held if ord(sign) < _PATHS and sign not in signs.weak]
    code = [signs.values[sign] for sign in held if _CODES <= ord(sign) < _LABELS]
    values = [next(group for group in match.groups() if group) for match in _VALUES.finditer(signed)]
    return Sentence(
        signs.plain(signed),
        tuple(dict.fromkeys(labels)),
        tuple(dict.fromkeys(names)),
        tuple(dict.fromkeys(code)),
        tuple(value for value in dict.fromkeys(values) if not _SIGN.search(value)),
    )


def _items(lines: Sequence[str]) -> list[str]:
    """The names that the items of a list begin with."""
    found: list[str] = []
    for line in lines:
        if not _IS_ITEM.match(line):
            break
        if item := _ITEM.match(line):
            found.append(item[1])
    return found


def _normal(signed: str, signs: _Signs) -> str:
    """A sentence with what changes nothing left out, and names joined to what they belong to."""

    def owned(match: re.Match[str]) -> str:
        owner, member = (match[1], match[2]) if match[1] else (match[4], match[3])
        return _joined(owner, member, match.group(), signs)

    def destructor(match: re.Match[str]) -> str:
        owner = signs.values[match[1] or match[2]]
        return signs.sign(_NAMES, f"{owner}::~{owner.rpartition('::')[2]}", match.group())

    def lined(match: re.Match[str], path: str, first: str, last: str | None) -> str:
        place = signs.values[path].partition(":")[0] + f":{first}" + (f"-{last}" if last else "")
        return signs.sign(_PATHS, place, match.group())

    text = re.sub(_L, "", signed)
    text = _LINE_AFTER.sub(lambda m: lined(m, m[1], m[2], m[3]), text)
    text = _LINE_BEFORE.sub(lambda m: lined(m, m[3], m[1], m[2]), text)
    text = _ADVERB.sub("", _INDIRECTLY.sub("", text))
    text = _DESTRUCTOR.sub(destructor, text)
    text = _BEFORE_NAME.sub("", text)
    text = _OWNER.sub(owned, text)
    text = _FROM_OWNER.sub(lambda m: f"{m[1]} {_joined(m[3], m[2], m.group()[len(m[1]) + 1 :], signs)}", text)
    text = _AFTER_NAME.sub("", text)
    text = _ASIDE.sub("", text)
    text = _BARE_ASIDE.sub("", _ENUMERATED.sub("", text))
    text = _IT_DOES.sub(", and ", _IS_ONE.sub(" ", text))
    text = _FOLLOWING.sub(" ", text)
    return re.sub(r" +(?=[,.;:])", "", re.sub(r"  +", " ", text)).strip()


def _joined(owner: str, member: str, written: str, signs: _Signs) -> str:
    first, second = signs.values[owner], signs.values[member]
    last = first.rpartition("::")[2]
    whole = second if "::" in second else f"{first}::{second}"
    return signs.sign(_NAMES, first if last == second else whole, written)


def _claims(signed: str, written: str, about: str, signs: _Signs, *, suggested: bool = False) -> Iterator[Claim]:
    """What one sentence asserts. ``about`` is the sign of what the sentences before are about."""
    if signed.rstrip().endswith("?"):
        return
    indirect = _INDIRECTLY.search(signed) is not None
    text = _normal(signed, signs)
    pronoun = _PRONOUN.match(text)
    if pronoun and about:
        text = about + text[pronoun.end() :]
    guessed = bool(pronoun and about)
    found: list[tuple[Relation, str, str]] = []
    for form in _FORMS:
        at = 0
        while match := form.expression.search(text, at):
            first, second = (group for group in match.groups() if group is not None)
            at = match.end() - (1 if _ANTECEDENT.match(text, match.end()) else 0)
            if _stands(text, match, first, suggested=suggested):
                if _ONE_DOES.match(match.group()[len(first) :]) and not suggested:
                    first = first[-1]  # "unlike A, B calls C"
                subjects, objects = (second, first) if form.reverse else (first, second)
                relation = _relation(form.relation, match.group())
                found += ((relation, a, b) for a, b in product(_SIGN.findall(subjects), _SIGN.findall(objects)))
    found += _later(text, signs)
    for relation, subject, other in dict.fromkeys(found):
        if subject != other:
            a, b = signs.values[subject], signs.values[other]
            yield Claim(relation, a, b, written, guessed and about in (subject, other), indirect)


def _later(text: str, signs: _Signs) -> Iterator[tuple[Relation, str, str]]:
    """What a sentence says further on of the name that it begins with."""
    leading = _LEADING.match(text)
    if leading is None or leading[1] in signs.weak:
        return
    for form in _LATER:
        for match in form.expression.finditer(text, leading.end()):
            between = text[leading.end() : match.start()]
            if _OTHER_SUBJECT.search(between) or _taken_back(text, match.start()) or _IMPERATIVE.match(match.group()):
                continue
            for sign in _SIGN.findall(match[1]):
                relation = _relation(form.relation, match.group())
                yield (relation, sign, leading[1]) if form.reverse else (relation, leading[1], sign)


def _relation(relation: Relation, text: str) -> Relation:
    declared = relation is Relation.DEFINED and re.search(r"\bdeclar", text, re.IGNORECASE)
    return Relation.DECLARED if declared else relation


def _stands(text: str, match: re.Match[str], first: str, *, suggested: bool) -> bool:
    if suggested:
        return match.start() == 0
    if _BASE_FORM.match(match.group()[len(first) :]) and len(first) == 1:
        return False
    return not (_taken_back(text, match.start()) or _TAKEN_BACK_AFTER.match(text, match.end()))


def _taken_back(text: str, at: int) -> bool:
    before = text[:at]
    clause = max((end.end() for end in _CLAUSE.finditer(before)), default=0)
    return _TAKEN_BACK.search(before, clause) is not None
