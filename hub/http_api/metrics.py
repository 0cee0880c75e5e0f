"""The figures of one server in Prometheus' text format, each told to those alone who may know of it.

What concerns a workspace carries its name, so that a key sees the figures of its own workspaces; what concerns the
whole server is for those who see every workspace. Labels are names of routes, tiers, reasons and workspaces: their
number is bounded, and none is text of users.
"""

import threading
import time
from collections import Counter as Counted
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.samples import Sample

from hub import following, monitoring
from hub.auth.model import ALL_WORKSPACES, LOCAL, Principal
from hub.capacity.machine import Sampler
from hub.errors import WorkspaceError
from hub.following import Followed, Mode
from hub.http_api.access import principal_of
from hub.http_api.errors import answers
from hub.http_api.overview import FRESHNESS
from hub.http_api.state import State, state_of
from hub.model import Answer, SearchResult
from indexer.errors import DataFolderError

router = APIRouter(tags=["health"])

# Seconds. Searches take tens of milliseconds, answers of large models minutes.
_REQUEST_BUCKETS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_ANSWER_BUCKETS = (0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 1_800.0)
# As the doors name them (hub.http_api.guards.refusals).
REASONS = frozenset(
    ("host", "origin", "head", "key", "scope", "csrf", "rate", "crowd", "body", "slow", "store", "other")
)
BELIEVED_S = 30.0  # that what was seen of an index is told again; 5 to 300
MOST_ROUTES = 300  # of templates that are told apart; more would mean that a path is taken for one
_OTHER = "other"
_OF_INDEX = {
    "readable": "1 if the index can be opened.",
    "indexed_at_seconds": "When the tree was indexed, as a Unix time.",
    "behind_seconds": "Since the first commit that the index does not show; 0 where it shows the newest.",
    "behind_commits": "Commits that the index does not show.",
    "changed_files": "Indexed files that have changed since.",
    "waiting_for_chroma": "Changes of vectors that the vector index has not taken yet.",
    "bytes": "What the index takes on disk.",
    "files": "Files that are indexed.",
    "lines": "Lines of them.",
    "symbols": "Symbols that were found.",
    "chunks": "Chunks that are searched.",
    "problems": "Places that could not be read as C++.",
    "secrets": "Places where what looks like a secret was taken out.",
}


def _told(tree: Followed) -> float:
    return float(tree.mode is Mode.INOTIFY)


# Counts are since the process that follows began.
_OF_FOLLOWING: tuple[tuple[str, str, Callable[[Followed], float]], ...] = (
    ("told", "1 if the kernel tells of the tree's changes, 0 if they are looked for, or its folder is away.", _told),
    (
        "behind_seconds",
        "Since the first change that was noticed and is not in the index yet.",
        lambda tree: tree.behind_s,
    ),
    ("waiting", "Files and folders that wait to be looked at.", lambda tree: float(tree.pending)),
    ("watches", "Folders that the kernel watches for it.", lambda tree: float(tree.watches)),
    ("failing", "1 if the last refresh failed and is tried again.", lambda tree: float(bool(tree.error))),
    ("hints", "Times that something was noticed.", lambda tree: float(tree.hints)),
    ("refreshes", "Times that the index was brought up to date.", lambda tree: float(tree.refreshes)),
    ("refresh_seconds", "What that took together.", lambda tree: tree.refresh_s),
    ("corrected", "Files found changed of which nothing had been noticed.", lambda tree: float(tree.corrected)),
)


