"""How many tokens a text takes where no tokenizer can be asked: never too few once a server has told its counts.

Knows no engine: a rate is learnt from what an answer says of its prompt, and a least number of tokens from the rule
that tokenizers of today split a text by before they join anything.
"""

import math
import re

from hub.model import Prompt

# UTF-8 bytes, safe side. SmolLM2's vocabulary of 49,152 takes 3.0 to 3.4 bytes of C++ a token at the median and 1.9 to
# 2.2 in the hardest hundredth (tables of numbers), measured over windows of 3,000 bytes of googletest and libstdc++;
# the larger vocabularies of today's coding models take more. 2.0 is the safest, 3.0 wrong for every second prompt.
BYTES_PER_TOKEN = 2.2
# UTF-8 bytes. Below this a template weighs more than the text, and nothing is learnt of the text's rate.
LEAST_TO_LEARN_FROM = 1024
# Of the pieces of a prompt that no vocabulary joins (see _PIECES). They are 0.3 to 0.9 of the tokens, 0.6 at the median
# (same measurement), so a cut to half of a usual prompt shows. Below 1 because SentencePiece splits a little less.
LEAST_SHARE_READ = 0.9

# Tokens. What a prompt's own count may be wrong by, as its parts were counted apart: so many, and one in so many.
# Joined they take fewer nearly always. Nearer to the window than that, a server that can is asked to count; where the
# sum was wrong by more, it refuses. 16 to 128, 64 to 1,024.
COUNTED_APART = 32
COUNTED_APART_SHARE = 256
# UTF-8 bytes. A count of fewer tokens than the text has bytes by this is no count of that text: C++ takes 2 to 5 a
# token, and only long runs of spaces or hyphens take more.
MOST_BYTES_A_TOKEN = 12

# The tokenizers of GPT-2, Llama 3, Qwen and their kin first split a text, and no token crosses a split: between words,
# between digits and letters, and around punctuation except for one mark straight before a word.
_PIECES = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+|(?:[^\w\s]|_){2,}|(?:[^\w\s]|_)(?![^\W\d_])")


class CalibratedRate:
    """Tokens a byte. It grows when a server tells that a text took more than estimated, and never shrinks."""

    def __init__(self) -> None:
        self._tokens_per_byte = 1 / BYTES_PER_TOKEN

    def tokens(self, text: str) -> int:
        """An upper estimate. Parts never count less together than the whole."""
        return math.ceil(utf8_bytes(text) * self._tokens_per_byte)

    def learn(self, text_bytes: int, tokens: int) -> None:
        """``tokens`` were read of a text of so many UTF-8 bytes. Small texts teach nothing."""
        if text_bytes >= LEAST_TO_LEARN_FROM:
            self._tokens_per_byte = max(self._tokens_per_byte, tokens / text_bytes)


def utf8_bytes(text: str) -> int:
    """The length of the text in UTF-8, where a lone surrogate is the question mark that is sent for it."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def least_tokens(*texts: str) -> int:
    """Fewer tokens than this no tokenizer makes of the texts together."""
    return int(sum(len(_PIECES.findall(text)) for text in texts) * LEAST_SHARE_READ)


def most_tokens(prompt: Prompt) -> int:
    """Tokens that the prompt does not exceed, by its own count, or by its bytes where that is no count of it.

    No token is shorter than a byte. Takes microseconds, and asks nobody.
    """
    size = utf8_bytes(prompt.system) + utf8_bytes(prompt.user)
    if prompt.tokens * MOST_BYTES_A_TOKEN < size:
        return size
    return min(size, prompt.tokens + COUNTED_APART + prompt.tokens // COUNTED_APART_SHARE)


def unicode(text: str) -> str:
    """The text with lone surrogates, which JSON over UTF-8 cannot carry, as question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
