r"""Takes keys and passwords out of texts: each becomes ``[redacted:rule]``, and lines stay where they are.

Every rule knows one form that somebody has published, or a name that says password, secret or token beside a value
that looks like one. What merely looks random is left alone: C++ is full of tables, digests and magic numbers. A text is
looked through for a few short marks first, so that clean code costs next to nothing. Knows no files, and keeps nothing
that it finds: a Redaction says the rule and the line.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

# Raise it whenever other text would be taken out: every index then reads its files and commits again. 1: first form.
RULES_VERSION = 1

BEGINS = "[redacted:"  # how what stands in the place of a secret begins
REDACTED = "redacted: "  # how the note of a file begins that tells of a secret in it; the rule follows
PRIVATE_KEY = "private-key"
PASSWORD = "password"  # noqa: S105 - the name of a rule
_ROUNDS = 4  # what is taken out may free what stood against it; 2 to 8
_SHORTEST_KEY_LINE = 40  # characters of base64 that a block must hold to be a key, of the 64 that a full line has

# Values asked of what stands beside a telling name. Read on leveldb, re2, glog, folly, seastar and 15 more libraries.
_LEAST_ENTROPY = 2.7  # bits a character; 2.5 to 3.5
_LEAST_PASSWORD = 8  # characters; 6 to 12
_LEAST_TOKEN = 16  # characters; 12 to 24
_LEAST_BARE = 12  # characters of a value without quotes; 10 to 20


class Redaction(NamedTuple):
    """One secret that was taken out."""

    rule: str
    line: int  # on which it begins, from 1


class _Rule(NamedTuple):
    """One published form. Where one of ``marks`` stands ``pattern`` is tried; its group is the secret, or else all."""

    name: str
    marks: tuple[str, ...]
    pattern: "re.Pattern[str]"
    backs: tuple[int, ...]  # how many characters before its mark it may begin


class _Span(NamedTuple):
    start: int
    end: int
    rule: str
    counts: bool = True  # false for the further pieces of one secret


def _rule(name: str, marks: str, pattern: str, *backs: int) -> _Rule:
    return _Rule(name, tuple(marks.split()), re.compile(pattern), backs or (0,))


# The forms are those that the issuers document, checked against the rules of gitleaks and of GitHub's secret scanning
# (docs.github.com, "Supported secret scanning patterns"). Repetitions are possessive, so that none is tried twice. A
# rule reads on to the end of the word that it began in, for half of a key is none.
_B = r"(?<![A-Za-z0-9_-])"  # no word goes on from before
_RULES = (
    _rule("aws-access-key", "AKIA ASIA ABIA ACCA", r"(?<![A-Za-z0-9])A(?:KI|SI|BI|CC)A[A-Z2-7]{16}+(?![A-Za-z0-9])"),
    _rule("gcp-api-key", "AIza", _B + r"AIza[\w-]{35,}+"),
    _rule("gcp-oauth-secret", "GOCSPX-", _B + r"GOCSPX-[\w-]{28,}+"),
    _rule("gcp-access-token", "ya29.", _B + r"ya29\.[\w-]{30,}+"),
    _rule("gcp-service-account", "private_key_id", r'private_key_id\\?"\s{0,4}:\s{0,4}\\?"([0-9a-f]{40})\\?"'),
    _rule("azure-storage-key", "AccountKey=", r"AccountKey=([A-Za-z0-9+/]{86}+={0,2})"),
    _rule("azure-shared-access-key", "SharedAccessKey=", r"SharedAccessKey=([A-Za-z0-9+/]{43}+=?)"),
    _rule(
        "azure-sas-signature",
        "sig=",
        r"sig=(?=[A-Za-z0-9%]{40})([A-Za-z0-9]{0,60}(?:%[0-9A-Fa-f]{2}[A-Za-z0-9]{0,60}){0,20}%3[Dd])",
    ),
    _rule("azure-client-secret", "Q~", r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}+(?![\w~.-])", 4),
    _rule("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"(?<![A-Za-z0-9_])gh[pousr]_[A-Za-z0-9]{36,}+"),
    _rule("github-fine-grained-token", "github_pat_", r"(?<![A-Za-z0-9_])github_pat_\w{50,}+"),
    _rule(
        "gitlab-token",
        "glpat- gldt- glrt- glptt- glcbt- glft- glsoat- glimt- gloas-",
        _B + r"gl(?:pat|dt|rt|ptt|cbt|ft|soat|imt|oas)-[\w-]{20,}+(?:\.[\w-]{2,}+)*+",
    ),
    _rule("slack-token", "xox xapp-", r"(?<![A-Za-z0-9])x(?:ox[a-z](?:\.xox[a-z])?|app)-\d[\w-]{16,}+"),
    _rule("slack-webhook", "hooks.slack.com/", r"hooks\.slack\.com/(?:services|workflows|triggers)/([\w/+-]{20,}+)"),
    _rule("stripe-key", "k_live_ k_test_", r"(?<![A-Za-z0-9_])[sr]k_(?:live|test)_[A-Za-z0-9]{16,}+", 1),
    _rule("stripe-webhook-secret", "whsec_", _B + r"whsec_[A-Za-z0-9+/=]{24,}+"),
    _rule("twilio-api-key", "SK", r"(?<![A-Za-z0-9_])SK[0-9a-f]{32}(?![A-Za-z0-9_])"),
    _rule("sendgrid-key", "SG.", _B + r"SG\.[\w-]{16,32}+\.[\w-]{32,}+"),
    _rule("npm-token", "npm_", r"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36,}+"),
    _rule("pypi-token", "pypi-AgE", _B + r"pypi-AgE[\w-]{50,}+"),
    _rule("docker-token", "dckr_", r"(?<![A-Za-z0-9_])dckr_[po]at_[\w-]{27,}+"),
    _rule("hugging-face-token", "hf_", r"(?<![A-Za-z0-9_])hf_(?=[a-z]{0,33}[A-Z0-9])[A-Za-z0-9]{34,}+"),
    _rule("anthropic-key", "sk-ant-", _B + r"sk-ant-[\w-]{32,}+"),
    _rule("openai-key", "sk-", _B + r"sk-(?!ant-)(?:[a-z0-9]{2,10}-){0,2}(?=[A-Za-z_-]{0,99}\d)[A-Za-z0-9][\w-]{31,}+"),
    _rule("digitalocean-token", "_v1_", r"(?<![A-Za-z0-9_])do[opr]_v1_[a-f0-9]{64}", 3),
    _rule("heroku-key", "HRKU-", _B + r"HRKU-[\w-]{32,}+"),
    _rule("telegram-token", ":AA", r"(?<![\w:])(\d{8,10}+:AA[\w-]{32,33}+)(?![\w-])", 10, 9, 8),
    _rule("json-web-token", "eyJ", _B + r"eyJ[\w-]{10,}+\.eyJ[\w-]{10,}+\.[\w-]{10,}+"),
    _rule("codehub-key", "chub_", r"(?<![A-Za-z0-9_])chub_[A-Za-z0-9]{4,16}_[A-Za-z0-9]{30,}+"),
)
_BY_MARK = tuple((mark, rule) for rule in _RULES for mark in rule.marks)

# Names that say what their value is. They are looked for in lower case.
_NAMES = ("password", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "api-key", "access_key", "_pwd")
_LONG_NAMES = frozenset({"token", "api_key", "apikey", "api-key", "access_key"})  # their values are made by machines
_QUOTED_VALUE = re.compile(
    r"""[\w-]{0,40}+(?:\[\w{0,20}\])?+\\?["'\])]{0,3}+[ \t]{0,8}+"""
    r"""(?:==?|:=|=>|:|\{|\(|,)?[ \t]{0,8}+(?:u8|[LuU])?(?:R"\(|\\?["'])"""
    r"""([^"'\s\\]{8,300}+)(?:\\?["'])"""
)
_BARE_VALUE = re.compile(
    r"""[\w-]{0,40}+["']?[ \t]{0,2}+[=:][ \t]{0,2}+([A-Za-z0-9+/=_.!@#$%^&*~-]{12,300}+)(?=[\s,;`"'\\)]|\Z)"""
)
_TAGGED_VALUE = re.compile(r"""[\w-]{0,40}+>\s{0,4}+([^<>\s"'\\]{8,300}+)\s{0,4}+</""")
_AWS_SECRET = re.compile(
    r"""aws[\w .-]{0,20}+["'\])]{0,2}+[ \t]{0,8}+(?:=|:|=>|,)?[ \t]{0,8}+["']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])""",
    re.IGNORECASE,
)
_HEROKU = re.compile(
    r"heroku[\w .-]{0,20}+[\"'\s:=]{1,8}+([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![\w-])", re.IGNORECASE
)
_AUTHORIZATION = re.compile(
    r"""authorization\\?["']?[ \t]{0,4}+[:=,][ \t]{0,4}+\\?["']?(?:bearer|basic|token)[ \t]{1,4}+"""
    r"""([A-Za-z0-9+/=._~-]{16,300}+)""",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"""://[^\s:/@"'<>\\]{0,100}+:([^\s/@"'<>\\]{3,200}+)@(?=[\w\[])""")
