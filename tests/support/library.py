"""A small library of code to ask about, prompts without an index, and backends that say what they are told to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hub.model import (
    BackendInfo,
    Capabilities,
    Citation,
    Completion,
    GenerationOptions,
    Hit,
    Prompt,
    Signal,
    SignalSource,
    Streamed,
    Usage,
)
from hub.prompting import Passage, Stretch
from indexer.index import DataFolder, Index
from indexer.model import Chunk, Span, chunk_id
from indexer.pipeline import EmbedderSource
from tests.support.trees import COUNTER, index_of, write_tree

LIBRARY: dict[str, str | bytes] = {
    **COUNTER,
    "src/cache.h": "// Copyright 2020 The App Authors. All rights reserved.\n"
    "// Use of this source code is governed by a licence that can be found in LICENCE.\n"
    "#pragma once\n#include <string>\nnamespace app {\nclass Counter;\n\n"
    "/// Keeps what was read last.\n"
    "class Cache {\n public:\n  ~Cache();\n  std::string Get(int key) const;\n"
    "  std::string Get(const std::string& name) const;\n"
    "  /// Throws the oldest entry out when the capacity is used up.\n  void EvictOldest();\n"
    "  bool operator==(const Cache& other) const;\n  std::string operator[](int key) const;\n"
    "  void operator()(int key);\n\n private:\n  int capacity_ = 8;\n};\n}  // namespace app\n",
    "src/cache.cc": '#include "cache.h"\n#include "log.h"\n\nnamespace app {\n\nCache::~Cache() { EvictOldest(); }\n\n'
    "std::string Cache::Get(int key) const {\n  return (*this)[key];\n}\n\n"
    "std::string Cache::Get(const std::string& name) const {\n  return Get(static_cast<int>(name.size()));\n}\n\n"
    "// The entry that was read longest ago goes first, because the next reader will hardly want it.\n"
    'void Cache::EvictOldest() {\n  if (capacity_ == 0) {\n    LOG_ERROR("nothing to evict");\n  }\n'
    "  --capacity_;\n}\n\n"
    "bool Cache::operator==(const Cache& other) const {\n  return capacity_ == other.capacity_;\n}\n\n"
    "std::string Cache::operator[](int key) const {\n  return std::string(key, 'x');\n}\n\n"
    "void Cache::operator()(int key) {\n  Get(key);\n}\n\n}  // namespace app\n",
    "src/log.h": "#pragma once\n// Writes to the error stream of the process.\n"
    "#define LOG_ERROR(text) app::WriteError(text)\n"
    "namespace app {\nvoid WriteError(const char* text);\nclass DBImpl {};\n}  // namespace app\n",
    "tests/cache_test.cc": '#include "cache.h"\n\nnamespace app {\n\n'
    "// EvictOldest must throw the oldest entry out when the capacity is used up.\n"
    "void TestEvictOldest() {\n  Cache cache;\n  cache.EvictOldest();\n"
    "  Counter counter;\n  counter.Increment(1);\n}\n\n"
    "class FakeClock {};\n\n}  // namespace app\n",
    "docs/eviction.md": "# Eviction\n\nThe cache holds a bounded number of entries.\n\n"
    "## Which entry goes\n\n"
    "The entry that was read longest ago is evicted, since age predicts whether it is read again.\n",
}


@contextmanager
def library_index(folder: Path, source: EmbedderSource | None = None) -> Iterator[Index]:
    """The library, indexed under the folder and opened for reading; the tree itself is ``folder / "tree"``."""
    index_of(write_tree(folder / "tree", LIBRARY), folder / "data", source)
    with Index.for_reading(DataFolder(folder / "data"), "w") as index:
        yield index


def hit(text: str, path: str = "src/a.cc", first_line: int = 1, symbol: str = "") -> Hit:
    """A hit of lexical rank 1 whose span is as long as its text."""
    lines = text.count("\n") + (0 if text.endswith("\n") else 1)
    span = Span(path, first_line, first_line + lines - 1)
    chunk = Chunk(chunk_id(path, first_line, "", text), span, f"{path} | {symbol}", text)
    return Hit(chunk, 1.0, (Signal(SignalSource.LEXICAL, 1, 1.0),), (("lexical", 1.0),), symbol)


def passage(text: str, path: str = "src/a.cc", first_line: int = 1, symbol: str = "", score: float = 1.0) -> Passage:
    """A passage that is shown whole or not at all."""
    return Passage((Stretch(hit(text, path, first_line).chunk.span, text),), score, symbol)


def prompt_of(*texts: str, path: str = "src/a.cc") -> Prompt:
    """A prompt whose evidence is the texts, labelled from 1."""
    citations = tuple(
        Citation(label, Span(path, 1, text.count("\n") + 1), f"app::Symbol{label}")
        for label, text in enumerate(texts, 1)
    )
    return Prompt("system", "user", citations, texts, tokens=100)


class ScriptedBackend:
    """Says its pieces one by one, raises those that are errors, and remembers what it was asked."""

    def __init__(
        self,
        *script: Streamed | Exception,
        info: BackendInfo | Exception | None = None,
        refuses: Exception | None = None,
    ) -> None:
        self._script = script
        self._info = info or BackendInfo("scripted", "parrot", context_window=32_768, prompt_tokens=8_192)
        self._refuses = refuses
        self._streams: list[Iterator[Streamed]] = []
        self.prompts: list[Prompt] = []
        self.options: list[GenerationOptions] = []
        self.said = 0
        self.open_streams = 0
        self.closed = False

    def info(self) -> BackendInfo:
        if isinstance(self._info, Exception):
            raise self._info
        return self._info

    def count_tokens(self, text: str) -> int:
        return len(text) // 4 + 1

    def capabilities(self) -> Capabilities:
        return Capabilities()

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        self.prompts.append(prompt)
        self.options.append(options)
        if self._refuses:
            raise self._refuses
        self._streams.append(self._stream())  # kept, so that only a call of close() ends it
        return self._streams[-1]

    def close(self) -> None:
        self.closed = True

    def _stream(self) -> Iterator[Streamed]:
        self.open_streams += 1
        try:
            for item in self._script:
                if isinstance(item, Exception):
                    raise item
                self.said += 1
                yield item
        finally:
            self.open_streams -= 1


def spoken(text: str, usage: Usage = Usage(10, 5)) -> Sequence[Streamed]:  # noqa: B008 - frozen
    """A text as a backend says it: in small pieces, and the completion at the end."""
    pieces = [text[start : start + 7] for start in range(0, len(text), 7)]
    return [*pieces, Completion(text, usage)]
