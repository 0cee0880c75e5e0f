"""Reads what C++ developers paste into a question: traces, reports of sanitizers, errors of compilers and linkers,
failed tests and assertions, logs, mangled names, ``file:line``.

Line by line, in linear time, and never with an exception. Knows nothing of any index: whether a place or a name exists
is decided by ``hub.retrieval.places``.
"""

import re
from collections.abc import Callable

from hub.model import Frame, Paste, PasteKind
from hub.retrieval import forms
from hub.retrieval.mangled import MANGLED, name_of, name_of_mangled

MOST_CHARS = 120_000  # that are read: the first two thirds and the last third of what is longer
MOST_LINE = 4_000  # characters of a line; what templates add beyond is no news
MOST_FRAMES = 48  # 16 to 100; a deep recursion repeats itself
MOST_NAMES = 24  # each is a question to the symbol table
MOST_NAME = 300  # characters; the longest of real trees
MOST_WORDING = 800  # characters; more words make every chunk a little alike
MOST_MESSAGES = 6  # the first errors explain the others


def read_paste(text: str) -> Paste | None:
    """What a text that somebody pasted says, or None for plain prose, a plain name and anything else."""
    if len(text) > MOST_CHARS:
        text = f"{text[: MOST_CHARS * 2 // 3]}\n{text[-MOST_CHARS // 3 :]}"
    if not forms.HINT.search(text):
        return None
    text = forms.COLOUR.sub("", text)
    text = text.encode("utf-8", "replace").decode()  # half characters, which no name and no path holds
    bare = text.strip()
    if len(bare) < 300 and forms.TEST_NAME.fullmatch(bare):
        return Paste(PasteKind.TEST, (), (name := _test_name(bare.removeprefix("--gtest_filter=")),), "", name)
    reader = _Reader()
    lines = [line[:MOST_LINE].rstrip() for line in text.splitlines()]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        reader.read(line, following)
    return reader.paste()


