"""The arguments of every command. Imports nothing that is slow, as ``--help`` needs nothing."""

import argparse
from collections.abc import Callable
from pathlib import Path

from hub.cli import values
from hub.cli.adding import Added
from hub.cli.knowledge_arguments import add_knowledge


def parser_of(added: Added) -> argparse.ArgumentParser:
    """The parser of all commands, with those that are added."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    shared.add_argument("--data", type=Path, metavar="DIR", help="the folder that holds the indexes")
    shared.add_argument("--workspace", "-w", metavar="NAME", help="the indexed tree to use (default: where you are)")

    parser = argparse.ArgumentParser(
        prog="codehub", description="Index C++ code, search it, and ask questions that are answered with citations."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", parents=[shared]
        )

    index = command("index", "index a source tree, or bring its index up to date")
    index.add_argument("path", nargs="?", type=Path, default=Path(), help="the tree (default: the current folder)")
    vectors = index.add_mutually_exclusive_group()
    vectors.add_argument("--no-vectors", action="store_true", help="text and symbols only")
    vectors.add_argument("--no-encoder", action="store_true", help="no vectors but those that are there at once")
    index.add_argument("--wait", action="store_true", help="wait for what is otherwise done in the background")
    index.add_argument("--no-compiler", action="store_true", help="leave a compile_commands.json unread")

    search = command("search", "find code by words, names or meaning")
    search.add_argument("query", nargs="+")
    search.add_argument(
        "--limit", "-n", type=values.positive, default=10, metavar="N", help="hits to show (default: 10)"
    )
    search.add_argument(
        "--explain", action="store_true", help="show how the question is read and what scores are made of"
    )
    search.add_argument("--files", action="store_true", help="rank whole files instead of places in them")
    search.add_argument(
        "--path", action="append", metavar="GLOB", help="in these files only: a path, a folder or a pattern; repeatable"
    )
    search.add_argument(
        "--kind", action="append", metavar="KIND", help="what shows one of these only: function, class, ...; repeatable"
    )

    _add_lookups(command)

    ask = command("ask", "answer a question about the code, with citations")
    ask.add_argument("question", nargs="+")
    ask.add_argument(
        "--tier",
        choices=("auto", "exact", "rag", "wide", "focus", "full", "analysis"),
        default="auto",
        help="how much to read: the tables alone, a moderate prompt, a wide one, all signatures with the best files, "
        "the whole code base, all of it part after part (default: as far as it pays)",
    )
    ask.add_argument(
        "--policy", choices=("fast", "balanced", "exhaustive"), help="what a better answer is worth against waiting"
    )
    ask.add_argument("--explain", action="store_true", help="show what was decided, and what it rests on")
    ask.add_argument(
        "--backend", choices=("auto", "ollama", "embedded", "llama-server", "openai", "none"), help="who writes"
    )

    command("status", "show what is indexed and how fresh it is")
    export = command("export", "write all symbols and edges, one JSON object a line")
    export.add_argument("--format", choices=("jsonl",), default="jsonl")
    _add_doctor(command)
    _add_evaluate(command)
    command("tune", "fit the ranking of search to your tree, where that finds more of what it can be asked")
    _add_calibrate(command)
    _add_plan(command)
    extend = command("extend-context", "copy a model's file so that its context is longer (YaRN)")
    extend.add_argument("model", type=Path, metavar="MODEL.gguf", help="stays as it is")
    extend.add_argument("--factor", type=values.factor, default=2.0, metavar="N", help="how much longer (default: 2)")
    extend.add_argument(
        "--output", type=Path, metavar="FILE", help="the copy (default: beside it, named by its context)"
    )
    for add in (
        _add_profile,
        _add_measure_context,
        _add_warm,
        _add_monitor,
        _add_serve,
        _add_keys,
        _add_backup,
        _add_jobs,
        add_knowledge,
        _add_hooks,
        _add_changes,
        _add_watch,
        added.parsers,
    ):
        add(command)
    repair = command("repair", "bring the vector index in line with the tables")
    repair.add_argument("--rebuild", action="store_true", help="delete the index and make it again from the tree")
    for served in "index search ask tune calibrate warm repair".split():
        commands.choices[served].add_argument(
            "--no-server", action="store_true", help="do it here, even where a server runs on the data folder"
        )
    return parser


def _add_doctor(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    doctor = command("doctor", "check the installation; with PATH, say which files of a tree are left out and why")
    doctor.add_argument("path", nargs="?", type=Path)
    doctor.add_argument("--fix", action="store_true", help="mend what can be mended without a risk, and look again")
    lists = doctor.add_mutually_exclusive_group()
    lists.add_argument("--single", action="store_true", help="all that a single user's installation needs, and no more")
    lists.add_argument("--team", action="store_true", help="all that a team's server needs, and no more")


def _add_watch(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    watch = command("watch", "keep indexes up to date while files change; a server does it by itself")
    watch.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="indexed trees (default: where you are)")
    watch.add_argument("--all", action="store_true", help="every tree that is indexed, and those that come")
    watch.add_argument("--polling", action="store_true", help="look for changes, even where the kernel would tell")


def _add_evaluate(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    evaluate = command("evaluate", "measure how well search finds what your tree's own comments and commits ask for")
    questions = evaluate.add_mutually_exclusive_group()
    questions.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help='questions of your own, a line each: {"question": ..., "gold": [...]}',
    )
    questions.add_argument(
        "--limit", "-n", type=values.positive, metavar="N", help="questions of each kind (default: all)"
    )
    evaluate.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures, too (.png, .svg or .pdf)")


def _add_calibrate(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    calibrate = command("calibrate", "learn from your tree itself how sure to be of answers, and certify it")
    calibrate.add_argument(
        "--limit", "-n", type=values.positive, metavar="N", help="questions to ask it (default: 600)"
    )
    calibrate.add_argument(
        "--alpha",
        type=values.share,
        action="append",
        metavar="A",
        help="certify that at most this share of accepted answers lacks its evidence, beside 0.05, 0.1 and 0.2",
    )
    calibrate.add_argument("--anew", action="store_true", help="ask again what was asked before")
    calibrate.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw it, too (.png, .svg, .pdf, or a folder that is there)"
    )


def _add_plan(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    plan = command("plan", "show which models and contexts fit a machine, how fast they are there, and what to take")
    plan.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="a GGUF file, a model of Ollama, or a name such as qwen3-coder:30b (default: all known)",
    )
    plan.add_argument("--gpu", metavar="WORDS", help='such as "RTX 4080 16GB", "2x RTX 3090", none (default: yours)')
    plan.add_argument("--ram", metavar="WORDS", help='such as 32GB or "64GB DDR5-5600" (default: yours)')
    plan.add_argument(
        "--context",
        type=values.tokens,
        action="append",
        metavar="N",
        help="tokens of a user, such as 128K; may be repeated",
    )
    plan.add_argument(
        "--users", type=values.positive, default=1, metavar="N", help="at once, each with a context of that size"
    )
    plan.add_argument(
        "--kv",
        choices=("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"),
        help="type of the cache",
    )
    plan.add_argument(
        "--task",
        choices=("completion", "review", "refactoring"),
        default="review",
        help="how fast it must write: 30, 10 or 5 tokens/s (default: review)",
    )
    plan.add_argument(
        "--all", action="store_true", help="show every way to load it instead of the best of each context"
    )
    plan.add_argument(
        "--rules", action="store_true", help="show what the usual rules of thumb say, and how far off they are"
    )
    plan.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw memory and speed against context (.png, .svg, .pdf)"
    )


def _add_profile(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    profile = command("profile", "show how the model is to run, and what to set where its engine is started")
    profile.add_argument(
        "--engine", choices=("ollama", "llama-server", "embedded", "vllm"), help="default: the one that is set up"
    )
    profile.add_argument(
        "--format",
        choices=("table", "exports", "systemd", "modelfile", "flags", "compose", "ini", "markdown"),
        default="table",
        help="what it is written for; markdown shows all knobs of all engines (default: table)",
    )
    profile.add_argument("--check", action="store_true", help="compare it with the engine that runs")


def _add_warm(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    warm = command("warm", "have the model read the code base now, so that tier full answers at once")
    warm.add_argument("--backend", choices=("auto", "ollama", "embedded", "llama-server", "openai"), help="whose model")
    kept = warm.add_mutually_exclusive_group()
    kept.add_argument("--list", action="store_true", help="show what is kept on disk of what models have read")
    kept.add_argument("--forget", metavar="KEY", help="remove a kept state, or all")


def _add_measure_context(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    measure = command("measure-context", "measure speed, memory and recall of the model as its context grows")
    measure.add_argument(
        "--backend", choices=("auto", "ollama", "embedded", "llama-server", "openai"), help="whose model"
    )
    sizes = measure.add_mutually_exclusive_group()
    sizes.add_argument(
        "--contexts", type=values.token_list, metavar="N,N", help="such as 2K,8K,32K (default: doubling)"
    )
    sizes.add_argument(
        "--up-to", type=values.tokens, metavar="N", help="largest context (default: what the model admits)"
    )
    measure.add_argument(
        "--precision",
        type=values.tokens,
        default=1024,
        metavar="N",
        help="how near the largest context that works is looked for, in tokens (default: 1K)",
    )
    measure.add_argument(
        "--timeout", type=values.positive, default=1800, metavar="S", help="seconds for one context (default: 1800)"
    )
    measure.add_argument(
        "--kv",
        choices=("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"),
        help="type of the cache, of the embedded engine only",
    )
    measure.add_argument("--needle", action="store_true", help="hide facts in the text and ask for them")
    measure.add_argument("--tree", type=Path, metavar="DIR", help="read this C++ (default: what is indexed)")
    measure.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="take over what was finished (default: where the last run was stopped)",
    )
    measure.add_argument("--output", type=Path, metavar="DIR", help="for tables and journal (default: data folder)")
    measure.add_argument("--plot", type=Path, metavar="FILE", help="draw the picture here (.png, .svg or .pdf)")


def _add_monitor(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    monitor = command("monitor", "show memory, the KV cache and alert lines live")
    monitor.add_argument("--interval", type=values.seconds, default=1.0, metavar="S", help="seconds (default: 1)")
    monitor.add_argument("--once", action="store_true", help="show it once; the exit code is 1 if a line is crossed")
    monitor.add_argument("--prometheus", action="store_true", help="print Prometheus' text format")
    monitor.add_argument(
        "--listen", type=values.listened, metavar="HOST:PORT", help="serve it to Prometheus at /metrics"
    )
    monitor.add_argument(
        "--engine",
        choices=("auto", "ollama", "llama-server", "openai", "none"),
        default="auto",
        help="whose cache to watch",
    )
    monitor.add_argument("--pid", type=values.positive, action="append", metavar="N", help="a process to watch")


def _add_serve(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    serve = command("serve", "serve all workspaces over HTTP, to browsers, programs and other commands")
    serve.add_argument("--host", metavar="ADDRESS", help="to listen at (default: 127.0.0.1)")
    serve.add_argument("--port", type=values.port, metavar="N", help="0 takes any free one (default: 8642)")
    serve.add_argument(
        "--allow-plain", action="store_true", help="listen beyond this machine without TLS: another program does it"
    )
    serve.add_argument(
        "--workers", type=values.positive, default=1, metavar="N", help="1: one process owns a data folder"
    )
    opening = command("open", "print a link that lets a browser into the running server, once")
    opening.add_argument("--browser", action="store_true", help="open the browser with it instead")


def _add_backup(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    backup = command(
        "backup", "copy indexes, keys and settings into one file, while others read and write, and check it"
    )
    backup.add_argument(
        "target",
        nargs="?",
        type=Path,
        metavar="PLACE",
        help="a file, or a folder (default: backups, in the data folder)",
    )
    backup.add_argument("--keep", type=values.positive, metavar="N", help="delete all but the newest N of the folder")
    restore = command("restore", "make a data folder out of a backup; nothing is overwritten")
    restore.add_argument("archive", type=Path, metavar="FILE", help="what codehub backup wrote")


def _add_jobs(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    jobs = command("jobs", "show what the server works at, stop it, or go on with it")
    jobs.add_argument(
        "action",
        nargs="?",
        choices=("list", "show", "cancel", "resume", "follow"),
        default="list",
        metavar="ACTION",
        help="list, show, cancel, resume or follow (default: list)",
    )
    jobs.add_argument("id", nargs="?", default="", metavar="ID", help="or the beginning of it (default: the last one)")


def _add_hooks(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    hooks = command("hooks", "let git itself tell of a changed tree, by its hooks; take that back; or show how it is")
    hooks.add_argument("action", choices=("install", "uninstall", "status"), metavar="ACTION", help="%(choices)s")
    where = "a folder of the tree (default: where you are; for status, all that are indexed)"
    hooks.add_argument("path", nargs="?", type=Path, metavar="PATH", help=where)


def _add_changes(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    changes = command("changes", "show what changed and why: symbols, messages, pull requests, what it reaches")
    changes.add_argument(
        "range",
        nargs="?",
        default="",
        metavar="A..B|COMMIT",
        help="default: what was merged last, else the last commits",
    )
    changes.add_argument(
        "--limit",
        "-n",
        type=values.positive,
        default=1,
        metavar="N",
        help="merges to show without a range (default: 1)",
    )
    changes.add_argument("--summarize", action="store_true", help="let the language model write the summary")
    ingest = command("ingest", "bring the index up to the tree and show what a range of commits changed, for CI")
    ingest.add_argument("path", nargs="?", type=Path, default=Path(), help="the tree (default: the current folder)")
    ingest.add_argument("--range", required=True, metavar="A..B", help="the commits that were pushed or merged")
    ingest.add_argument(
        "--no-server", action="store_true", help="do it here, even where a server runs on the data folder"
    )


def _add_keys(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The commands about who may do what."""
    again = argparse.ArgumentParser(add_help=False)  # the options of all may stand behind the action, too
    again.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    again.add_argument("--data", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    keys = command("keys", "make, list, revoke and rotate the keys that the server takes")
    actions = keys.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make one; its text is shown this once", parents=[again])
    create.add_argument("--owner", required=True, metavar="NAME", help="a name for people")
    create.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="read, ingest, knowledge, execute, write, approve or admin; may be repeated (default: read)",
    )
    create.add_argument(
        *("--workspace", "-w"),
        dest="grants",
        action="append",
        metavar="NAME[:SCOPE,SCOPE]",
        help="where; may be repeated (default: everywhere)",
    )
    create.add_argument("--expires", metavar="WHEN", help="such as 90d, 12h or 2030-01-31 (default: never)")
    actions.add_parser("list", help="show all, without their secrets", parents=[again])
    actions.add_parser("revoke", help="end one, at once and for good", parents=[again]).add_argument(
        "key", metavar="ID"
    )
    rotate = actions.add_parser("rotate", help="replace one by a new one that may do the same", parents=[again])
    rotate.add_argument("key", metavar="ID")
    rotate.add_argument(
        "--grace", default="0s", metavar="TIME", help="that the old one goes on, such as 1h (default: 0s)"
    )

    audit = command("audit", "show what was done and refused, or verify that the record is whole")
    actions = audit.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="the entries, newest first", parents=[again])
    show.add_argument(
        "--limit", "-n", type=values.positive, default=50, metavar="N", help="entries to show (default: 50)"
    )
    show.add_argument("--before", type=values.positive, metavar="N", help="those below this number only")
    actions.add_parser("verify", help="exit code 2 where it is not as it was written", parents=[again])

    approve = command("approve", "let what waits for an approval pass once; without ID, show what waits")
    approve.add_argument("id", nargs="?", metavar="ID")
    approve.add_argument("--deny", action="store_true", help="deny it instead")


