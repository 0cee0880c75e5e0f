"""Files for their owner alone, who is the owner of the folder, whoever makes them. Knows nothing of what they hold."""

import os
from pathlib import Path

OWNER_ALONE = 0o600
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


def opened(path: Path, flags: int) -> int:
    """A descriptor of the file, which is made where there is none. Never follows a link. Raises OSError.

    What root makes in the folder of another user is that user's: a server that runs as him has to write it, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return os.open(path, flags | _FLAGS)
    except FileNotFoundError:
        pass
    try:
        made = os.open(path, flags | _FLAGS | os.O_CREAT | os.O_EXCL, OWNER_ALONE)
    except FileExistsError:  # somebody else was quicker
        return os.open(path, flags | _FLAGS)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(made, folder.st_uid, folder.st_gid)
    return made
