"""A llama.cpp server, reached over HTTP: one that the user runs, or the embedded one.

Counts with the server's own tokenizer and chat template, so what it says about a prompt's size is exact. What the
server has read of a prompt can be kept on its disk and taken back, where it was started with a folder for that.
Knows nothing of how the server was started, and nothing of HTTP beyond paths and bodies.

The server's behaviour is as read and tried on llama.cpp b10488 and b11549: 400 ``exceed_context_size_error`` for a
prompt that does not fit, errors in the middle of a stream as an event, counts of tokens in the last event.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hub.backends import chat, refuse_overlong, refuse_shortened, refuse_unsupported
from hub.backends.chat import whole_number
from hub.backends.counting import least_tokens, most_tokens, unicode
from hub.backends.endpoint import Endpoint, NoSuchPath
from hub.errors import BackendError, BackendUnavailable, PrefixUnusable, UnsupportedRequest
from hub.model import (
    BackendInfo,
    Capabilities,
    Counting,
    GenerationOptions,
    PrefixState,
    Prompt,
    Streamed,
    Usage,
)

# Tokens. What a template may add where the server cannot render it: 5 to 60 in the usual ones.
TEMPLATE_TOKENS = 64
# Tokens. A prompt that is answered well and soon where a graphics card does the prefill. 4,000 to 64,000.
PROMPT_TOKENS = 16_384
# A server that reports less than this share of the prompt we counted has not read all of it. 0.8 to 1.
LEAST_SHARE_READ = 0.9
# Seconds. What a server says of itself is asked for again after this time, so that a restart with another model or
# window is seen; within it a question asks twice at most (info, then stream). 0.5 to 5.
FACTS_FOR_S = 1.0
# Seconds. The state of 256K tokens is 5 to 30 GB, which a disk takes in a minute or some. 60 to 1,800.
PREFIX_TIMEOUT_S = 600.0
_ADDRESS_HINT = "Start one (llama-server -m MODEL.gguf), and give its address, such as http://127.0.0.1:8080."
_SLOTS_HINT = "Start the server with --slot-save-path FOLDER."
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a server says of itself."""

    window: int
    model: str
    path: str
    build: str
    template: str  # digest
    slots: int

    @property
    def identity(self) -> str:
        return f"{self.path} {self.build} {self.window} {self.template}"


