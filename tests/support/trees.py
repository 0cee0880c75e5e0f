"""Small trees on disk, and what an index holds of them in a form that can be compared."""

from pathlib import Path

from indexer.index import DataFolder, Index
from indexer.model import IndexReport
from indexer.pipeline import EmbedderSource, Options, refresh

COUNTER: dict[str, str | bytes] = {
    "src/counter.h": """#pragma once
namespace app {
/// Counts things.
class Counter {
 public:
  void Increment(int by);
  int value() const { return value_; }

 private:
  int value_ = 0;
};
}  // namespace app
""",
    "src/counter.cc": """#include "counter.h"

namespace app {

// Adds to the value and never overflows in practice.
void Counter::Increment(int by) {
  value_ += by;
}

}  // namespace app
""",
    "src/main.cc": """#include "counter.h"

int main() {
  app::Counter counter;
  counter.Increment(2);
  return counter.value();
}
""",
    "README.md": "# Counter\n\nCounts things.\n\n## Limits\n\nNone that matter.\n",
}


def write_tree(root: Path, files: dict[str, str | bytes]) -> Path:
    """Makes the files below the root; returns the root."""
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def index_of(root: Path, data: Path, source: EmbedderSource | None = None) -> IndexReport:
    """Indexes a tree into the workspace "w" in this process."""
    folder = DataFolder(data)
    with folder.owned(), Index.for_writing(folder, "w", root) as index:
        return refresh(index, Options(workers=1), (source,) if source else ())


def contents(index: Index) -> dict[str, object]:
    """Everything a reader could ask of the index, without what may differ between two runs: row ids and times."""
    table = index.table
    files = {path: (known.size, known.digest) for path, known in table.known_files().items()}
    chunks = [chunk for path in sorted(files) for chunk in table.chunks_of(path)]
    asked = sorted({word for chunk in chunks for word in index.text.stems(chunk.text)})[:40]
    return {
        "files": files,
        "symbols": list(index.facts.all_symbols()),
        "edges": list(index.facts.all_edges()),
        "chunks": chunks,
        "problems": table.problems(),
        "macros": (index.macros.definitions(), index.macros.knowledge()),
        "text": {word: index.text.search(word, 20) for word in [*asked, " ".join(asked[:5])]},
        "weights": index.text.term_weights(" ".join(asked)),
        "walk": index.walk.from_chunks([(chunk.id, chunk.span.first_line) for chunk in chunks], len(chunks)),
        "important": index.walk.important(len(chunks)),
        "vectors": {
            name: {chunk: vector.tobytes() for chunk, vector in zip(*table.vectors(name), strict=True)}
            for name in table.embedders()
            if table.vector_count(name)  # an embedder is remembered after the last of its vectors
        },
    }