# A value made of these is one that somebody wrote into an example.
_WORDS_OF_EXAMPLES = re.compile(
    r"your|mine|my|our|the|here|example|sample|demo|dummy|fake|mock|tests?|testing|change|me|insert|place|holder|todo"
    r"|fixme|default|invalid|unknown|empty|none|null|nil|some|random|super|valid|value|string|text|user|name|admin|root"
    r"|guest|login|password|passwd|passphrase|pass|pwd|secret|token|credentials?|auth|access|refresh|client|server|api"
    r"|key|id|abc|def|xyz|foo|bar|baz|qux|quux|hello|world|bogus|wrong|correct|bad|good|old|new|first|second|third"
    r"|redacted|qwerty|asdf|dead|beef|0?123456789|12345678|1234567|123456|12345|1234|123"
    r"|abcdefghijklmnopqrstuvwxyz|abcdefghij|abcdef|(.)\1{3,}|[\W_]",
    re.IGNORECASE,
)
_INSERTED = re.compile(r"\$\{|\$\(|\{\{|\{\w*\}|<\w|%[sdu(]|%\w+%|\.\.\.|\[redacted:|::|->|\(\)|^\$|^@")
# Plain words and identifiers, such as "caching_sha2_password"; addresses, such as "db1.local:3306"; numbers of C++.
_WORDS = re.compile(
    r"[\W_]?(?:[A-Za-z]+\d?|[A-Za-z]+\d{0,3}(?:[\W_]{1,3}[A-Za-z]+\d{0,3})++|[\w.-]+:\d{2,5}(?:/\S*)?"
    r"|0[xX][0-9A-Fa-f']+[uUlL]{0,3})[\W_]?"
)
_CLASSES = (re.compile(r"[a-z]"), re.compile(r"[A-Z]"), re.compile(r"[0-9]"), re.compile(r"[^A-Za-z0-9]"))
_KIND_CHANGES = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[a-z0-9]|(?<=[0-9])[A-Za-z]")

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_PEM_MARK = "-----BEGIN "
_PEM_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
# What stands between two runs of base64: line ends, real or spelt out in a string, with whatever begins or ends a line.
_PEM_BETWEEN = r"(?>(?:\\{1,4}[nrt]|[^A-Za-z0-9\\]|\\(?=[\r\n\\\"'])){1,120})"
_PEM_HEADER = (
    rf"{_PEM_BETWEEN}(?:Proc-Type: 4,ENCRYPTED|DEK-Info: [\w,-]{{1,80}}|(?:Version|Comment|Hash): [^\n\\\"]{{1,100}})"
)
_PEM_END = r"END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_BODY = re.compile(
    rf"(?:{_PEM_HEADER}){{0,4}}+((?:{_PEM_BETWEEN})?+[A-Za-z0-9+/=]{{16,}}+(?:{_PEM_BETWEEN}[A-Za-z0-9+/=]{{16,}}+)*+"
    rf"(?:{_PEM_BETWEEN}[A-Za-z0-9][A-Za-z0-9+/=]{{0,15}}+(?={_PEM_BETWEEN}(?:{_PEM_END})|\s*\Z))?+"
    rf"(?:{_PEM_BETWEEN}{_PEM_END})?+)"
)
_PEM_RUN = re.compile(rf"-{{5}}{_PEM_END}|(?<!\\)[A-Za-z0-9][A-Za-z0-9+/=]*+")

