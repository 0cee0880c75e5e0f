r"""A model's tokens counted without the model: its vocabulary from GGUF metadata, and the rules to split a text by.

Counts as llama.cpp does, for SentencePiece's vocabularies and for the byte-level ones whose rules are written here;
each kind is held against llama.cpp itself by a test. What is not known here is not guessed: there is no vocabulary
then. Knows no server and no file: the metadata arrive as a mapping.

Owns tokenizers here. Source of the rules: what llama-vocab.cpp of llama.cpp (b11549) says for each value of
``tokenizer.ggml.pre``. It works on whole characters where tokenizers' own regular expressions do, so the patterns are
written anew for these.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

from hub.backends.counting import unicode

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Tokens. SentencePiece's larger vocabularies, of Gemma's 262,144, would take seconds to prepare. 64,000 to 300,000.
MOST_SENTENCE_PIECES = 131_072
# Values of tokenizer.ggml.token_type, by llama.h.
_USER_DEFINED = 4
_MARKS = {2, 3}  # unknown, and of a template

# How SentencePiece writes a space, and a byte that is in no piece.
_SPACE = "\u2581"
_BYTE_TOKENS = frozenset(f"<0x{byte:02X}>" for byte in range(256))
# Characters. Longer pieces, of damaged files, would take the square of their length to cut.
_LONGEST_PIECE = 512

_ENDINGS = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
_GPT2 = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
# Taken for ideographs; the range that starts at U+0800 holds much else, but spaces count as spaces.
_ASIAN = "[\u0800-\u9fa5\uac00-\ud7ff&&[^\\s]]+"
# Letters with case, of the scripts that had them when the model was made.
_CASE = (
    "[\\p{Lu}\\p{Ll}\\p{Lt}&&[^\u0560-\u0588\u10c7\u10cd\u10d0-\u10ff\u1c80-\u1c88\u2d00-\u2d2d\ua790-\ua7fa"
    "\uab30-\uab68\U00010570-\U000105bc\U00016e40-\U00016e7f\U0001d400-\U0001d7cb\U0001df00-\U0001df1e]]"
)
# Upper and lower case, which llama.cpp tells apart in ASCII only.
_UPPER, _LOWER = r"[\p{L}&&[^a-z]]", r"[\p{L}&&[^A-Z]]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_CASED = (rf"{_BEFORE}{_UPPER}*{_LOWER}+", rf"{_BEFORE}{_UPPER}+{_LOWER}*")
_PATH_PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"

# How a text is split before anything is joined: each pattern splits what the ones before it left, at every match.
_DIGITS_APART = (r"\p{N}", _GPT2)
_LLAMA3 = (rf"{_ENDINGS}|{_WORD}|\p{{N}}{{1,3}}|{_PUNCTUATION}|{_SPACES}",)
_QWEN2 = (rf"{_ENDINGS}|{_WORD}|\p{{N}}|{_PUNCTUATION}|{_SPACES}",)
_QWEN35 = (
    rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",
)
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    rf"[!-/:-@\[-`{{-~][A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _ASIAN, r"\p{N}")
_DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?{_CASE}+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+\z",
    _ASIAN,
    r"\p{N}+",
)
_GPT4O = (rf"{'|'.join(f'{word}(?:{_ENDINGS})?' for word in _CASED)}|\p{{N}}{{1,3}}|{_PATH_PUNCTUATION}|{_SPACES}",)
_TEKKEN = (rf"{'|'.join(_CASED)}|\p{{N}}|{_PATH_PUNCTUATION}|{_SPACES}",)
_SEED_CODER = (rf"{_ENDINGS}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}",)

SPLITS: Mapping[str, tuple[str, ...]] = {
    "smollm": _DIGITS_APART,
    "starcoder": _DIGITS_APART,
    "refact": _DIGITS_APART,
    "command-r": _DIGITS_APART,
    "codeshell": _DIGITS_APART,
    "exaone": _DIGITS_APART,
    "minerva-7b": _DIGITS_APART,
    "gpt-2": (_GPT2,),
    "phi-2": (_GPT2,),
    "mpt": (_GPT2,),
    "olmo": (_GPT2,),
    "mellum": (_GPT2,),
    "exaone4": (_GPT2,),
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "falcon3": _LLAMA3,
    "lfm2": _LLAMA3,
    "dbrx": _LLAMA3,
    "smaug-bpe": _LLAMA3,
    "glm4": _LLAMA3,
    "chatglm-bpe": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "stablelm2": _QWEN2,
    "megrez": _QWEN2,
    "grok-2": _QWEN2,
    "hunyuan": _QWEN2,
    "qwen35": _QWEN35,
    "deepseek-v3": _DEEPSEEK3,
    "hunyuan-dense": _DEEPSEEK3,
    "deepseek-coder": _DEEPSEEK_CODER,
    "deepseek-llm": _DEEPSEEK_LLM,
    "gpt-4o": _GPT4O,
    "llama4": _GPT4O,
    "minimax-m2": _GPT4O,
    "tekken": _TEKKEN,
    "pixtral": _LLAMA3,
    "seed-coder": _SEED_CODER,
}
# Where a piece that is a token as it stands is not put together from its bytes.
WHOLE_PIECES = frozenset({"llama3", "llama-v3", "llama-bpe", "falcon3", "lfm2", "pixtral", "tekken"})


class Vocabulary:
    """Counts tokens. Safe to use from several threads."""

    def __init__(self, tokenizer: "Tokenizer", absent: range, marks: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._absent = absent  # numbers that stand for bytes of which the model has no token
        self._marks = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True)))) if marks else None

    def count(self, text: str) -> int:
        """Tokens of the text as it stands between the marks of a template: marks in it count as the text they are.

        A lone surrogate counts as the question mark that is sent for it.
        """
        (encoding,) = self._tokenizer.encode_batch_fast([unicode(text)], add_special_tokens=False)
        if not self._absent:
            return len(encoding)
        return sum(number < self._absent.start for number in encoding.ids)

    def has_marks(self, text: str) -> bool:
        """Whether the text holds marks of the template, which an engine may read as one token each."""
        return self._marks is not None and self._marks.search(text) is not None


def read(metadata: Mapping[str, object]) -> Vocabulary | None:
    """The vocabulary of GGUF metadata with whole arrays; None where it is of a kind that is not known here.

    Takes 0.3 s for 50,000 tokens and a second for 150,000.
    """
    tokens, kinds = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.token_type")
    if not _are_texts(tokens) or not isinstance(kinds, list | tuple) or not tokens or len(kinds) != len(tokens):
        return None
    match metadata.get("tokenizer.ggml.model"):
        case "gpt2":
            built = _byte_level(metadata, tokens)
        case "llama":
            built = _sentence_pieces(metadata, tokens, kinds)
        case _:
            built = None
    if built is None:
        return None
    tokenizer, absent = built
    from tokenizers import AddedToken  # noqa: PLC0415 - see _byte_level

    defined = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _USER_DEFINED and token]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in defined])
    marks = [token for token, kind in zip(tokens, kinds, strict=True) if kind in _MARKS and token]
    return Vocabulary(tokenizer, absent, marks)


def _are_texts(value: object) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value)


def _byte_level(metadata: Mapping[str, object], tokens: Sequence[str]) -> "tuple[Tokenizer, range] | None":
    """The tokenizer, and the numbers in it that are no tokens of the model."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - slow to load

    rules, merges = metadata.get("tokenizer.ggml.pre"), metadata.get("tokenizer.ggml.merges")
    if not isinstance(rules, str) or rules not in SPLITS or not _are_texts(merges):
        return None
    numbers = _numbered(tokens)
    # llama.cpp leaves bytes out that are no token, after what stands before and behind them could not be joined.
    letters = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - numbers.keys())
    absent = range(len(tokens), len(tokens) + len(letters))
    numbers |= zip(letters, absent, strict=True)
    # A merge whose result is no token is never made by llama.cpp either; of one that comes twice the first counts.
    pairs = dict.fromkeys(
        (left, right)
        for left, space, right in (merge.partition(" ") for merge in merges)
        if space and left + right in numbers and left in numbers and right in numbers
    )
    try:
        model = models.BPE(vocab=numbers, merges=list(pairs), ignore_merges=rules in WHOLE_PIECES)
    except (ValueError, TypeError):
        return None
    tokenizer = Tokenizer(model)
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in SPLITS[rules]]
    bytes_as_letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_as_letters])
    return tokenizer, absent


