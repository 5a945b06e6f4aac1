"""The figures of a database in the text format that Prometheus scrapes (exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from memcli import __version__
from memcli.render.terminal import safe

if TYPE_CHECKING:
    from memcli.stats import Stats

Sample = tuple[Mapping[str, str], float]


def metrics_text(stats: Stats) -> str:
    """The figures of the whole database as text: HELP and TYPE per metric, no timestamps, a line end at the end."""
    return "".join(
        line
        for name, kind, about, samples in _metrics(stats)
        for line in _lines(f"memcli_{name}", kind, about, samples)
    )


def _lines(name: str, kind: str, about: str, samples: Iterable[Sample]) -> Iterable[str]:
    yield f"# HELP {name} {about}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{{{inner}}} {value!r}\n" if inner else f"{name} {value!r}\n"


def _escaped(text: str) -> str:
    # safe() first: the format allows control characters in a label, the terminal that may show this does not.
    return safe(text).replace("\\", "\\\\").replace('"', '\\"')


def _metrics(stats: Stats) -> Iterable[tuple[str, str, str, list[Sample]]]:
    yield (
        "info",
        "gauge",
        "Program and embedding model.",
        [({"version": __version__, "model_id": stats.model_id or ""}, 1)],
    )
    yield from _content(stats)
    yield from _dedup(stats)
    yield from _work(stats)
    yield from _models(stats)
    for name, about, counts in (
        ("hits", "Found in the query cache.", {kind: use.hits for kind, use in stats.search_cache.items()}),
        ("misses", "Not found in the query cache.", {kind: use.misses for kind, use in stats.search_cache.items()}),
    ):
        yield f"search_cache_{name}_total", "counter", about, [({"kind": kind}, n) for kind, n in counts.items()]
    sizes = stats.sizes
    yield "database_bytes", "gauge", "Size of the database file.", [({}, sizes.total)]
    yield "database_free_bytes", "gauge", "Unused part of the database file.", [({}, sizes.free)]
    yield (
        "database_wal_bytes",
        "gauge",
        "Size of the write-ahead log beside the database file.",
        [({}, stats.wal_bytes)],
    )
    yield (
        "table_bytes",
        "gauge",
        "Size of a table with its indexes.",
        [({"table": table}, size) for table, size in sizes.tables.items()],
    )


def _content(stats: Stats) -> Iterable[tuple[str, str, str, list[Sample]]]:
    yield (
        "messages",
        "gauge",
        "Stored messages by agent; dropped ones are stored with the reason.",
        [
            sample
            for row in stats.agents
            for sample in (
                ({"agent": row.agent, "state": "kept"}, row.kept),
                ({"agent": row.agent, "state": "dropped"}, row.messages - row.kept),
            )
        ],
    )
    yield (
        "messages_dropped",
        "gauge",
        "Dropped messages by reason.",
        [({"reason": reason}, count) for reason, count in stats.filtered.items()],
    )
    yield "messages_pending", "gauge", "Messages that wait for their window.", [({}, stats.counts.pending)]
    yield "rejected_lines", "gauge", "Input lines that could not be read.", [({}, sum(stats.rejected.values()))]
    yield "sessions", "gauge", "Sessions by agent.", [({"agent": row.agent}, row.sessions) for row in stats.agents]
    yield "files", "gauge", "Transcripts.", [({}, stats.counts.files)]
    yield "windows", "gauge", "Windows that were processed.", [({}, stats.counts.windows)]
    yield (
        "memories",
        "gauge",
        "Memories by agent; merged ones are kept as links to another.",
        [
            sample
            for row in stats.agents
            for sample in (
                ({"agent": row.agent, "state": "active"}, row.memories - row.merged),
                ({"agent": row.agent, "state": "merged"}, row.merged),
            )
        ],
    )
    yield (
        "memories_by_method",
        "gauge",
        "Memories, merged ones too, by rule or tier that made them.",
        [({"method": method}, made) for method, (made, _) in stats.methods.items()],
    )


def _dedup(stats: Stats) -> Iterable[tuple[str, str, str, list[Sample]]]:
    yield (
        "duplicate_memories",
        "gauge",
        "Memories merged as exact or near duplicates, or kept for review.",
        [({"kind": kind}, count) for kind, (count, _) in stats.duplicates().items()],
    )
    yield (
        "review_pairs",
        "gauge",
        "Open pairs of similar memories whose evidence disagrees.",
        [({}, stats.counts.review_pairs)],
    )


def _work(stats: Stats) -> Iterable[tuple[str, str, str, list[Sample]]]:
    yield (
        "stage_seconds_total",
        "counter",
        "Time of all batches by stage.",
        [({"stage": stage}, round(seconds, 6)) for stage, seconds in stats.stages.items()],
    )
    yield "batches_total", "counter", "Committed batches.", [({}, stats.batches)]
    yield (
        "runs_total",
        "counter",
        "Runs that wrote something, by command and how they ended.",
        [({"command": command, "status": status}, count) for (command, status), count in stats.run_counts.items()],
    )
    yield (
        "last_done_timestamp_seconds",
        "gauge",
        "When the last completed run that wrote something ended.",
        [({"command": command}, ended) for command, (ended, _) in stats.last_done.items()],
    )
    yield (
        "last_done_duration_seconds",
        "gauge",
        "How long that run took.",
        [({"command": command}, seconds) for command, (_, seconds) in stats.last_done.items()],
    )


def _models(stats: Stats) -> Iterable[tuple[str, str, str, list[Sample]]]:
    calls, tokens, usd = stats.embedding
    # What is only reserved is given back in part: a counter must not fall.
    ended = [each for each in stats.asked if each.status != "reserved"]
    spent = [each for each in ended if each.status != "failed"]
    yield (
        "model_calls_total",
        "counter",
        "Calls of model tiers by how they ended.",
        [({"tier": each.tier, "model": each.model, "status": each.status}, each.calls) for each in ended],
    )
    yield (
        "model_tokens_total",
        "counter",
        "Tokens that model tiers read and wrote.",
        _summed(
            ({"tier": each.tier, "model": each.model, "direction": direction}, number)
            for each in spent
            for direction, number in (("in", each.tokens_in), ("out", each.tokens_out))
        ),
    )
    yield (
        "model_cost_usd_total",
        "counter",
        "US dollars that model tiers took, where the price is known.",
        _summed(({"tier": each.tier, "model": each.model}, each.usd) for each in spent),
    )
    yield "embedding_calls_total", "counter", "Calls of the provider of embeddings.", [({}, calls)]
    yield "embedding_tokens_total", "counter", "Tokens that the provider of embeddings read.", [({}, tokens)]
    yield "embedding_cost_usd_total", "counter", "US dollars that it took, where its price is known.", [({}, usd)]
    yield (
        "window_tiers",
        "gauge",
        "Windows by tier and what became of them there.",
        [({"tier": tier, "status": status}, count) for (tier, status), count in stats.tier_states.items()],
    )
    yield (
        "rejected_statements",
        "gauge",
        "Statements of models that were not taken, by reason.",
        [({"tier": tier, "reason": reason}, count) for (tier, reason), count in stats.rejected_statements.items()],
    )


def _summed(samples: Iterable[Sample]) -> list[Sample]:
    """One sample per set of labels."""
    found: dict[tuple[tuple[str, str], ...], float] = {}
    for labels, value in samples:
        key = tuple(labels.items())
        found[key] = found.get(key, 0) + value
    return [(dict(key), value) for key, value in found.items()]
