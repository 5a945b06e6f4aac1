"""A command of memcli that counts what it asks of SQLite and of the embedding model, for `memcli bench`.

`python -m memcli.cli.bench_traced COUNTS.json ingest PATH ...` runs the command and writes the counts. A process of its
own, and nothing in it is timed: counting takes time itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

from memcli.cli.app import run
from memcli.embed.onnx import OnnxEmbedder
from memcli.store.tracing import traced


@dataclass(slots=True)
class _Embedded:
    """Calls of the embedder, the texts in them, the different ones among these, and runs of the model's graph."""

    calls: int = 0
    texts: int = 0
    seen: set[str] = field(default_factory=set)
    graph_runs: int = 0

    def embed(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def counted(embedder: OnnxEmbedder, texts: Sequence[str]) -> object:
            self.calls += 1
            self.texts += len(texts)
            self.seen.update(texts)
            return original(embedder, texts)

        return counted

    def batches(self, original: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        @wraps(original)
        def counted(embedder: OnnxEmbedder, *args: object) -> Iterator[Any]:
            for batch in original(embedder, *args):
                self.graph_runs += 1
                yield batch

        return counted


def main() -> None:
    """Run `sys.argv[2:]` as a command of memcli and write the counts into the file `sys.argv[1]`."""
    target, *arguments = sys.argv[1:]
    sys.argv = ["memcli", *arguments]
    embedded = _Embedded()
    setattr(OnnxEmbedder, "embed", embedded.embed(OnnxEmbedder.embed))  # noqa: B010 - type checkers refuse to assign it
    setattr(OnnxEmbedder, "batches", embedded.batches(OnnxEmbedder.batches))  # noqa: B010 - as above
    with traced() as trace:
        try:
            run()
        finally:
            counts = {
                "stretches": [asdict(each) for each in trace.stretches],
                "stray_writes": trace.stray_writes,
                "embedder_calls": embedded.calls,
                "texts": embedded.texts,
                "different_texts": len(embedded.seen),
                "graph_runs": embedded.graph_runs,
            }
            Path(target).write_text(json.dumps(counts), encoding="utf-8")


if __name__ == "__main__":
    main()
