"""What options may hold: the text of an argument as a number, a share, a port, tokens. Imports nothing that is slow."""

import argparse


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 1 < factor <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no factor above 1, such as 2 or 4")
    return factor


def share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.01 <= share <= 0.5:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0.01 to 0.5")
    return share


def port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 on")
    return seconds


def listened(text: str) -> tuple[str, int]:
    """HOST:PORT, or a port of this machine alone."""
    address, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST:PORT, such as 127.0.0.1:9464")
    return address.strip("[]") or "127.0.0.1", int(port)


def tokens(text: str) -> int:
    """A number of tokens with or without a unit of 1,024 or 1,048,576 of them."""
    digits, unit = text.strip().upper().replace(",", "").replace("_", ""), 1
    for name, size in (("K", 1 << 10), ("M", 1 << 20)):
        if digits.endswith(name):
            digits, unit = digits.removesuffix(name), size
    if not digits.isdecimal() or not 1 <= (number := int(digits) * unit if len(digits) < 12 else 0) <= 1 << 30:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of tokens, such as 32768, 128K or 1M")
    return number


def token_list(text: str) -> tuple[int, ...]:
    return tuple(sorted({tokens(part) for part in text.split(",")}))
