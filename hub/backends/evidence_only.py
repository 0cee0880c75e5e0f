"""The backend of a machine without a language model: it writes nothing, so that the service quotes the evidence.

It exists so that no caller needs a special case, and so that nothing is ever invented where no model can answer.
"""

from collections.abc import Iterator

from hub.backends import refuse_overlong, refuse_unsupported
from hub.model import BackendInfo, Capabilities, Completion, GenerationOptions, Prompt, Streamed, Usage

# Tokens. As much evidence as a person reads at once: about 500 lines of code. Sensible range 2,000 to 32,000.
CONTEXT_WINDOW = 8192
PROMPT_TOKENS = 6000

# UTF-8 bytes. C++ takes about 3.1 a token in vocabularies of today (measured as in hub.backends.ollama).
BYTES_PER_TOKEN = 3


class EvidenceOnlyBackend:
    """A Backend whose every answer is empty."""

    def info(self) -> BackendInfo:
        return BackendInfo("evidence only", "none", CONTEXT_WINDOW, PROMPT_TOKENS, writes=False)

    def count_tokens(self, text: str) -> int:
        """An estimate, never less for a longer text: a third of the UTF-8 bytes, rounded up."""
        return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)

    def capabilities(self) -> Capabilities:
        """Nothing beyond being asked."""
        return Capabilities()

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        """Yields one empty Completion. Raises PromptTooLong and UnsupportedRequest as a model would."""
        refuse_unsupported(options, self.capabilities(), "evidence only")
        refuse_overlong(prompt.tokens, options.max_tokens, CONTEXT_WINDOW)
        return (
            end for end in (Completion(text="", usage=Usage()),)
        )  # a generator, which can be closed like the others

    def close(self) -> None:
        """Nothing is held."""
