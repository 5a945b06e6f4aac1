"""One part of memcli with so many workers, in a process of its own: `python -m memcli.bench.parallel_part JSON`.

Its own process, since the pools of the libraries read their size once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from memcli.workers import use, workers

_WARM_UP = 64
# Passes over a part, the fastest of which counts, as long as they take no more seconds than this.
_PASSES, _SECONDS = 4, 3.0
_THRESHOLD = 0.9

# What is timed, to be called once, and the bytes that its result is compared by.
Part = Callable[[], Iterable[bytes]]


def embedding(size: int, seed: int, folder: str) -> Part:
    """Embed `size` texts with the model in `folder`, as ingest does."""
    from memcli.bench.corpus import texts_to_embed  # noqa: PLC0415 - numpy must not be imported before `use`
    from memcli.embed.models import load_card  # noqa: PLC0415 - as above
    from memcli.embed.onnx import OnnxEmbedder  # noqa: PLC0415 - as above

    embedder = OnnxEmbedder(load_card(Path(folder)))
    texts = texts_to_embed(size, seed)
    embedder.embed(texts[:_WARM_UP])
    return lambda: [embedder.embed(texts).round(4).tobytes()]


def scan(size: int, seed: int) -> Part:
    """Find all similar pairs of `size` vectors."""
    from memcli.bench.vectors import generate  # noqa: PLC0415 - as above
    from memcli.dedup.scan import pairs_within  # noqa: PLC0415 - as above

    vectors = generate(size, 256, seed)
    pairs_within(vectors[:_WARM_UP], _THRESHOLD)

    def timed() -> Iterable[bytes]:
        found = pairs_within(vectors, _THRESHOLD)
        return [found.query.tobytes(), found.id.tobytes(), found.score.tobytes()]

    return timed


def reading(size: int, seed: int) -> Part:
    """Parse `size` lines of a transcript, shared out to threads."""
    from memcli.bench.corpus import generate  # noqa: PLC0415 - as above

    lines = [json.dumps(message) for message in generate(size, seed)]
    return _shared_out(lambda line: repr(json.loads(line)).encode(), lines)


def screening(size: int, seed: int) -> Part:
    """Redact and screen `size` messages, shared out to threads."""
    from memcli.bench.corpus import generate  # noqa: PLC0415 - as above
    from memcli.redact import redact  # noqa: PLC0415 - as above

    texts = [str(message["content"]) for message in generate(size, seed)]
    return _shared_out(lambda text: redact(text)[0].encode(), texts)


def gates(size: int, seed: int) -> Part:
    """Judge `size` pairs of texts by their words, shared out to threads."""
    from memcli.bench.corpus import texts_to_embed  # noqa: PLC0415 - as above
    from memcli.dedup.gates import judge  # noqa: PLC0415 - as above

    texts = texts_to_embed(size + 1, seed)
    pairs = list(itertools.pairwise(texts))
    return _shared_out(lambda pair: repr(judge(pair[0], pair[1], 0.95, _THRESHOLD)).encode(), pairs)


def _shared_out(work: Callable[[Any], bytes], items: Sequence[Any]) -> Part:
    """Each thread takes every so manieth of `items`."""

    def timed() -> Iterable[bytes]:
        count = workers()
        with ThreadPoolExecutor(count) as pool:
            shares = list(pool.map(lambda first: [work(item) for item in items[first::count]], range(count)))
        return [shares[place % count][place // count] for place in range(len(items))]

    return timed


PARTS: dict[str, Callable[..., Part]] = {
    "embedding": embedding,
    "scan": scan,
    "reading": reading,
    "screening": screening,
    "gates": gates,
}


def measured(part: str, count: int, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - what JSON holds
    """Prepare a part with `count` workers, time its fastest pass, and say what came out as a hash."""
    use(count)
    timed = PARTS[part](**options)
    passes: list[tuple[float, float]] = []
    found: Iterable[bytes] = ()
    while not passes or (len(passes) < _PASSES and sum(seconds for seconds, _ in passes) < _SECONDS):
        began, began_cpu = time.perf_counter(), time.process_time()
        found = timed()
        passes.append((time.perf_counter() - began, time.process_time() - began_cpu))
    checksum = hashlib.blake2b(digest_size=16)
    for each in found:
        checksum.update(each)
    seconds, cpu = min(passes)
    return {"seconds": seconds, "cpu_seconds": cpu, "result": checksum.hexdigest()}


if __name__ == "__main__":
    json.dump(measured(**json.loads(sys.argv[1])), sys.stdout)