class _Reader:
    """Collects what the lines say. Ranks: 0 the error itself, 1 how it came about, 2 what else is told, 3 includes."""

    def __init__(self) -> None:
        self.kinds: set[PasteKind] = set()
        self.found: list[tuple[int, Frame]] = []
        self.named: list[tuple[int, str]] = []
        self.messages: list[tuple[int, str]] = []
        self.prose: list[tuple[int, str]] = []  # with the number of lines that told something before it
        self.told = 0
        self.stack: list[Frame] | None = None
        self.stack_rank = self.next_rank = 0
        self.unplaced: Frame | None = None  # the last frame, whose place may stand on the next line
        self.last_run = self.title = ""
        self.lines_of_title = 0  # how many of the next may belong to the title of a test
        self.in_message = False
        self.readers: tuple[Callable[[str], bool], ...] = (
            self.report, self.linker_error, self.test, self.assertion, self.log_line, self.diagnostic,
        )  # fmt: skip

    def read(self, whole: str, following: str) -> None:  # noqa: C901 - one branch a sort of line
        prefix = forms.PREFIX.match(whole)
        line = whole[prefix.end() :] if prefix else whole
        if not line.strip():
            self.end_stack()
            self.in_message = False
        elif (
            forms.ECHO.match(line)
            or forms.CARET.match(line)
            or (forms.CARET.match(following) and not forms.LOCATED.match(line))
        ):
            self.end_stack()  # source as a tool shows it
        elif self.frame(line):
            self.told += 1
        elif any(reads(line) for reads in self.readers):
            self.end_stack()
            self.told += 1
        elif self.place_of_frame(line):
            self.told += 1
        elif forms.NOISE.match(line) or whole.startswith("=="):
            self.lines_of_title = 4 if line.startswith("-----") else 0
        elif self.mangled_name(line) or self.place(line):
            self.end_stack()
            self.told += 1
        elif self.lines_of_title:
            self.title = self.title if line[0] == " " else line.strip()
            self.lines_of_title -= 1
        elif self.in_message or (PasteKind.TEST in self.kinds and line[0] == " "):
            self.messages.append((0 if self.in_message else 1, line))
        elif line[0] not in " \t":
            self.end_stack()
            self.prose.append((self.told, line))

    # Frames

    def frame(self, line: str) -> bool:
        """One frame of a stack."""
        stripped = line.lstrip()
        rest = next((match["rest"] for pattern in forms.FRAMES if (match := pattern.match(stripped))), None)
        if rest is None:
            return False
        whole, place = rest, None
        for _ in range(3):
            place = _last_place(rest)
            module = None if place and place.end() > len(rest) - 2 else forms.MODULE_AFTER.search(rest)
            if not module:
                break
            rest = rest[: module.start()]
        if not place and not forms.HEX_ADDRESS.search(line):  # a number alone may number anything
            listed = stripped[0] == "#" and not forms.BY_ITSELF.match(whole)
            if listed or (stripped[0].isdigit() and "!" not in line and not forms.IN_MODULE.search(whole)):
                return False
        self.kinds.add(PasteKind.TRACE)
        if self.stack is None or stripped.startswith(("#0 ", "#00 ")):
            self.end_stack()
            self.stack, self.stack_rank, self.next_rank = [], self.next_rank, 0
        if forms.ENDS_OF_STACKS.search(rest):  # what was called since is how the crash was told of
            self.stack.clear()
            self.stack_rank = 0
            return True
        path, number = _place_of(place) if place else ("", 0)
        around = rest
        if place:
            around = rest[: place.start()].rstrip(" ([\t").removesuffix(" at") if place.start() else rest[place.end() :]
        symbol = name_of(forms.LEADING_ADDRESS.sub("", around))
        self.put(path, number, symbol)
        return True

    def place_of_frame(self, line: str) -> bool:
        """The place of the frame on the line before, as folly prints it."""
        place = forms.PLACE.match(line.strip().removeprefix("-> ")) if self.unplaced and self.stack else None
        if not place or not self.stack:
            return False
        path, number = _place_of(place)
        self.put(path, number, self.stack.pop().symbol)
        return True

    def put(self, path: str, line: int, symbol: str) -> None:
        """A frame of the stack at hand, unless it belongs to the system."""
        self.unplaced = None
        if symbol.startswith("operator") or forms.SYSTEM_NAME.match(symbol):  # an operator of no scope is a lambda's
            symbol = ""
        if (path and is_system_path(path)) or not (path or symbol) or self.stack is None:
            return
        frame = Frame(path, line, symbol)
        self.stack.append(frame)
        self.unplaced = None if path else frame

    def end_stack(self) -> None:
        if self.stack is not None:
            self.found += [(self.stack_rank, frame) for frame in self.stack]
            self.stack = self.unplaced = None

    # What is not a frame

    def report(self, line: str) -> bool:
        """A headline of a sanitizer or of valgrind, or of one of their further stacks."""
        if found := forms.REPORT.search(line):
            self.kinds.add(PasteKind.SANITIZER)
            self.next_rank = 0
            place = forms.PLACE.search(line)
            if place and not found["tool"]:
                _, _, function = (found["summary"] or "").rpartition(" in ")
                self.add(1 if found["summary"] else 0, *_place_of(place), name_of(function))
            if not found["summary"]:
                text = found["text"] or found["undefined"] or ""
                self.messages.append((0, re.split(r" on (?:unknown )?address| \(pid=", text)[0]))
            return True
        if forms.MEMCHECK.match(line.strip()) or forms.DIRECT_LEAK.match(line):
            self.kinds.add(PasteKind.SANITIZER)
            self.messages.append((2 if forms.DIRECT_LEAK.match(line) else 0, line))
            self.next_rank = 0
            return True
        if PasteKind.SANITIZER in self.kinds and (later := forms.LATER_STACK.search(line)):
            self.next_rank = 1 if later.group().startswith("Previous") else 2
            return True
        if forms.THREAD.match(line.strip()):
            self.next_rank = 0 if "rashed" in line else 1
            return True
        if found := forms.TERMINATE.search(line):
            self.kinds.add(PasteKind.TRACE)
            self.messages.append((0, found["text"] or found["what"] or ""))
            if found["type"]:
                self.messages.append((0, f"throw {found['type'].rpartition('::')[2]}"))
            return True
        return False

    def linker_error(self, line: str) -> bool:
        undefined = forms.UNDEFINED.search(line) or forms.ALREADY.search(line) or forms.FOR_ARCHITECTURE.search(line)
        if undefined:
            self.kinds.add(PasteKind.LINKER)
            self.named += [(0, name) for name in _linked_names(undefined["rest"])[:1]]
            if user := forms.REFERENCED.search(line):
                self.named += [(1, name) for name in _linked_names(user["rest"])]
            if place := forms.PLACE.search(line):
                self.add(1, *_place_of(place), "")
            return True
        if PasteKind.LINKER in self.kinds and (user := forms.REFERRER.match(line)):
            self.named += [(1, name) for name in _linked_names(user["rest"])]
            return True
        if forms.LINKED_PLACE.search(line):
            self.kinds.add(PasteKind.LINKER)
            if place := forms.PLACE.search(line):
                self.add(1, *_place_of(place), "")
            return True
        if (
            line.endswith((":", "':"))
            and (function := forms.IN_FUNCTION.search(line))
            and not forms.LOCATED.match(line)
        ):
            self.kinds.add(PasteKind.LINKER if ": in function" in line else PasteKind.COMPILER)
            self.name(1, name_of(function["name"]))
            return True
        return False

    def test(self, line: str) -> bool:
        if found := forms.TEST_FAILED.match(line):
            self.kinds.add(PasteKind.TEST)
            self.in_message, self.last_run = False, ""
            if found["google"]:
                self.named.append((0, _test_name(found["google"])))
            title = found["doctest"] or found["scenario"] or found["ctest"] or found["running"]
            if title:
                self.named.append((0, title))
                self.messages.append((0, title))
            return True
        if found := forms.TEST_RUN.match(line):
            self.kinds.add(PasteKind.TEST)
            self.last_run = _test_name(found["name"])
            return True
        if forms.TEST_PROGRESS.match(line):
            self.last_run = ""
            return True
        if PasteKind.TEST in self.kinds and (found := forms.EXPRESSION.search(line)) and not forms.LOCATED.match(line):
            self.messages.append((0, found["rest"]))
            return True
        return False

    def assertion(self, line: str) -> bool:
        found = forms.ASSERTION.search(line) if "ailed" in line or "ASSERT" in line else None
        if not found:
            return False
        self.kinds.add(PasteKind.ASSERTION)
        said = next((text for text in found.groups() if text), "")
        self.messages.append((0, said.partition(", function ")[0].partition(", file ")[0]))
        function = forms.IN_ASSERTION.search(line)
        symbol = name_of(next(text for text in function.groups() if text)) if function else ""
        place = forms.PLACE.search(line)
        if place and not is_system_path(place["path"]):
            self.add(0, *_place_of(place), symbol)
        else:
            self.name(0, symbol)
            for name in forms.QUALIFIED.findall(line)[:8]:
                self.name(1, name)
        return True

    def log_line(self, line: str) -> bool:
        if found := forms.GLOG.match(line):
            level, text = forms.LEVELS[found["level"].lower()], found["text"]
            self.add(level, found["path"], int(found["line"]), "")
        elif stamp := forms.STAMP.match(line):
            level, text = _without_fields(line[stamp.end() :])
            if place := forms.PLACE.search(line, stamp.end()):
                self.add(level, *_place_of(place), "")
        elif found := forms.PLAIN_LEVEL.match(line):
            level, text = forms.LEVELS[(found["bracketed"] or found["bare"]).lower()], found["text"]
            if forms.DIAGNOSTIC.match(text) or forms.LOCATED.match(text):
                return False
        else:
            return False
        self.kinds.add(PasteKind.LOG)
        self.messages.append((level, forms.PLACE.sub(" ", text)))
        return True

    def diagnostic(self, line: str) -> bool:  # noqa: C901 - one branch a form of message
        """A message of a compiler or of a test framework that begins with its place."""
        if included := forms.INCLUDED.match(line):
            self.kinds.add(PasteKind.COMPILER)
            if place := forms.PLACE.search(line, included.end()):
                self.add(3, *_place_of(place), "")
            return True
        located = forms.LOCATED.match(line.lstrip())
        if not located:
            return False
        path, number, rest = located["path"].strip(), int(located["line"] or located["msvc"]), located["rest"]
        if failure := forms.FAILURE.match(rest):
            self.kinds.add(PasteKind.TEST)
            self.add(0, path, number, "")
            if failure["boost"]:
                self.named.append((0, failure["boost"].rpartition("/")[2]))
            self.messages.append((0, rest[failure.end() :]))
            self.in_message = failure.group().endswith("Failure")
        elif level := forms.DIAGNOSTIC.match(rest):
            self.kinds.add(PasteKind.COMPILER)
            rank = {"fatal error": 0, "error": 0, "warning": 1}.get(level["level"], 2)
            requires = rank == 2 and forms.REQUIRES.search(rest)
            self.add(1 if requires else rank, path, number, "")
            if rank < 2:
                self.messages.append((rank, _readable(rest[level.end() :])))
            if rank < 2 or requires:
                self.quoted(min(rank, 1), rest[level.end() :])
        elif forms.REQUIRED.match(rest):
            self.kinds.add(PasteKind.COMPILER)
            self.add(1, path, number, "")
            if not is_system_path(path):
                self.quoted(1, rest)
        else:
            return False
        return True

    def mangled_name(self, line: str) -> bool:
        names = [name for found in MANGLED.finditer(line) if (name := name_of_mangled(found.group()))]
        if not names:
            return False
        self.kinds.add(PasteKind.MANGLED)
        for name in names:
            self.name(1, name)
        self.prose.append((self.told, MANGLED.sub(" ", line)))
        return True

    def place(self, line: str) -> bool:
        """Files with lines, anywhere in a line of prose."""
        places = list(forms.PLACE.finditer(line))
        if not places:
            return False
        if line.startswith("CMake "):
            self.kinds.add(PasteKind.COMPILER)
            self.in_message = True
        self.kinds.add(PasteKind.PLACE)
        for place in places:
            self.add(0, *_place_of(place), "")
        if places[0].group() == line.strip().rstrip(":"):
            return True
        self.prose.append((-1, forms.PLACE.sub(lambda place: place["path"].rpartition("/")[2].partition(".")[0], line)))
        return True

    def add(self, rank: int, path: str, line: int, symbol: str) -> None:
        path = path.replace("\\", "/")
        if not is_system_path(path):
            self.found.append(
                (
                    rank,
                    Frame(
                        path, line, "" if forms.SYSTEM_NAME.match(symbol) or symbol.startswith("operator") else symbol
                    ),
                )
            )

    def name(self, rank: int, name: str) -> None:
        if (
            len(name) > 1
            and name not in forms.KEYWORDS
            and not name.startswith("operator")
            and not forms.SYSTEM_NAME.match(name)
        ):
            self.named.append((rank, name))

    def quoted(self, rank: int, message: str) -> None:
        """The names that a message quotes, and those within template arguments."""
        message = forms.WITH.sub("", message)
        for found in list(forms.QUOTED.finditer(message))[:8]:
            self.name(rank, name_of(next(text for text in found.groups() if text)))
        for found in list(forms.QUALIFIED.finditer(message))[:8]:
            self.name(rank + 1, found.group())

    # The whole

    def paste(self) -> Paste | None:
        self.end_stack()
        kind = next((kind for kind in _SUREST if kind in self.kinds), None)
        if kind is None:
            return None
        if kind is PasteKind.TEST:
            self.named += [(0, self.title)] if self.title else []
            self.named += [(1, self.last_run)] if self.last_run else []
            self.messages += [(1, self.title)] if self.title else []
        in_order = sorted(self.found, key=lambda item: item[0])
        # A lambda and a headline have no name of their own; a frame of the same line tells it.
        functions = {(frame.path, frame.line): frame.symbol for _, frame in reversed(in_order) if frame.symbol}
        named = [(rank, Frame(f.path, f.line, f.symbol or functions.get((f.path, f.line), ""))) for rank, f in in_order]
        frames = list(dict.fromkeys(frame for _, frame in named))[:MOST_FRAMES]
        of_frames = [(rank, frame.symbol) for rank, frame in named if frame.symbol]
        told_first = kind in {PasteKind.LINKER, PasteKind.TEST, PasteKind.COMPILER}
        ranked = [*self.named, *of_frames] if told_first else [*of_frames, *self.named]
        ranked.sort(key=lambda item: item[0])
        names = list(dict.fromkeys(name for _, name in ranked if len(name) <= MOST_NAME))[:MOST_NAMES]
        prose, wording = self.prose_around(), self.wording()
        if not (frames or names or wording or prose):
            return None
        # Names that an index does not have are still made of words.
        asked = " ".join([prose, *wording, *names[:4]]).strip()
        return Paste(kind, tuple(frames), tuple(names), prose, asked, tuple(wording) if kind in _OWN_WORDS else ())

    def prose_around(self) -> str:
        """What stands before and after, and the questions between."""
        kept = [
            _plain(line)
            for told, line in self.prose
            if told in {-1, 0, self.told} or (line.rstrip().endswith("?") and not forms.UNLIKELY_PROSE.search(line))
            if _is_in_words(line)
        ]
        return " ".join(line for line in kept if line)[:MOST_WORDING]

    def wording(self) -> list[str]:
        """The words of the worst messages."""
        least = min((rank for rank, text in self.messages if forms.WORD.search(text)), default=0)
        told = dict.fromkeys(_plain(text)[:MOST_WORDING] for rank, text in self.messages if rank == least)
        return [text for text in told if text][:MOST_MESSAGES]


