"""Vocabularies made for tests, and llama.cpp with one of them as the judge of a count.

The vocabulary joins letters, marks, digits and spaces of many scripts freely across whatever a rule would part, so
that a text split otherwise than llama.cpp splits it nearly always takes other tokens.
"""

import functools
import json
import random
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.support.real_llama import model_path, start

# What tokenizers part by: cases, endings, digits of all kinds, spaces, marks, scripts with and without case.
CHARACTERS = (
    "abXYzé ÉßЖжШшДд中文字あいアイ한국ǅʰªΣσςΩωÀàԱա\u0301\u0323\u0bcd\u07ad'sStTreRElLvVdDmM0123456789²½٣Ⅷ  \n\r\t"
    '\u00a0\u2003/*+-=<>(){};:.,#\\_"`|^~$€…—。\uff01🙂🙃'
)


@functools.cache
def made_vocabulary() -> Mapping[str, object]:
    """GGUF metadata of a vocabulary of 8,000 tokens, always the same."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    chance = random.Random(5)
    texts = ["".join(chance.choice(CHARACTERS) for _ in range(60)) for _ in range(4000)]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    marks = ["<unk>", "<|start|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=8000, show_progress=False, initial_alphabet=alphabet, special_tokens=[*marks, "<defined>"]
    )
    trained.train_from_iterator(texts, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": [3, 3, 3, 4, *[1] * (len(tokens) - 4)],
    }


@functools.cache
def made_sentence_pieces() -> Mapping[str, object]:
    """The same of SentencePiece's kind: 5,000 pieces with scores, and a token for each byte."""
    from tokenizers import Tokenizer, models, trainers

    chance = random.Random(3)
    texts = ["".join(chance.choice(CHARACTERS) for _ in range(60)).replace(" ", "\u2581") for _ in range(3000)]
    texts += ["\u2581" * length for length in range(1, 20) for _ in range(30)]
    trained = Tokenizer(models.BPE())
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=5000, show_progress=False, limit_alphabet=90, special_tokens=first)
    trained.train_from_iterator(texts, trainer)
    numbers = trained.get_vocab()
    tokens = sorted(numbers, key=lambda token: numbers[token])
    pieces = tokens[len(first) :]
    by_worth = sorted(pieces, key=lambda piece: len(piece) == 1)  # single characters are worth least
    scores = {piece: -float(rank) for rank, piece in enumerate(by_worth, 1)}
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(first) + [scores[piece] for piece in pieces],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(pieces)],
    }


def write_model(path: Path, vocabulary: Mapping[str, Any]) -> Path:
    """A model without sense of one small layer, which llama.cpp loads in a moment."""
    writer = gguf.GGUFWriter(path, "llama")
    tokens = vocabulary["tokenizer.ggml.tokens"]
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, value in vocabulary.items():
        match value:
            case bool():
                writer.add_bool(name, value)
            case str():
                writer.add_string(name, value)
            case list():
                writer.add_array(name, value)
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), 32), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(32, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class Judge:
    """llama.cpp's own count."""

    def __init__(self, address: str) -> None:
        self._address = address

    def count(self, text: str) -> int:
        body = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
        request = urllib.request.Request(f"{self._address}/tokenize", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return len(json.load(answer)["tokens"])


@contextmanager
def judge(model: Path | None = None) -> Iterator[Judge]:
    """llama.cpp with this model, SmolLM2 without one; skips the test where it is not installed."""
    chosen = model_path() if model is None else model
    server = start(chosen, 512, "", 1)
    yield Judge(str(server.listening_address))
    del server