class LlamaServerBackend:
    """A Backend over one llama.cpp server, for instance ``http://127.0.0.1:8080``.

    ``name`` is what answers are said to come from. ``prompt_tokens`` is the size of prompt to aim for; ``info`` lowers
    it where the server's window is smaller. ``slot`` is the one that all requests go to; None leaves the choice to the
    server, which keeps prefixes on disk only where it has no more than one. Nothing is sent before the first call.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str = "",
        prompt_tokens: int = PROMPT_TOKENS,
        name: str = "llama.cpp",
        slot: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = Endpoint(
            base_url, api_key=api_key, what="a llama.cpp server", way_out=_ADDRESS_HINT, clock=clock
        )
        self._url = self._server.url
        self._clock = clock
        self._name = name
        self._prompt_tokens = prompt_tokens
        self._slot = slot
        self._known: tuple[float, _Facts] | None = None  # with the time they were told
        # Of a model and template, as the facts' identity tells them apart.
        self._template_tokens: dict[tuple[str, int], int | None] = {}
        self._keeps_prefixes: dict[str, bool] = {}

    def info(self) -> BackendInfo:
        """Asks the server, at most once a second, so that a restart with another model is seen. Raises BackendError."""
        facts = self._facts()
        room = facts.window - GenerationOptions().max_tokens - TEMPLATE_TOKENS
        return BackendInfo(self._name, facts.model, facts.window, max(0, min(self._prompt_tokens, room)))

    def identity(self) -> str:
        """What the state of a prompt depends on, as far as the server tells: model, build, window, chat template."""
        return self._facts().identity

    def count_tokens(self, text: str) -> int:
        """The model's own count, where ``<|im_end|>`` and its like count as the text they are. Raises BackendError."""
        return self._tokenize(text, parse_special=False) if text else 0

    def capabilities(self) -> Capabilities:
        """Asks the server whether it keeps prefixes on disk; the rest all can. Raises BackendError."""
        return Capabilities(
            counting=Counting.EXACT,
            logprobs=True,
            json_schema=True,
            cached_tokens=True,
            progress=True,
            prefix_files=self._can_keep_prefixes(),
        )

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        """As Backend.stream. The size is checked at once, with the chat template, before the prompt is sent.

        A prompt whose own count leaves room to spare (counting.most_tokens) is not counted again, which takes about
        10 ms for each 1,000 tokens; the rest takes 1 to 7 ms up to 200,000 tokens.
        """
        refuse_unsupported(options, _CAN, self._name)
        messages = chat.messages(prompt)
        body = chat.request(messages, options)
        facts = self._facts()
        counted = None
        template = self._tokens_of_template(messages, facts)
        if template is None or most_tokens(prompt) + template + options.max_tokens > facts.window:
            counted = self._rendered_tokens(messages)
            size = counted if counted is not None else self._counted_apart(prompt) + TEMPLATE_TOKENS
            refuse_overlong(size, options.max_tokens, facts.window)
        body["cache_prompt"] = True
        # A model that thinks aloud first spends the whole of a short answer on it; others ignore the setting.
        body["chat_template_kwargs"] = {"enable_thinking": False}
        if options.progress:
            body["return_progress"] = True
        if self._slot is not None:
            body["id_slot"] = self._slot

        def check(usage: Usage) -> None:
            self._check_that_it_was_read(prompt, counted, usage)

        return chat.answer(self._server, body, options, check)

    def save_prefix(self, name: str) -> PrefixState:
        """Puts the state of what the slot has read last into the file ``name`` of the server's folder for that.

        The state has no tokens where the slot has read nothing. Raises UnsupportedRequest where the server was started
        without a folder, and BackendError where it cannot write.
        """
        told = self._slot_action("save", name)
        return _state(told, "n_saved", "n_written", "save_ms")

    def restore_prefix(self, name: str) -> PrefixState:
        """Takes the state back, so that a prompt that begins alike is read only from where it differs.

        Raises PrefixUnusable where the file is missing, damaged, of another model or KV type, or larger than the
        window; then the slot is empty. Nothing tells a state of the same shape but of another model or RoPE setting:
        keep what ``identity`` says with the file's name. And a file that lacks its end ends the whole server, by an
        assertion of llama.cpp (b11549): look that its size is what ``save_prefix`` told before it is taken back.
        """
        told = self._slot_action("restore", name)
        state = _state(told, "n_restored", "n_read", "restore_ms")
        if not state.tokens:
            raise PrefixUnusable(f"The kept prefix {name} is empty.", "Remove the file; the prompt is read again.")
        return state

    def erase_prefix(self) -> None:
        """Makes the slot forget what it has read. Files stay."""
        self._slot_action("erase", "")

    def close(self) -> None:
        self._server.close()

    def _facts(self) -> _Facts:
        now = self._clock()
        if self._known is None or now - self._known[0] > FACTS_FOR_S:
            self._known = now, self._ask_for_facts()
        return self._known[1]

    def _ask_for_facts(self) -> _Facts:
        told = self._server.ask("GET", "/props")
        window = whole_number(told, "default_generation_settings", "n_ctx")
        if window is None:
            raise BackendUnavailable(f"What answers at {self._url} is not a llama.cpp server.", _ADDRESS_HINT)
        path = str(told.get("model_path") or told.get("model_alias") or "unknown")
        template = hashlib.blake2b(str(told.get("chat_template", "")).encode(), digest_size=8).hexdigest()
        return _Facts(
            window,
            _file_name(str(told.get("model_alias") or path)),
            path,
            str(told.get("build_info", "")),
            template,
            whole_number(told, "total_slots") or 1,
        )

    def _tokens_of_template(self, messages: list[dict[str, str]], facts: _Facts) -> int | None:
        """Tokens that the chat template adds to such messages; None if the server cannot render it."""
        key = facts.identity, len(messages)
        if key not in self._template_tokens:
            self._template_tokens[key] = self._rendered_tokens([{**said, "content": "x"} for said in messages])
        return self._template_tokens[key]

    def _rendered_tokens(self, messages: list[dict[str, str]]) -> int | None:
        """Exact tokens of the prompt in the model's chat template; None if the server cannot render it."""
        try:
            rendered = self._server.ask("POST", "/apply-template", {"messages": messages}).get("prompt")
        except NoSuchPath:
            return None  # older servers do not have it
        return self._tokenize(rendered, parse_special=True) if isinstance(rendered, str) else None

    def _counted_apart(self, prompt: Prompt) -> int:
        return self.count_tokens(prompt.system) + self.count_tokens(prompt.user)

    def _tokenize(self, text: str, *, parse_special: bool) -> int:
        body = {"content": unicode(text), "add_special": False, "parse_special": parse_special}
        tokens = self._server.ask("POST", "/tokenize", body).get("tokens")
        if not isinstance(tokens, list):
            raise BackendUnavailable(
                f"What answers at {self._url} does not count tokens, so it is not a llama.cpp server.",
                _ADDRESS_HINT,
            )
        return len(tokens)

    def _check_that_it_was_read(self, prompt: Prompt, counted: int | None, usage: Usage) -> None:
        """Raises BrokenStream if the server has read less than the prompt.

        What was not counted before is counted now, but only where the prompt's own count or its words raise a doubt.
        """
        expected = counted if counted is not None else max(prompt.tokens, least_tokens(prompt.system, prompt.user))
        if usage.prompt >= expected * LEAST_SHARE_READ:
            return
        exact = counted if counted is not None else self._counted_apart(prompt)
        refuse_shortened(
            usage.prompt,
            int(exact * LEAST_SHARE_READ),
            "Start the server without a context shift and with a larger context window.",
        )

    def _can_keep_prefixes(self) -> bool:
        """Asks to save under a name that no file has: a server with a folder refuses the name, another the action."""
        identity = self._facts().identity
        if identity not in self._keeps_prefixes:
            try:
                self._slot_action("save", "")
            except UnsupportedRequest:
                self._keeps_prefixes[identity] = False
            except BackendUnavailable:
                raise
            except BackendError:
                self._keeps_prefixes[identity] = True
        return self._keeps_prefixes[identity]

    def _slot_action(self, action: str, name: str) -> Mapping[str, Any]:
        if name and not _FILE_NAME.fullmatch(name):
            raise UnsupportedRequest(
                f"{name!r} is no name for a kept prefix.", "Use letters, digits, points, hyphens and underscores."
            )
        if self._slot is None and self._facts().slots > 1:
            raise UnsupportedRequest(
                f"The server at {self._url} has several slots, and it is not said which one the prefix is of.",
                "Name a slot, or start the server with --parallel 1.",
            )
        try:
            return self._server.ask(
                "POST", f"/slots/{self._slot or 0}?action={action}", {"filename": name}, timeout_s=PREFIX_TIMEOUT_S
            )
        except NoSuchPath as error:
            raise UnsupportedRequest(f"The server at {self._url} cannot keep prefixes.", "Update it.") from error
        except UnsupportedRequest:
            raise
        except BackendError as error:
            raise _slot_error(error, action, name, self._url) from error