class Metrics:
    """Counts what one server does. Safe to use from several threads."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "codehub_http_requests", "Requests that have ended.", ("method", "route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "codehub_http_request_seconds",
            "How long requests took, streams to their end.",
            ("method", "route"),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._at_work = Gauge("codehub_http_requests_at_work", "Requests that are worked on now.", registry=registry)
        self._refused = Counter("codehub_refused", "Requests that were turned away.", ("reason",), registry=registry)
        for reason in sorted(REASONS):
            self._refused.labels(reason)
        self._answers = Counter(
            "codehub_answers", "Questions by the tier that answered.", ("workspace", "tier"), registry=registry
        )
        self._answer_seconds = Histogram(
            "codehub_answer_seconds",
            "How long answers took.",
            ("workspace", "tier"),
            buckets=_ANSWER_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "codehub_tokens",
            "Tokens of prompts read, of those that were in the cache, and of answers written.",
            ("workspace", "direction"),
            registry=registry,
        )
        self._retrieval = Histogram(
            "codehub_retrieval_seconds",
            "How long searches took.",
            ("workspace",),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._hits = Counter("codehub_hits", "Hits that searches found.", ("workspace",), registry=registry)
        self._empty = Counter(
            "codehub_empty_searches", "Searches that found nothing.", ("workspace",), registry=registry
        )
        self._routes: set[str] = set()
        self._lock = threading.Lock()
        self._looked: dict[str, tuple[float, dict[str, float]]] = {}
        self._sampler = Sampler()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Counts a request as long as it is worked on."""
        self._at_work.inc()
        try:
            yield
        finally:
            self._at_work.dec()

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has ended; ``status`` 0 where its client left before there was one."""
        if route not in self._routes:
            if len(self._routes) >= MOST_ROUTES:
                route = _OTHER
            self._routes.add(route)
        self._requests.labels(method, route, str(status) if status else "gone").inc()
        self._seconds.labels(method, route).observe(seconds)

    def refused(self, reason: str) -> None:
        """A request was turned away; reasons that are not known count as other."""
        self._refused.labels(reason if reason in REASONS else _OTHER).inc()

    def answered(self, answer: Answer) -> None:
        """A question was answered or declined."""
        where, tier = answer.workspace, answer.tier.value
        self._answers.labels(where, tier).inc()
        self._answer_seconds.labels(where, tier).observe(answer.seconds)
        for direction, tokens in (
            ("read", answer.usage.prompt),
            ("cached", answer.usage.cached),
            ("written", answer.usage.completion),
        ):
            self._tokens.labels(where, direction).inc(max(0, tokens or 0))

    def searched(self, result: SearchResult, seconds: float) -> None:
        """A search was made."""
        self._retrieval.labels(result.workspace).observe(seconds)
        self._hits.labels(result.workspace).inc(len(result.hits))
        if not result.hits:
            self._empty.labels(result.workspace).inc()

    def text(self, state: State, principal: Principal | None, now: float) -> bytes:
        """What this principal may know, in Prometheus' text format; None stands for a server that tells everyone.

        Reads the indexes and jobs of the workspaces that are seen, so it is work for a thread. ``now`` is a Unix time.
        """
        whole = principal is None or principal.sees(ALL_WORKSPACES)
        seen = tuple(workspace.name for workspace in state.workspaces.visible(principal or LOCAL))
        own = (*self._registry.collect(), *_jobs(state), *self._indexes(state, seen, now), *_followed(state, seen))
        if not whole:
            return generate_latest(_Collected(_only(own, frozenset(seen))))
        memory = self._sampler.sample()
        reading = monitoring.Reading(now, memory, None, monitoring.alerts(memory, None))
        return generate_latest(_Collected((*own, *_server(state, now)))) + monitoring.prometheus(reading).encode(
            "utf-8"
        )

    def close(self) -> None:
        """Lets go of the cards that were watched."""
        self._sampler.close()

    def _indexes(self, state: State, names: Iterable[str], now: float) -> Iterator[Metric]:
        """How fresh and how large the indexes are, each looked at seldom: it takes a look at every file of the tree."""
        families = {
            name: GaugeMetricFamily(f"codehub_index_{name}", words, labels=("workspace",))
            for name, words in _OF_INDEX.items()
        }
        for workspace in names:
            with self._lock:
                at, figures = self._looked.get(workspace, (0.0, {}))
            if not 0 <= now - at < BELIEVED_S:
                figures = _figures(state, workspace)
                with self._lock:
                    self._looked[workspace] = (now, figures)
            for name, value in figures.items():
                families[name].add_metric((workspace,), value)
        yield from families.values()


class _Collected(CollectorRegistry):
    """Families that were read already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__(auto_describe=False)
        self._families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        for family in self._families:  # without the times at which counters began, which double their lines
            yield _with(family, [sample for sample in family.samples if not sample.name.endswith("_created")])