_SECRET_NAME = re.compile(
    r"\.env(?:[._-].*)?|\.?netrc|\.npmrc|\.pypirc|\.pgpass|\.htpasswd|htpasswd|id_(?:rsa|dsa|ecdsa|ed25519)(?:[-_]\w+)?"
    r"|.*\.(?:pem|key|p12|pfx|kdbx?|keystore|jks|ppk|ovpn|asc)",
    re.IGNORECASE,
)
_SECRET_STEM = re.compile(r"(?:\w+[-_.])?(?:passwords?|passwd|secrets?|credentials?|api[-_]?keys?)", re.IGNORECASE)
_LISTS = frozenset({"txt", "text"})
_DOCUMENTS = _LISTS | {"md", "markdown", "rst"}


def redact(text: str) -> tuple[str, tuple[Redaction, ...]]:
    """The text with ``[redacted:rule]`` in place of each secret, and what was taken out, by line.

    Lines keep their numbers. What comes out holds nothing more to take out. Linear in the length of the text, whatever
    stands in it.
    """
    found: list[Redaction] = []
    for _ in range(_ROUNDS):
        spans = _merged(_spans(text))
        if not spans:
            break
        text, taken = _replaced(text, spans)
        found += taken
    return text, tuple(sorted(found, key=lambda redaction: (redaction.line, redaction.rule)))