# What every llama.cpp server can; whether it keeps prefixes is not asked for by any option.
_CAN = Capabilities(counting=Counting.EXACT, logprobs=True, json_schema=True, cached_tokens=True, progress=True)


def _slot_error(error: BackendError, action: str, name: str, url: str) -> BackendError:
    """What a failed action on a slot means: the server's words are the same for several causes."""
    if "slot-save-path" in error.message or "support slots" in error.message:
        return UnsupportedRequest(f"The server at {url} keeps no prefixes on disk.", _SLOTS_HINT)
    if type(error) is not BackendError or not name:
        return error
    if action == "restore":
        return PrefixUnusable(
            f"The kept prefix {name} cannot be taken back: it is missing, damaged, of another model or KV type, or "
            "larger than the context window.",
            "Remove the file; the prompt is read again.",
        )
    return BackendError(
        f"The server at {url} could not put the prefix {name} on disk.",
        "Look whether the disk is full, and whether the server may write to its --slot-save-path.",
    )


def _state(told: Mapping[str, Any], tokens: str, size: str, milliseconds: str) -> PrefixState:
    took = told.get("timings")
    took_ms = took.get(milliseconds) if isinstance(took, dict) else None
    return PrefixState(
        whole_number(told, tokens) or 0,
        whole_number(told, size) or 0,
        float(took_ms) / 1000 if isinstance(took_ms, int | float) else 0.0,
    )


def _file_name(model: str) -> str:
    """A model's path as its name: the last part, without ``.gguf``."""
    return model.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".gguf")