def _sentence_pieces(
    metadata: Mapping[str, object], tokens: Sequence[str], kinds: Sequence[object]
) -> "tuple[Tokenizer, range] | None":
    """The same for tokens with scores: of the neighbours that make a token those of the best score are joined first."""
    from tokenizers import Tokenizer, models, normalizers  # noqa: PLC0415 - slow to load

    scores = metadata.get("tokenizer.ggml.scores")
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    prefixed = metadata.get("tokenizer.ggml.add_space_prefix", True)
    if not isinstance(scores, list | tuple) or not all(isinstance(score, int | float) for score in scores):
        return None
    if len(scores) != len(tokens) or len(tokens) > MOST_SENTENCE_PIECES or not _BYTE_TOKENS.issubset(tokens):
        return None
    if type(unknown) is not int or not 0 <= unknown < len(tokens):
        return None
    numbers = _numbered(tokens)
    made = [
        (-scores[number], token, [at for at in range(1, len(token)) if token[:at] in numbers and token[at:] in numbers])
        for token, number in numbers.items()
        if 1 < len(token) <= _LONGEST_PIECE
    ]
    joined = sorted(entry for entry in made if entry[2])
    plain = [score for score, token, _ in joined if kinds[numbers[token]] not in _MARKS]
    if len({*plain}) != len(plain):
        return None  # llama.cpp joins the left one of equals first, which an order of tokens cannot say
    pairs = [(token[:at], token[at:]) for _, token, places in joined for at in places]
    try:
        model = models.BPE(vocab=numbers, merges=pairs, unk_token=tokens[unknown], byte_fallback=True, fuse_unk=False)
    except (ValueError, TypeError):
        return None
    tokenizer = Tokenizer(model)
    space = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), space]) if prefixed else space
    return tokenizer, range(0)


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number, token in enumerate(tokens):
        numbers.setdefault(token, number)
    return numbers
