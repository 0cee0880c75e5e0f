"""Where the headers lie that belong to a compiler itself (stddef.h and its like), which the libclang wheel lacks.

They are looked for on disk. No compiler is ever run to say where its own are.
"""

import re
from collections.abc import Iterable
from pathlib import Path

_CLANG = (
    "usr/lib/llvm-*/lib/clang/*/include/stddef.h",
    "usr/lib/clang/*/include/stddef.h",
    "usr/lib64/clang/*/include/stddef.h",
    "usr/local/lib/clang/*/include/stddef.h",
    "opt/homebrew/opt/llvm/lib/clang/*/include/stddef.h",
    "Library/Developer/CommandLineTools/usr/lib/clang/*/include/stddef.h",
)
_GCC = ("usr/lib/gcc/*/*/include/stddef.h", "usr/lib64/gcc/*/*/include/stddef.h")
_NUMBER = re.compile(r"\d+")


def compiler_headers(clang: int, top: Path = Path("/")) -> tuple[str, ...]:
    """The flags by which libclang of a major version finds them below ``top``; none where there are none.

    Clang's own of the nearest version, older ones first, because new ones use builtins that an old Clang lacks. GCC's
    come last of all folders: its stddef.h does, its vector intrinsics do not.
    """
    own = [(_major(file.parent.parent.name), str(file.parent.parent)) for file in _found(top, _CLANG)]
    if own:
        nearest = min(own, key=lambda found: (found[0] > clang, abs(found[0] - clang), found[1]))
        return ("-resource-dir", nearest[1])
    others = [(_major(file.parent.parent.name), str(file.parent)) for file in _found(top, _GCC)]
    return ("-idirafter", max(others)[1]) if others else ()


def _found(top: Path, patterns: Iterable[str]) -> list[Path]:
    return [file for pattern in patterns for file in sorted(top.glob(pattern))]


def _major(name: str) -> int:
    number = _NUMBER.match(name)
    return int(number[0]) if number else 0