def _only(families: Iterable[Metric], seen: Collection[str]) -> Iterator[Metric]:
    """The samples of these workspaces, and no family without any: its name alone would say that there are others."""
    for family in families:
        samples = [sample for sample in family.samples if sample.labels.get("workspace") in seen]
        if samples:
            yield _with(family, samples)


def _with(family: Metric, samples: list[Sample]) -> Metric:
    kept = Metric(family.name, family.documentation, family.type, family.unit)
    kept.samples = samples
    return kept


def _jobs(state: State) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "codehub_jobs", "Jobs that are remembered, by how they stand.", labels=("workspace", "kind", "state")
    )
    counts = Counted((job.workspace, job.kind.value, job.state.value) for job in state.jobs.jobs())
    for labels, number in sorted(counts.items()):
        family.add_metric(labels, number)
    yield family


def _followed(state: State, seen: Collection[str]) -> Iterator[Metric]:
    """How the trees stand that are followed; nothing where none is."""
    trees = [tree for tree in following.state(state.settings.data) if tree.workspace in seen]
    for name, words, value in _OF_FOLLOWING:
        family = GaugeMetricFamily(f"codehub_follow_{name}", words, labels=("workspace",))
        for tree in trees:
            family.add_metric((tree.workspace,), value(tree))
        if trees:
            yield family


def _server(state: State, now: float) -> Iterator[Metric]:
    yield GaugeMetricFamily("codehub_streams", "Answers and exports that are being made.", state.streams.count)
    yield GaugeMetricFamily("codehub_streams_most", "As many of them as may be.", state.settings.server_streams)
    yield GaugeMetricFamily("codehub_services_idle", "Open services that wait for use.", state.workspaces.open_count())
    yield GaugeMetricFamily("codehub_uptime_seconds", "Since the server began.", max(0.0, now - state.started_at))


def _figures(state: State, workspace: str) -> dict[str, float]:
    """What is told of one index; of one that cannot be read, only that."""
    try:
        with state.workspaces.reading(LOCAL, workspace) as index:
            table, stamp = index.table, index.stamp()
            _, commits, seconds = FRESHNESS.of(index.root, stamp.commit)
            return {
                "readable": 1.0,
                "indexed_at_seconds": datetime.fromisoformat(stamp.indexed_at).timestamp(),
                "changed_files": float(len(index.changed_since(table.known_files()))),
                "behind_commits": float(commits),
                "waiting_for_chroma": float(table.outbox_depth()),
                "bytes": float(index.bytes_on_disk()),
                "secrets": float(len(table.redactions()) + index.log.redactions()),
                **({} if seconds is None else {"behind_seconds": seconds}),
                **{name: float(value) for name, value in asdict(table.counts()).items() if name in _OF_INDEX},
            }
    except (WorkspaceError, DataFolderError, OSError):
        return {"readable": 0.0}


@router.get(
    "/metrics",
    summary="Figures for Prometheus, of the workspaces that may be seen",
    responses={
        **answers(),
        200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": "codehub_uptime_seconds 12.5\n"}}},
    },
)
async def metrics(request: Request) -> Response:
    """Whoever may see every workspace is told of the whole server, too. Setting ``server.metrics`` opens it to all."""
    state = state_of(request)
    principal = None if state.settings.server_metrics == "open" else principal_of(request)
    content = await state.look(state.metrics.text, state, principal, time.time())
    return Response(content, media_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"cache-control": "no-store"})
