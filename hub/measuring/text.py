"""The C++ that a model reads while it is measured: a tree's own files, one after the other, always in the same order.

A longer text begins with the shorter one, up to its last lines, so that an engine which keeps what it has read only
reads what is new. Knows nothing of who counts the tokens.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

# Characters of a piece that is counted at once: some 1,200 tokens. 1,000 to 20,000.
PIECE_CHARS = 4_000
# Characters of a line, beyond which it is broken: a table in one line would be a piece of its own. 500 to 4,000.
LINE_CHARS = 2_000
# Below this a tree is too small to be read again and again without an engine noticing.
LEAST_CHARS = 2_000

_NOUNS = "lease shard journal cursor mirror ticket bundle anchor ledger beacon parcel signal".split()
_VERBS = "open close rotate merge split verify reserve release publish collect".split()
_FUNCTION = """\
// {verb_cap}s every {noun} that is older than {number} rounds and returns how many there were.
std::size_t {verb_cap}{noun_cap}s{index}(std::vector<{noun_cap}>& {noun}s, std::uint64_t round) {{
  std::size_t changed = 0;
  for (auto& {noun} : {noun}s) {{
    if ({noun}.round() + {number} < round && !{noun}.{verb}d()) {{
      {noun}.{verb}(round % {modulus});
      ++changed;
    }}
  }}
  return changed;
}}

"""


@dataclass(frozen=True, slots=True)
class Material:
    """Pieces of text in reading order; ``source`` names the tree for the reader."""

    pieces: tuple[str, ...]
    source: str

    @property
    def digest(self) -> str:
        """Of the beginning, so that more of the same files is the same material."""
        return blake2b("".join(self.pieces[:1]).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def material(files: Iterable[tuple[str, str]], source: str, least_chars: int) -> Material:
    """Pieces out of (path, text) pairs, as many as ``least_chars`` asks for; repeated where the files hold less.

    Files that hold too little to measure with give generated C++ instead, and ``source`` says so.
    """
    pieces: list[str] = []
    size = 0
    for path, text in files:
        for piece in _pieces(f"// ===== {path} =====\n{text}\n"):
            pieces.append(piece)
            size += len(piece)
        if size >= least_chars:
            break
    if size < LEAST_CHARS:
        pieces = list(_pieces("".join(map(_function, range(max(400, least_chars // 400))))))
        size, source = sum(map(len, pieces)), "generated functions"
    once, copy = tuple(pieces), 2
    while size < least_chars:
        pieces.append(f"// ===== the same files once more, copy {copy} =====\n")
        pieces += once
        size += sum(map(len, once))
        copy += 1
    return Material(tuple(pieces), source if copy == 2 else f"{source}, repeated")


class Filler:
    """Texts of a wanted number of tokens out of one material. Pieces are counted once."""

    def __init__(self, pieces: Sequence[str], count: Callable[[str], int]) -> None:
        self._pieces = pieces
        self._count = count
        self._counts: list[int] = []

    def fill(self, tokens: int) -> str:
        """The longest beginning of the material, in whole lines, that counts at most ``tokens`` piece by piece."""
        left = tokens
        for number, piece in enumerate(self._pieces):
            if number == len(self._counts):
                self._counts.append(self._count(piece))
            if self._counts[number] > left:
                return "".join(self._pieces[:number]) + self._begin(piece, left)
            left -= self._counts[number]
        return "".join(self._pieces)

    def _begin(self, piece: str, tokens: int) -> str:
        lines = piece.splitlines(keepends=True)
        low, high = 0, len(lines)
        while low < high:  # the most lines that count at most so much
            middle = (low + high + 1) // 2
            if self._count("".join(lines[:middle])) <= tokens:
                low = middle
            else:
                high = middle - 1
        return "".join(lines[:low])


def _pieces(text: str) -> Iterable[str]:
    gathered: list[str] = []
    size = 0
    for line in text.splitlines(keepends=True):
        for start in range(0, len(line), LINE_CHARS):
            part = line[start : start + LINE_CHARS]
            gathered.append(part if part.endswith("\n") else part + "\n")
            size += len(part)
            if size >= PIECE_CHARS:
                yield "".join(gathered)
                gathered, size = [], 0
    if gathered:
        yield "".join(gathered)


def _function(index: int) -> str:
    noun, verb = _NOUNS[index % len(_NOUNS)], _VERBS[index * 7 % len(_VERBS)]
    return _FUNCTION.format(
        noun=noun,
        noun_cap=noun.capitalize(),
        verb=verb,
        verb_cap=verb.capitalize(),
        index=index,
        number=index * 31 % 97 + 3,
        modulus=index * 17 % 89 + 2,
    )