def is_secret_file(path: str) -> bool:
    """Whether a file's name says that it holds nothing but secrets: ``.env.txt``, ``id_rsa.txt``, ``passwords.txt``.

    Code is never meant, and of documents only lists: ``credentials.h`` and ``docs/secrets.md`` tell of such things.
    """
    name = path.rpartition("/")[2]
    if _SECRET_NAME.fullmatch(name):
        return True
    stem, _, suffix = name.rpartition(".")
    if suffix.lower() not in _DOCUMENTS:
        return False
    if _SECRET_NAME.fullmatch(stem):
        return True
    return suffix.lower() in _LISTS and _SECRET_STEM.fullmatch(stem) is not None


def _spans(text: str) -> list[_Span]:
    found: list[_Span] = []
    for mark, rule in _BY_MARK:
        at = text.find(mark)
        while at >= 0:
            match = _matched(rule, text, at)
            if match:
                start, end = match.span(rule.pattern.groups)
                found.append(_Span(start, end, rule.name))
                at = text.find(mark, max(end, at + 1))
            else:
                at = text.find(mark, at + 1)
    if _PEM_MARK in text:
        found += _private_keys(text)
    if "://" in text and "@" in text:
        found += _in_urls(text)
    found += _named(text)
    return found


def _matched(rule: _Rule, text: str, at: int) -> "re.Match[str] | None":
    for back in rule.backs:
        if at >= back and (match := rule.pattern.match(text, at - back)):
            return match
    return None


def _private_keys(text: str) -> Iterator[_Span]:
    """Blocks with all their lines, also where they stand in strings, comments or patches. A mark alone is no key."""
    for begin in _PEM_BEGIN.finditer(text):
        body = _PEM_BODY.match(text, begin.end())
        if body is None or not _holds_a_key(body[1]):
            continue
        yield _Span(begin.start(), begin.end(), PRIVATE_KEY)
        for run in _PEM_RUN.finditer(text, begin.end(), body.end()):
            yield _Span(run.start(), run.end(), PRIVATE_KEY, counts=False)


def _holds_a_key(body: str) -> bool:
    longest = max((run[0] for run in _PEM_RUN.finditer(body)), key=len, default="")
    return len(longest) >= _SHORTEST_KEY_LINE and all(kind.search(longest) for kind in _CLASSES[:3])


def _in_urls(text: str) -> Iterator[_Span]:
    for match in _IN_URL.finditer(text):
        value = match[1]
        if len(value) >= 6 and _kinds(value) >= 2 and not _is_made_up(value):
            yield _Span(*match.span(1), "url-password")


