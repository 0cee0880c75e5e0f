"""The command that changes a model's file: extend-context."""

import argparse
import shlex
from pathlib import Path

from hub.capacity import gguf
from hub.cli import DONE
from hub.cli.output import print_json
from hub.cli.progress import shown


def extend_context(options: argparse.Namespace) -> int:
    source: Path = options.model
    header = gguf.read_header(source)
    trained = header.metadata.get(f"{header.metadata.get('general.architecture')}.context_length")
    target = options.output
    if target is None:
        context = int(trained * options.factor) if isinstance(trained, int) and options.factor < 1 << 20 else 0
        size = f"{context >> 10}K" if context % 1024 == 0 else str(context)
        target = source.with_name(f"{source.stem}-{size}.gguf")
    with shown() as progress:
        done = gguf.extend(
            source, target, options.factor, lambda so_far, whole: progress("copy", so_far >> 20, whole >> 20)
        )
    uses = _uses(done)
    if options.json:
        print_json(
            {
                "file": str(done.path),
                "context": done.context,
                "context_before": trained if isinstance(trained, int) else 0,
                "trained_context": done.original,
                "factor": done.factor,
                "changes": done.changes,
                "warnings": done.warnings,
                "use": uses,
            }
        )
        return DONE
    print(f"{done.path}: a context of {done.context:,} tokens instead of {trained:,}. {source.name} is as it was.")
    print("\nchanged:")
    for change in done.changes:
        print(f"  {change}")
    print()
    for warning in done.warnings:
        print(f"warning: {warning}")
    for name, command in uses.items():
        print(f"\n{name}:\n  {command}")
    return DONE


def _uses(done: gguf.Extension) -> dict[str, str]:
    """Command lines, each under what it is for. They hold for a shell of POSIX."""
    path = shlex.quote(str(done.path.resolve()))
    name = shlex.quote(done.path.stem.lower())
    modelfile = shlex.quote(f"FROM {done.path.resolve()}\nPARAMETER num_ctx {done.context}\n")
    return {
        "with Ollama": f"printf %s {modelfile} > Modelfile && ollama create {name} -f Modelfile",
        "with llama.cpp": f"llama-server --model {path} --ctx-size {done.context} --flash-attn on",
        "see where recall breaks, before you rely on it": (
            f"CODEHUB_EMBEDDED_MODEL={path} codehub measure-context --backend embedded --needle"
        ),
    }