_SUREST = (
    PasteKind.SANITIZER,
    PasteKind.LINKER,
    PasteKind.TEST,
    PasteKind.COMPILER,
    PasteKind.TRACE,
    PasteKind.ASSERTION,
    PasteKind.LOG,
    PasteKind.MANGLED,
    PasteKind.PLACE,
)
_OWN_WORDS = frozenset({PasteKind.LOG, PasteKind.ASSERTION, PasteKind.TRACE, PasteKind.TEST})


def is_system_path(path: str) -> bool:
    """Whether a path is one of a compiler, a C library or another part of the system."""
    return forms.SYSTEM_PATH.search(path) is not None


def _is_in_words(line: str) -> bool:
    """Whether a line may be prose: mostly words."""
    return len("".join(forms.WORD.findall(line))) * 2 >= len(line.strip())


def _last_place(text: str) -> re.Match[str] | None:
    last = None
    for last in forms.PLACE.finditer(text):  # noqa: B007 - the last one is meant
        pass
    return last or forms.ANY_FILE.search(text)


def _place_of(found: re.Match[str]) -> tuple[str, int]:
    """(path with forward slashes, line)."""
    groups = found.groupdict()
    line = next(groups[name] for name in ("line", "msvc", "word", "windbg", "breakpad") if groups.get(name))
    return groups["path"].replace("\\", "/"), int(line)