def _named(text: str) -> Iterator[_Span]:
    """Values beside names that say what they are."""
    lower = _lowered(text)
    for mark, pattern, name in (
        ("aws", _AWS_SECRET, "aws-secret-key"),
        ("heroku", _HEROKU, "heroku-key"),
        ("authorization", _AUTHORIZATION, "authorization-header"),
    ):
        for at in _places(lower, mark):
            match = pattern.match(text, at)
            if match and _looks_made_by_a_machine(match[1]):
                yield _Span(*match.span(1), name)
    for name in _NAMES:
        long = name in _LONG_NAMES
        rule = name.replace("_", "-").strip("-")
        rule = {"passwd": PASSWORD, "pwd": PASSWORD, "apikey": "api-key"}.get(rule, rule)
        for at in _places(lower, name):
            behind = at + len(name)
            match = _QUOTED_VALUE.match(text, behind) or _TAGGED_VALUE.match(text, behind)
            if match:
                told = _looks_made_by_a_machine(match[1]) if long else _looks_chosen(match[1])
            else:
                match = _BARE_VALUE.match(text, behind)
                told = match is not None and _looks_made_by_a_machine(match[1], _LEAST_BARE, bare=True)
            if match and told:
                yield _Span(*match.span(1), rule)


def _lowered(text: str) -> str:
    """In lower case, letter by letter: what Unicode spells with two letters stays, so that places stay."""
    lower = text.lower()
    return lower if len(lower) == len(text) else text.translate(_LOWER)


def _places(text: str, mark: str) -> Iterator[int]:
    at = text.find(mark)
    while at >= 0:
        yield at
        at = text.find(mark, at + len(mark))


def _kinds(value: str) -> int:
    return sum(kind.search(value) is not None for kind in _CLASSES)


def _entropy(value: str) -> float:
    """Shannon's, in bits a character."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


def _is_made_up(value: str) -> bool:
    """Whether a value is a placeholder, or put together of words that examples are made of."""
    return _INSERTED.search(value) is not None or len(_WORDS_OF_EXAMPLES.sub("", value)) < 4


def _looks_chosen(value: str) -> bool:
    """A password as somebody may have chosen it: no plain words, and a digit among other characters."""
    if len(value) < _LEAST_PASSWORD or _is_made_up(value) or _WORDS.fullmatch(value):
        return False
    return _kinds(value) >= 2 and _CLASSES[2].search(value) is not None and _entropy(value) >= _LEAST_ENTROPY


def _looks_made_by_a_machine(value: str, least: int = _LEAST_TOKEN, *, bare: bool = False) -> bool:
    """Letters and digits without any order. What is bare may be an identifier, and must change often between them."""
    if len(value) < least or _is_made_up(value) or _WORDS.fullmatch(value):
        return False
    digits = sum(character.isdecimal() for character in value)
    if digits < 3 or digits == len(value) or not any(character.isalpha() for character in value):
        return False
    changes = len(_KIND_CHANGES.findall(value))
    return changes >= len(value) * (0.3 if bare else 0.2) and _entropy(value) >= _LEAST_ENTROPY


def _merged(spans: list[_Span]) -> list[_Span]:
    """In order and apart; of those that overlap, one that covers all, named for the first and there for the surest."""
    apart: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if apart and span.start < apart[-1].end:
            last = apart[-1]
            apart[-1] = last._replace(end=max(last.end, span.end), counts=last.counts or span.counts)
        else:
            apart.append(span)
    return apart


def _replaced(text: str, spans: list[_Span]) -> tuple[str, list[Redaction]]:
    pieces: list[str] = []
    taken: list[Redaction] = []
    at, line, counted = 0, 1, 0
    for span in spans:
        pieces += (text[at : span.start], f"{BEGINS}{span.rule}]")
        at = span.end
        if span.counts:
            line += text.count("\n", counted, span.start)
            counted = span.start
            taken.append(Redaction(span.rule, line))
    pieces.append(text[at:])
    return "".join(pieces), taken
