"""What git knows of the tree: its commit, its local changes, and its log. Owns the git command.

A tree without git is fine and simply has no commit. What a commit is good for in a search it does not know: it hands
the log over as plain values, in bounded memory, however large, broken or hostile the repository is.
"""

from indexer.history.between import FileChange, FileStatus, commits_between, files_between
from indexer.history.checkouts import GitFolders, common_folder, git_folders, head_commit
from indexer.history.lines import LineCommits, Origin, line_commits, origins
from indexer.history.log import (
    Change,
    HistorySource,
    LogEntry,
    commit_before,
    commits,
    entries,
    is_shallow,
    on_top,
    patches,
    source_of,
)
from indexer.history.ranges import Step, blobs, left_behind, meeting, own_line, resolved
from indexer.history.running import git_environment
from indexer.history.tree import NOT_THERE, FileAt, contents, diff, files_at, head, hooks_path, text_at

__all__ = [
    "NOT_THERE",
    "Change",
    "FileAt",
    "FileChange",
    "FileStatus",
    "GitFolders",
    "HistorySource",
    "LineCommits",
    "LogEntry",
    "Origin",
    "Step",
    "blobs",
    "commit_before",
    "commits",
    "commits_between",
    "common_folder",
    "contents",
    "diff",
    "entries",
    "files_at",
    "files_between",
    "git_environment",
    "git_folders",
    "head",
    "head_commit",
    "hooks_path",
    "is_shallow",
    "left_behind",
    "line_commits",
    "meeting",
    "on_top",
    "origins",
    "own_line",
    "patches",
    "resolved",
    "source_of",
    "text_at",
]
