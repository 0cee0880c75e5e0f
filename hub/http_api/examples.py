"""One example of each answer, small and true to its shape, for the OpenAPI document. Data only."""

from hub.shapes import Json

STAMP: Json = {
    "commit": "77d0c3be",
    "dirty": False,
    "indexed_at": "2026-11-01T10:00:00+00:00",
    "behind": {"commits": 0, "files": 1, "since_s": 0.2},
}
_SYMBOL: Json = {
    "id": "app::Counter::Increment(int)",
    "qualified_name": "app::Counter::Increment",
    "kind": "method",
    "signature": "void Counter::Increment(int by)",
    "path": "src/counter.cc",
    "first_line": 6,
    "last_line": 8,
    "is_definition": True,
    "doc": "Adds to the value.",
    "line": 6,
}
_EDGE: Json = {
    "kind": "call",
    "path": "src/main.cc",
    "line": 5,
    "inside": "main",
    "target": "app::Counter::Increment",
    "how": "certain",
    "depth": 1,
    "via": [],
}
SEARCH: Json = {
    "query": "where is the value increased",
    "workspace": "counter",
    "stamp": STAMP,
    "confidence": {"value": 0.8, "calibrated": True, "tier": "rag", "reasons": ["Most of its words stand there."]},
    "hits": [
        {
            "path": "src/counter.cc",
            "first_line": 5,
            "last_line": 8,
            "symbol": "app::Counter::Increment",
            "kind": "method",
            "title": "app::Counter::Increment",
            "score": 1.7,
            "signals": {"lexical": 1},
            "contributions": {"lexical": 1.7},
            "text": "void Counter::Increment(int by) {\n  value_ += by;\n}\n",
        }
    ],
    "files": [{"path": "src/counter.cc", "score": 1.7}],
    "understood": {"kind": "prose", "words": {"value": 1.2}},
    "notes": [],
}
SYMBOL: Json = {"match": "exact", "symbols": [_SYMBOL], "total": 1, "offset": 0, "stamp": STAMP}
RELATIONS: Json = {"symbols": [_SYMBOL], "edges": [_EDGE], "total": 1, "offset": 0, "stamp": STAMP}
HIERARCHY: Json = {"classes": [{"symbol": _SYMBOL, "bases": [], "derived": []}], "stamp": STAMP}
OVERRIDES: Json = {
    "symbols": [_SYMBOL],
    "overrides": [],
    "overridden_by": [_EDGE],
    "total": 1,
    "offset": 0,
    "stamp": STAMP,
}
INCLUDES: Json = {"path": "src/counter.cc", "edges": [_EDGE], "total": 1, "offset": 0, "stamp": STAMP}
HISTORY: Json = {
    "commits": [
        {
            "commit": "4f2a90c1",
            "time": 1793527200,
            "author": "Ada",
            "subject": "Count by steps",
            "body": "",
            "files": ["src/counter.cc"],
            "changed": ["app::Counter::Increment"],
            "files_in_all": 1,
        }
    ],
    "total": 1,
    "offset": 0,
    "stamp": STAMP,
}
WHY: Json = {
    "asked": "why does the counter count by steps",
    "path": None,  # as with the lines, of a place that was asked about
    "first_line": None,
    "last_line": None,
    "symbols": [_SYMBOL],
    "comment": "",
    "reasons": [
        {
            "kind": "commit",
            "says": ["One at a time was too slow, because every step takes the lock."],
            "title": "Count by steps",
            "commit": "4f2a90c1",
            "path": None,
            "first_line": None,
            "last_line": None,
            "date": "2026-11-01",
            "how": "wrote lines of it that still stand",
            "outdated": None,
            "strength": 0.95,
        }
    ],
    "commits": [
        {
            "commit": "4f2a90c1",
            "time": 1793527200,
            "author": "Ada",
            "subject": "Count by steps",
            "says": ["One at a time was too slow, because every step takes the lock."],
            "issues": ["#12"],
            "files": ["src/counter.cc"],
            "how": "wrote lines of it that still stand",
            "outdated": None,
            "first": True,
        }
    ],
    "total": 1,
    "decisions": [],
    "kept": [],
    "notes": [],
    "stamp": STAMP,
}
DIFF = "--- a/src/counter.cc\n+++ b/src/counter.cc\n@@ -7 +7 @@\n-  value_ += by;\n+  value_ += 2 * by;\n"
IMPACT: Json = {
    "changed": [_SYMBOL],
    "files": ["src/counter.cc"],
    "reached": {
        "callers": [{"name": "main", "path": "src/main.cc", "line": 5, "reason": "calls it", "how": "certain"}]
    },
    "tests": [],
    "totals": {"callers": 1, "tests": 0},
    "notes": [],
    "stamp": STAMP,
}
SOURCE: Json = {
    "path": "src/counter.cc",
    "first_line": 6,
    "last_line": 6,
    "text": "void Counter::Increment(int by) {\n",
    "stamp": STAMP,
}
WHO: Json = {"key_id": "k7f2", "owner": "Ada", "grants": [{"workspace": "counter", "scopes": ["read"]}]}
WORKSPACES: Json = {"workspaces": [{"name": "counter", "root": "/src/counter", "used_at": 1793527200.0}]}
WORKSPACE: Json = {
    "name": "counter",
    "root": "/src/counter",
    "stamp": STAMP,
    "head": "4f2a90c1",
    "behind_s": 3600.0,
    "behind_commits": 2,
    "changed_files": 0,
    "files": 4,
    "lines": 38,
    "symbols": 12,
    "references": 9,
    "chunks": 8,
    "problems": 0,
    "redacted": 0,
    "edges": {"certain": 7},
    "compiler": {"units": 0},
    "waiting_for_vectors": 0,
    "waiting_for_chroma": 0,
    "bytes_on_disk": 200704,
    "calibration": {"calibrated_at": "2026-11-01T11:00:00+00:00", "asked": 600, "stale": [], "notes": []},
    "followed": {
        "workspace": "counter",
        "mode": "inotify",
        "why": "",
        "watches": 9,
        "limit": 192536,
        "pending": 1,
        "whole": False,
        "waiting_since": 1793527200.0,
        "behind_s": 0.2,
        "last": {"at": 1793527100.0, "seconds": 0.1, "changed": 1, "removed": 0, "whole": False},
        "error": "",
        "hints": 12,
        "refreshes": 11,
        "refresh_s": 1.9,
        "corrected": 0,
    },
    "background": {"pid": 4711, "workspace": "counter", "embedder": "minilm", "done": 3, "total": 8, "note": ""},
    "calibrating": {"pid": 4712, "workspace": "counter", "embedder": "", "done": 9, "total": 600, "note": ""},
}
EXPORT = '{"type":"symbol","id":"app::Counter","qualified_name":"app::Counter","kind":"class"}\n'
PLAN: Json = {"machine": {"ram": 34359738368}}
