"""The output of a program in flat memory: its beginning, its end, and how much there was. Knows no process."""


class Ring:
    """Keeps ``most`` bytes, half from the beginning and half from the end."""

    def __init__(self, most: int) -> None:
        self._head_most = most // 2
        self._tail_most = most - most // 2
        self._head = bytearray()
        self._tail = bytearray()
        self.seen = 0

    def add(self, data: bytes) -> None:
        self.seen += len(data)
        room = self._head_most - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data[-self._tail_most :] if self._tail_most else b""
            if len(self._tail) > 2 * self._tail_most:  # moving bytes for every line would be quadratic
                del self._tail[: -self._tail_most or None]

    def kept(self) -> bytes:
        """What is kept; whole lines around the gap, where there is one and lines are short enough."""
        tail = bytes(self._tail[-self._tail_most :]) if self._tail_most else b""
        head = bytes(self._head)
        left_out = self.seen - len(head) - len(tail)
        if not left_out:
            return head + tail
        head, tail = _to_line_end(head), _from_line_start(tail)
        left_out = self.seen - len(head) - len(tail)
        newline = b"" if not head or head.endswith(b"\n") else b"\n"
        return head + newline + b"[... %d bytes left out ...]\n" % left_out + tail


_LINE = 2_000  # bytes that may be given up for whole lines


def _to_line_end(head: bytes) -> bytes:
    end = head.rfind(b"\n", max(0, len(head) - _LINE))
    return head[: end + 1] if end >= 0 else head


def _from_line_start(tail: bytes) -> bytes:
    end = tail.find(b"\n", 0, _LINE)
    return tail[end + 1 :] if end >= 0 else tail
