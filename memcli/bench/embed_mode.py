"""One way of embedding the benchmark's texts, in a process of its own: `python -m memcli.bench.embed_mode JSON`.

Its own process, since each way is to be charged with its own memory, and must not find the caches of another one warm.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from memcli.bench.corpus import texts_to_embed
from memcli.embed.models import load_card
from memcli.embed.onnx import OnnxEmbedder

WARM_UP = 16
_MEGA = 1e6


def one(embedder: OnnxEmbedder, texts: Sequence[str], _size: int) -> None:
    """Every text by itself."""
    for text in texts:
        embedder.embed([text])


def gathered(embedder: OnnxEmbedder, texts: Sequence[str], _size: int) -> None:
    """Every text by itself, from two threads at once: what "make it parallel" usually means."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda text: embedder.embed([text]), texts))


def fixed(embedder: OnnxEmbedder, texts: Sequence[str], size: int) -> None:
    """`size` texts at a time, in the order in which they come."""
    for start in range(0, len(texts), size):
        embedder.embed(texts[start : start + size])


def queued(embedder: OnnxEmbedder, texts: Sequence[str], _size: int) -> None:
    """All texts at once: the embedder sorts them by length and fills its batches."""
    embedder.embed(texts)


WAYS: dict[str, Callable[[OnnxEmbedder, Sequence[str], int], None]] = {
    "one": one,
    "gathered": gathered,
    "fixed": fixed,
    "queued": queued,
}


def bare(embedder: OnnxEmbedder, planner: OnnxEmbedder, texts: Sequence[str]) -> dict[str, float]:
    """Seconds of the tokenizer alone, and of the graph alone on batches that were made beforehand.

    The batches are made by another embedder: a tokenizer is faster at words that it has seen.
    """
    recipe = embedder.recipe
    chunks = [texts[start : start + embedder.at_once] for start in range(0, len(texts), embedder.at_once)]
    feeds = [planner.feeds(ids, mask) for chunk in chunks for _, ids, mask in planner.batches(planner.tokenize(chunk))]
    # By itself a tokenizer has threads of its own.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    began, began_cpu = time.perf_counter(), time.process_time()
    for chunk in chunks:
        embedder.tokenizer.encode_batch_fast(chunk, add_special_tokens=recipe.special_tokens)
    tokenized = time.perf_counter()
    for feed in feeds:
        embedder.session.run([embedder.output], feed)
    ended, cpu = time.perf_counter(), time.process_time() - began_cpu
    return {
        "seconds": ended - began,
        "cpu_seconds": cpu,
        "tokenizer_seconds": tokenized - began,
        "graph_seconds": ended - tokenized,
    }


def measured(folder: str, way: str, threads: int, size: int, texts: int, seed: int) -> dict[str, float]:
    """Load the model, warm it up, and time one pass over the texts."""
    embedder = OnnxEmbedder(load_card(Path(folder)), size, threads)
    corpus = texts_to_embed(texts, seed)
    embedder.embed(corpus[:WARM_UP])
    if way == "bare":
        found = bare(embedder, OnnxEmbedder(load_card(Path(folder)), size, threads), corpus)
    else:
        began, began_cpu = time.perf_counter(), time.process_time()
        WAYS[way](embedder, corpus, size)
        found = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}
    # Linux counts kilobytes of 1024, macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    tokens = sum(map(len, embedder.tokenize(corpus)))
    return found | {"peak_rss_mb": peak / _MEGA, "tokens": tokens}


if __name__ == "__main__":
    json.dump(measured(**json.loads(sys.argv[1])), sys.stdout)
