"""The parts of the benchmark report: memcli beside the naive way of doing the same, and beside other programs.

Each part takes both through the same input in the same round, with the benchmarks that exist, at smaller sizes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from memcli.bench import embed as embedding
from memcli.bench import parallel, scan
from memcli.bench.child import Measured, run_python
from memcli.bench.corpus import generate
from memcli.bench.dedup import DUPLICATE, PAIRS, LabelledPair, Scores, evaluate, read_pairs
from memcli.bench.search_memories import Open, bench_zipf
from memcli.bench.search_vectors import bench_vectors
from memcli.embed.models import ModelFiles
from memcli.protocols import Embedder
from memcli.search import Searcher

Kind = Literal["own", "naive", "peer"]
OWN = "memcli"

_MESSAGES, _TEXTS, _VECTORS, _LOOKED_UP, _ASKED = 4000, 4000, 30_000, 20_000, 50
_LOGGED_MESSAGES, _LOGGED = 4000, 2000
_PARALLEL_SCALE = 0.2
_LEAST = 100
# Figures that do not vary from run to run, and whether less of them is better.
FACTS = {
    "false_merges": True,
    "duplicates_found": False,
    "pairs_missed": True,
    "recall": False,
    "hit_rate": False,
    "same_result": False,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: the embedding model, how much of everything (1 is the usual size), how databases are opened."""

    files: ModelFiles
    embedder: Embedder
    size: float
    seed: int
    open_searcher: Open
    announce: Callable[[str], None]

    def count(self, usual: int) -> int:
        """How many of something where `usual` is the usual number."""
        return max(int(usual * self.size), _LEAST)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one way of doing it brought in one round; `note` is what else is worth knowing of it."""

    way: str
    kind: Kind
    value: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a part: a sample of each way, what was left out and why, and figures that targets are judged by."""

    about: str
    samples: list[Sample]
    notes: list[str] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the report. `less` says that smaller values are better; `once`, that every round gives the same."""

    name: str
    title: str
    unit: str
    measure: Callable[[Subject], Round]
    less: bool = False
    once: bool = False


def ingest(subject: Subject) -> Round:
    """The whole command with the usual batches, and with a commit, and a call of the model, for every message."""
    count = subject.count(_MESSAGES)
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        folder = Path(name)
        write_messages(folder / "messages.jsonl", count, subject.seed)
        rates = [count / ingested(folder, *options).seconds for options in ((), ("--batch-size", "1"))]
    return Round(
        f"{count:,} messages into a new database, the whole process",
        [Sample(OWN, "own", rates[0]), Sample("a commit per message", "naive", rates[1])],
    )


def ingested(folder: Path, *options: str) -> Measured:
    """One `memcli ingest` of messages.jsonl in `folder` into a database that is deleted again."""
    found = run_python(["-m", "memcli", "ingest", "messages.jsonl", "--json", "--quiet", *options], folder)
    for path in folder.glob("memory.db*"):
        path.unlink()
    return found


def write_messages(path: Path, count: int, seed: int) -> None:
    """Write generated messages as flat JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(message) + "\n" for message in generate(count, seed))


def embed(subject: Subject) -> Round:
    """The model with batches sorted by length, and with one text at a time."""
    count = subject.count(_TEXTS)
    plan = embedding.Plan(count, subject.seed, 1)
    # The fastest that each way can be: one text gains nothing from a second thread.
    own = [embedding.run_mode(subject.files, plan, "queued", threads)["seconds"] for threads in (1, 2)]
    one = embedding.run_mode(subject.files, plan, "one", 1)["seconds"]
    return Round(
        f"{count:,} texts of one to eight sentences, {subject.files.name}, model loaded",
        [Sample(OWN, "own", count / min(own)), Sample("one text at a time", "naive", count / one)],
    )


def quality(subject: Subject) -> Round:
    """The decision of ingest on labelled pairs, beside the best that a threshold alone could do."""
    pairs = read_pairs(PAIRS)
    found = evaluate(pairs, subject.embedder, subject.files.near_threshold)
    rows: list[tuple[str, Kind, Scores]] = [(OWN, "own", found.scores)]
    rows += [(f"{name} alone, best", "naive", scores) for name, (_, scores) in found.baselines.items()]
    return Round(
        f"{len(pairs)} labelled pairs, {_duplicates(pairs)} duplicates; one wrong merge may hide a fact",
        [Sample(way, kind, scores.precision, _told(scores)) for way, kind, scores in rows],
        [],
        {"false_merges": float(found.scores.false), "duplicates_found": found.scores.recall},
    )


