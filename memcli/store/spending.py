"""What `memcli cost report` asks of the database: what providers took, in groups, and what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from memcli.store.db import Store

Group = Literal["tier", "model", "agent", "day", "run"]

EMBEDDING = "embedding"
# A call that was never answered may have been charged: it counts at its worst case.
_SPENT = "status IN ('done', 'lost', 'reserved')"
_OF_CALL: dict[Group, str] = {
    "tier": "tier",
    "model": "model",
    "agent": "agent_id",
    "day": "substr(started_at, 1, 10)",
    "run": "CAST(run_id AS TEXT)",
}
# A batch holds the texts of several agents: what embedding them took belongs to none.
_OF_BATCH: dict[Group, str] = {
    "tier": f"'{EMBEDDING}'",
    "model": ":model",
    "agent": f"'({EMBEDDING})'",
    "day": "substr(started_at, 1, 10)",
    "run": "CAST(run_id AS TEXT)",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """What a group of calls took. `usd` is of the calls whose price was known; `unpriced` are the others.

    `calls` is None where it was not recorded, before the schema held it.
    """

    name: str
    calls: int | None
    tokens_in: int
    tokens_out: int
    usd: float
    unpriced: int

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.tokens_in + self.tokens_out


@dataclass(frozen=True, slots=True)
class Yield:
    """What a model tier brought: windows it has seen, memories it made, those of them that were no duplicates.

    `characters` is the length of the latter together.
    """

    tier: str
    windows: int
    made: int
    created: int
    characters: int


def spent_by(store: Store, group: Group) -> list[Spent]:
    """What model tiers and the provider of embeddings took, by a group; most dollars first, days and runs in order."""
    order = "1" if group == "day" else "CAST(name AS INTEGER)" if group == "run" else "usd DESC, tokens_in DESC, 1"
    rows = store.conn.execute(
        "SELECT name, sum(calls), sum(tokens_in) AS tokens_in, sum(tokens_out), sum(usd) AS usd, sum(unpriced) FROM ("
        f"SELECT {_OF_CALL[group]} AS name, count(*) AS calls, sum(tokens_in) AS tokens_in,"
        " sum(tokens_out) AS tokens_out, total(cost_usd) AS usd, count(*) - count(cost_usd) AS unpriced"
        f" FROM model_calls WHERE {_SPENT} GROUP BY 1 UNION ALL"
        f" SELECT {_OF_BATCH[group]}, sum(embed_calls), sum(embed_tokens), 0, total(embed_usd),"
        " sum(iif(embed_usd > 0, 0, coalesce(embed_calls, 1)))"
        f" FROM batches WHERE embed_tokens > 0 OR embed_calls > 0 GROUP BY 1) GROUP BY name ORDER BY {order}",
        {"model": embedding_model(store)},
    )
    return [Spent(*row) for row in rows]


def unsettled(store: Store) -> Spent:
    """Calls that were never answered, or are under way: what they took is not known, so their worst case counts."""
    row = store.conn.execute(
        "SELECT count(*), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0), total(cost_usd),"
        " count(*) - count(cost_usd) FROM model_calls WHERE status IN ('lost', 'reserved')"
    ).fetchone()
    return Spent("unsettled", *row)


def embedding_model(store: Store) -> str:
    """The name of the provider's model that embeds this database's texts; "?" where it has moved on from it."""
    found = json.loads(store.meta("provider") or "{}")
    return str(found.get("model", "?"))


def yields(store: Store) -> list[Yield]:
    """What each model tier has seen and made, in the order of their names backwards: small before premium."""
    rows = store.conn.execute(
        "WITH seen AS (SELECT tier, count(DISTINCT window_id) AS windows FROM window_tiers"
        " WHERE status = 'done' AND tier IN ('small', 'premium') GROUP BY 1),"
        " made AS (SELECT substr(extraction_method, 1, instr(extraction_method, ':') - 1) AS tier, count(*) AS made,"
        " sum(verdict NOT IN ('exact', 'near')) AS created,"
        " sum(iif(verdict NOT IN ('exact', 'near'), length(content), 0)) AS characters FROM memories"
        " WHERE extraction_method LIKE 'small:%' OR extraction_method LIKE 'premium:%' GROUP BY 1)"
        " SELECT s.tier, s.windows, coalesce(m.made, 0), coalesce(m.created, 0), coalesce(m.characters, 0)"
        " FROM seen AS s LEFT JOIN made AS m ON m.tier = s.tier ORDER BY s.tier DESC"
    )
    return [Yield(*row) for row in rows]


def windows_seen(store: Store) -> tuple[int, int]:
    """(windows, kept messages in them) that at least one model tier has seen."""
    windows, messages = store.conn.execute(
        "SELECT count(*), coalesce(sum(messages_kept), 0) FROM windows WHERE id IN"
        " (SELECT window_id FROM window_tiers WHERE status = 'done' AND tier IN ('small', 'premium'))"
    ).fetchone()
    return windows, messages


def windowed_messages(store: Store) -> int:
    """Kept messages of all windows, whether a model tier saw them or not."""
    return int(store.conn.execute("SELECT coalesce(sum(messages_kept), 0) FROM windows").fetchone()[0])
