"""A follower in a thread of this process, over real trees that the kernel watches; what it did is waited for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from hub.config import Settings
from hub.follower import Follower, Refreshed
from indexer.watcher import Options

BOUND_S = 30.0  # for what is certain to come
QUICK = Options(quiet_s=0.01, most_s=0.1)


@dataclass
class Following:
    """One that runs. ``told`` is what it did and nobody has waited for yet."""

    follower: Follower
    thread: Thread
    told: "SimpleQueue[Refreshed]" = field(default_factory=SimpleQueue)

    def next(self, wanted: Callable[[Refreshed], bool] = lambda _done: True) -> Refreshed:
        """The next refresh of a kind; those before it are passed over."""
        while True:
            try:
                done = self.told.get(timeout=BOUND_S)
            except Empty:
                raise AssertionError(f"nothing of that kind came in {BOUND_S:.0f} s") from None
            if wanted(done):
                return done

    def changed(self) -> Refreshed:
        """The next refresh that changed something, or failed."""
        return self.next(lambda done: bool(done.changed or done.removed or done.error))


@contextmanager
def following(settings: Settings, names: list[str] | None = None, options: Options = QUICK) -> Iterator[Following]:
    """Follows until the end, from the first look at every tree on."""
    told: SimpleQueue[Refreshed] = SimpleQueue()
    follower = Follower(settings, names, told.put, options)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            follower.run()
        except BaseException as error:
            failed.append(error)
            raise

    running = Following(follower, Thread(target=run, name="follower"), told)
    running.thread.start()
    try:
        yield running
    finally:
        follower.stop()
        running.thread.join(BOUND_S)
        assert not running.thread.is_alive(), "it did not end"
    assert not failed, failed


def save(path: Path, text: str) -> None:
    """As editors do: beside it, then in its place."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