def _duplicates(pairs: Sequence[LabelledPair]) -> int:
    return sum(pair.label == DUPLICATE for pair in pairs)


def _told(scores: Scores) -> str:
    return f"{scores.false} wrong, {scores.recall:.0%} found"


def similar(subject: Subject) -> Round:
    """All similar pairs among vectors: memcli, float32 products of everything with everything, SemHash."""
    found = scan.bench_scan(scan.Plan(subject.count(_VECTORS), seed=subject.seed, repeat=1), subject.announce)
    document = found.to_json()
    expected = document["pairs"]["expected"]
    samples = []
    kinds: dict[str, Kind] = {scan.MEMCLI: "own", scan.NUMPY: "naive", scan.SEMHASH: "peer"}
    for way, kind in kinds.items():
        seconds = found.seconds(way)
        if seconds is not None:
            pairs = document["pairs"].get(way, expected)
            label = "numpy, float32 products" if kind == "naive" else way
            samples.append(Sample(label, kind, seconds, "" if kind == "naive" else f"{pairs:,} of {expected:,}"))
    about = f"all pairs of cosine 0.9 among {found.count:,} vectors of {found.dim} dimensions; pairs found"
    facts = {"pairs_missed": float(expected - document["pairs"][scan.MEMCLI])}
    # What SemHash misses stands beside it.
    return Round(about, samples, [note for note in document["notes"] if not note.startswith(scan.SEMHASH)], facts)


def nearest(subject: Subject) -> Round:
    """The ten nearest vectors of a query: memcli, one float32 product, sqlite-vec, USearch, faiss."""
    count = subject.count(_LOOKED_UP)
    document = bench_vectors([count], _ASKED, 1, subject.seed, subject.announce)
    samples = []
    for way, figures in document["sizes"][0]["ways"].items():
        kind: Kind = "own" if way == OWN else "naive" if way == scan.NUMPY else "peer"
        label = "numpy, float32 product" if kind == "naive" else way
        samples.append(Sample(label, kind, figures["warm_ms"], f"recall {figures['recall']:.3f}"))
    facts = {"recall": document["sizes"][0]["ways"][OWN]["recall"], "vectors": float(count)}
    about = f"the {document['k']} nearest of {count:,} vectors of {document['dim']} dimensions, a query at a time"
    return Round(about, samples, document["notes"], facts)


def cache(subject: Subject) -> Round:
    """A log of queries with the query cache and without."""
    messages, queries = subject.count(_LOGGED_MESSAGES), subject.count(_LOGGED)
    found = {
        use: bench_zipf(messages, subject.seed, partial(_opened, subject.open_searcher, use), subject.announce, queries)
        for use in (True, False)
    }
    rate = found[True]["hit_rate"]
    own, naive = (queries / found[use]["seconds"] for use in (True, False))
    return Round(
        f"{queries:,} queries, {found[True]['distinct']:,} different (Zipf), {found[True]['memories']:,} memories",
        [Sample(OWN, "own", own, f"hit rate {rate:.0%}"), Sample("no cache", "naive", naive)],
        [],
        {"hit_rate": rate},
    )


def _opened(open_searcher: Open, use: bool, path: Path, *, use_cache: bool) -> AbstractContextManager[Searcher]:
    return open_searcher(path, use_cache=use and use_cache)


def spread_over(subject: Subject) -> Round:
    """Each part of memcli that can be spread over processors, with two workers beside one."""
    plan = parallel.Plan(2, subject.seed, 1, _PARALLEL_SCALE * subject.size, with_held=False)
    document = parallel.bench_parallel(plan, subject.files, None, subject.announce).to_json()
    samples = [
        Sample(part["part"].split(",")[0], "own", part["times_faster"], "" if part["same_result"] else "differs!")
        for part in document["parts"]
    ]
    same = all(part["same_result"] for part in document["parts"])
    return Round("two workers beside one, on the same input", samples, [], {"same_result": float(same)})


PARTS = (
    Part("ingest", "Ingest", "messages/s", ingest),
    Part("embed", "Embedding", "texts/s", embed),
    Part("quality", "Dedup quality", "precision", quality, once=True),
    Part("scan", "Dedup scan", "s", similar, less=True),
    Part("search", "Vector search", "ms", nearest, less=True),
    Part("cache", "Query cache", "queries/s", cache),
    Part("parallel", "Parallel", "times", spread_over),
)