def _linked_names(text: str) -> list[str]:
    """The names that a linker writes in quotes, or at the start of the text."""
    quoted = [next(part for part in found.groups() if part) for found in forms.QUOTED.finditer(text)][:2]
    names = [name_of(part) for part in quoted or [text.strip("`'\"\u2018\u2019 ")]]
    return [name for name in names if name and name not in forms.KEYWORDS]


def _test_name(name: str) -> str:
    """``Suite.Name`` of a test as GoogleTest prints it, without the prefix and the number of its parameters."""
    suite, _, test = name.partition(".")
    suites = [part for part in suite.split("/") if not part.isdigit()]
    return f"{suites[-1] if suites else suite}.{test.partition('/')[0]}" if test else name


def _without_fields(text: str) -> tuple[int, str]:
    """(level, message) of what follows the time in a line of a log."""
    level = 3
    for _ in range(8):
        if found := forms.BARE_LEVEL.match(text):
            level = forms.LEVELS[found["level"].lower()]
        elif not (found := forms.BRACKETED.match(text)):
            break
        text = text[found.end() :].lstrip()
    return level, text


def _readable(message: str) -> str:
    """A message of a compiler without the types that templates make long."""
    message = forms.WITH.sub("", message)
    for _ in range(4):
        message = forms.ARGUMENTS.sub("", message)
    return message


def _plain(text: str) -> str:
    """The words of a text, without numbers, addresses and paths."""
    return forms.SPACES.sub(" ", forms.BLANK.sub(" ", text)).strip(" :,.-*#>[]")
