"""Events on their way from a thread to a client: nothing lost, nothing ahead without bound, nobody waiting for ever."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.http_api import events
from hub.http_api.events import Channel, EventStream, encoded
from indexer.errors import Cancelled

BOUND_S = 20.0


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=60))
@settings(max_examples=60, deadline=None)
def test_what_is_put_is_taken_whole_and_in_order(parts: list[bytes]) -> None:
    async def crossed() -> bytes:
        channel = Channel()

        def put() -> None:
            for part in parts:
                channel.put(part)
            channel._loop.call_soon_threadsafe(channel.end)  # what Streams does

        thread = in_thread(put)
        taken = b""
        while (data := await channel.take()) is not None:
            taken += data
        await asyncio.to_thread(thread.join, BOUND_S)
        return taken

    assert asyncio.run(crossed()) == b"".join(parts)


def test_a_thread_is_never_further_ahead_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_BYTES", 100)

    async def crossed() -> int:
        channel, ahead, most = Channel(), 0, 0
        lock = threading.Lock()

        def put() -> None:
            nonlocal ahead, most
            for _ in range(300):
                channel.put(b"x" * 10)
                with lock:
                    ahead += 10
                    most = max(most, ahead)
            channel._loop.call_soon_threadsafe(channel.end)

        in_thread(put)
        taken = 0
        while (data := await channel.take()) is not None:
            taken += len(data)
            with lock:
                ahead -= len(data)
            await asyncio.sleep(0)
        assert taken == 3_000
        return most

    # The bound, one part above it, and one that was put but not counted yet when the rest was taken.
    assert asyncio.run(crossed()) <= 100 + 10 + 110


def test_a_thread_whose_client_has_gone_is_told_at_its_next_word_and_while_it_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "MOST_BYTES", 5)

    async def left() -> None:
        channel, ended = Channel(), threading.Event()

        def put() -> None:
            channel.put(b"123456789")
            with pytest.raises(Cancelled):
                channel.put(b"waits, since the client is behind")
            with pytest.raises(Cancelled):
                channel.check()
            ended.set()

        in_thread(put)
        await asyncio.to_thread(lambda: ended.wait(0.05))
        channel.close()
        assert await asyncio.to_thread(ended.wait, BOUND_S)

    asyncio.run(left())


def test_a_client_that_takes_nothing_for_long_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_BYTES", 5)
    monkeypatch.setattr(events, "STALLED_S", 0.05)

    async def stalled() -> list[str]:
        channel, told, cut = Channel(), [], asyncio.Event()

        def put() -> None:
            try:
                for _ in range(10):
                    channel.put(b"123456789")
            except Cancelled:
                told.append("cancelled")

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await cut.wait()  # as uvicorn waits while the socket takes nothing

        async def receive() -> Any:
            await cut.wait()
            return {"type": "http.disconnect"}

        def abort() -> None:
            told.append("aborted")
            cut.set()

        thread = in_thread(put)
        response = EventStream(channel)
        await asyncio.wait_for(response({"type": "http", "state": {"abort": abort}}, receive, send), BOUND_S)
        await asyncio.to_thread(thread.join, BOUND_S)
        return told

    assert sorted(asyncio.run(stalled())) == ["aborted", "cancelled"]


def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEAT_S", 0.01)

    async def silent() -> list[bytes | None]:
        channel = Channel()
        first = await channel.take()
        channel.end()
        return [first, await channel.take()]

    first, last = asyncio.run(silent())
    assert first is not None
    assert first.startswith(b":")
    assert first.endswith(b"\n\n")
    assert last is None


def test_a_stopped_channel_ends_with_its_reason_after_what_was_put() -> None:
    async def stopped() -> list[bytes | None]:
        channel = Channel()
        channel.put(b"before")
        channel.stop("The server is stopping.")
        with pytest.raises(Cancelled):
            channel.put(b"after")
        return [await channel.take(), await channel.take(), await channel.take()]

    first, second, third = asyncio.run(stopped())
    assert first == b"before"
    assert second == encoded("error", {"error": "The server is stopping.", "hint": "Ask again in a moment."})
    assert third is None


@given(st.text())
def test_an_event_is_one_line_of_data_whatever_it_says(text: str) -> None:
    lines = encoded("piece", {"text": text}).split(b"\n")
    assert lines[0] == b"event: piece"
    assert lines[1].startswith(b"data: ")
    assert lines[2:] == [b"", b""]
    assert b"\r" not in lines[1]