def _add_lookups(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The commands that the tables answer alone."""
    symbol = command("symbol", "show where a symbol is defined and declared")
    symbol.add_argument("name", help="such as Get, DBImpl::Get, leveldb::DBImpl::Get or 'Get(int)'")
    ways = symbol.add_mutually_exclusive_group()
    for way, summary in (
        ("prefix", "names that begin so"),
        ("fuzzy", "names that are spelt nearly so"),
        ("regex", "qualified names in which the pattern is found"),
    ):
        ways.add_argument(f"--{way}", dest="match", action="store_const", const=way, help=summary)
    symbol.add_argument("--kind", action="append", metavar="KIND", help="class, method, field, ...; may be repeated")
    _add_page(symbol, 20)

    references = command("references", "show every use of a name")
    references.add_argument("name")
    _add_page(references, 200)
    callers = command("callers", "show what calls a function")
    callees = command("callees", "show what a function calls")
    for calls in (callers, callees):
        calls.add_argument("name")
        _add_depth(calls, 1)
        calls.add_argument("--by-name", action="store_true", help="follow calls that are known by name only, too")
        _add_page(calls, 200)
    callees.add_argument("--overrides", action="store_true", help="show what overrides a called virtual method, too")

    hierarchy = command("hierarchy", "show what a class derives from and what derives from it")
    hierarchy.add_argument("name")
    direction = hierarchy.add_mutually_exclusive_group()
    direction.add_argument("--up", action="store_true", help="its bases only")
    direction.add_argument("--down", action="store_true", help="what derives from it only")
    overrides = command("overrides", "show what a method overrides and what overrides it")
    overrides.add_argument("name")
    _add_page(overrides, 200)
    for name, summary in (
        ("includes", "show what a file includes"),
        ("included-by", "show what includes a file"),
    ):
        includes = command(name, summary)
        includes.add_argument("file", help="its path, or the end of it")
        _add_depth(includes, 1)
        _add_page(includes, 200)

    history = command("history", "show which commits changed a symbol or a file, newest first")
    history.add_argument("name", metavar="SYMBOL|FILE", help="a file by its path, or the end of it")
    _add_page(history, 20)

    why = command("why", "show why code is what it is: comments, commits and decisions, the best reason first")
    why.add_argument("asked", nargs="+", metavar="PATH:LINE|SYMBOL", help="also a file, or a question in words")
    why.add_argument(
        "--limit",
        "-n",
        type=values.positive,
        default=5,
        metavar="N",
        help="reasons, commits and decisions each (default: 5)",
    )

    impact = command("impact", "show what a change reaches: callers, derived classes, overrides, includes, tests")
    impact.add_argument("names", nargs="*", metavar="SYMBOL", help="default: what changed since the last commit")
    source = impact.add_mutually_exclusive_group()
    source.add_argument("--diff", nargs="?", const="-", metavar="FILE", help="a unified diff (default: standard input)")
    source.add_argument("--since", metavar="REV", help="what changed since a revision of git")
    _add_depth(impact, 3)
    impact.add_argument(
        "--limit",
        "-n",
        type=values.positive,
        default=20,
        metavar="N",
        help="places to show of each group (default: 20)",
    )


def _add_page(parser: argparse.ArgumentParser, limit: int) -> None:
    parser.add_argument(
        "--limit", "-n", type=values.positive, default=limit, metavar="N", help=f"entries to show (default: {limit})"
    )
    parser.add_argument(
        "--offset", type=values.natural, default=0, metavar="N", help="entries to leave out before them"
    )


def _add_depth(parser: argparse.ArgumentParser, depth: int) -> None:
    parser.add_argument(
        "--depth", type=int, choices=range(1, 9), default=depth, metavar="N", help=f"1 to 8 (default: {depth})"
    )


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 0.05 s for this option alone

        try:
            parser.exit(message=f"codehub {version('code-knowledge-hub')}\n")
        except PackageNotFoundError:
            parser.exit(message="codehub of a source tree that is not installed\n")
