"""Make the lexicon that the gates look words up in, from relations of Open English WordNet.

    python -m memcli.dedup.make_lexicon LEXICON TEACHER OUT

WordNet's synonyms hold in one sense each, and most senses are rare: "leave" and "permit" share a synset. A pair is kept
only where the two words, alone, are also alike to a sentence transformer, the more so the fewer senses they share. The
same inputs give the same file (a pair whose cosine lies on the border may fall on its other side on another processor).
"""

from __future__ import annotations

import gzip
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

_PLAIN = re.compile(r"[a-z]+(?: [a-z]+){0,2}")
_WORD = re.compile(r"[A-Za-z]+")
_BATCH = 64
# Chosen by reading samples of what lies just above and below, not on labelled pairs.
_ALIKE, _ACCEPTED, _ACCEPTED_KIN = 0.7, 0.85, 1.0
_PER_SENSE, _MOST_SENSES, _SHARE = 0.1, 3, 0.15
_RARE_PART = 0.3
_STEM = 4
_SPELLINGS: tuple[tuple[str, str], ...] = (
    ("our", "or"),
    ("is", "iz"),
    ("ys", "yz"),
    ("re", "er"),
    ("ll", "l"),
    ("ae", "e"),
    ("oe", "e"),
)
_SPELLINGS += (("ogue", "og"), ("gramme", "gram"), ("ce", "se"), ("que", "ck"), ("grey", "gray"), ("mould", "mold"))
_HEADER = """# Words, synonyms, antonyms and irregular forms derived from Open English WordNet,
# https://github.com/globalwordnet/english-wordnet, under CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/),
# itself derived from Princeton WordNet, Copyright 2006 by Princeton University, under the WordNet License.
# Changed: reduced to single words and short phrases, synonyms to those that are alike in most senses.
# Columns: word, parts of speech, synonyms, antonyms, what it is an irregular form of; sorted by word.
"""

Pair = tuple[str, str, str]


def make_lexicon(source: Path, teacher: Path, out: Path) -> None:
    """Write the lexicon to `out` (gzip): `source` holds the WordNet tables, `teacher` model.onnx and tokenizer.json."""
    senses, shared = _synsets(source / "synsets.tsv.gz")
    phrases = sorted({word for first, second, _ in shared for word in (first, second)})
    place = {word: at for at, word in enumerate(phrases)}
    vectors = _embed(phrases, teacher)
    opposed: dict[str, set[str]] = defaultdict(set)
    for first, second, _ in _rows(source / "antonyms.tsv.gz"):
        if _PLAIN.fullmatch(first) and _PLAIN.fullmatch(second):
            opposed[first].add(second)
            opposed[second].add(first)
    alike: dict[str, set[str]] = defaultdict(set)
    for (first, second, part), count in sorted(shared.items()):
        cosine = float(vectors[place[first]] @ vectors[place[second]])
        if second not in opposed[first] and _holds(first, second, part, count, cosine, senses):
            alike[first].add(f"{part}:{second}")
            alike[second].add(f"{part}:{first}")
    forms: dict[str, set[str]] = defaultdict(set)
    for lemma, part, form in _rows(source / "irregular_forms.tsv.gz"):
        if _WORD.fullmatch(lemma) and _WORD.fullmatch(form):
            forms[form.lower()].add(f"{part}:{lemma.lower()}")
    parts = _parts(senses)
    lines = [
        "\t".join((word, parts[word], *(",".join(sorted(table[word])) for table in (alike, opposed, forms)))).rstrip()
        for word in sorted(parts.keys() | alike.keys() | opposed.keys() | forms.keys())
    ]
    with out.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write((_HEADER + "\n".join(lines) + "\n").encode("ascii"))


def _rows(path: Path) -> Iterator[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield line.rstrip("\n").split("\t")


def _synsets(path: Path) -> tuple[Counter[tuple[str, str]], Counter[Pair]]:
    """Return how many senses each (word, part of speech) has, and how many of them two words have in common."""
    senses: Counter[tuple[str, str]] = Counter()
    shared: Counter[Pair] = Counter()
    for _, kind, members, *_ in _rows(path):
        part = "a" if kind == "s" else kind
        words = members.split("|")
        senses.update((word, part) for word in words)
        plain = sorted(word for word in words if _PLAIN.fullmatch(word))
        shared.update((first, second, part) for first, second in combinations(plain, 2))
    return senses, shared


def _parts(senses: Counter[tuple[str, str]]) -> dict[str, str]:
    """Parts of speech of every single word, "N" for what is only known as a name, most senses first."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (word, part), count in senses.items():
        if _WORD.fullmatch(word):
            found[word.lower()][part if word == word.lower() else "N"] += count
    ordered = {word: "".join(sorted(kinds, key=lambda kind: (-kinds[kind], kind))) for word, kinds in found.items()}
    return defaultdict(str, ordered)


def _holds(first: str, second: str, part: str, count: int, cosine: float, senses: Counter[tuple[str, str]]) -> bool:
    """Whether one word may stand for the other in most of its uses as that part of speech."""
    if _respelt(first) == _respelt(second):
        return True
    for word in (first, second):
        if senses[word, part] < _RARE_PART * sum(senses[word, each] for each in "nvar"):
            return False
    fewest = min(senses[first, part], senses[second, part])
    score = cosine + _PER_SENSE * (min(count, _MOST_SENSES) - 1) + _SHARE * count / fewest
    kin = first[:_STEM] == second[:_STEM]
    return cosine >= _ALIKE and score >= (_ACCEPTED_KIN if kin else _ACCEPTED)


def _respelt(word: str) -> str:
    for british, american in _SPELLINGS:
        word = word.replace(british, american)
    return word


def _embed(words: Sequence[str], teacher: Path) -> NDArray[np.float32]:
    """Return one unit-length row per word, mean pooled."""
    tokenizer = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    tokenizer.no_padding()
    session = onnxruntime.InferenceSession(str(teacher / "onnx" / "model.onnx"))
    inputs = {each.name for each in session.get_inputs()}
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(words))]
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    found: dict[int, NDArray[np.float32]] = {}
    for begin in range(0, len(order), _BATCH):
        members = order[begin : begin + _BATCH]
        mask = np.arange(len(rows[members[-1]])) < np.array([[len(rows[at])] for at in members])
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = [token for at in members for token in rows[at]]
        feeds = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": np.zeros_like(ids)}
        states = session.run(None, {name: feeds[name] for name in inputs})[0]
        means = (states * mask[:, :, None]).sum(axis=1)
        found.update(zip(members, means / np.linalg.norm(means, axis=1, keepdims=True), strict=True))
    return np.stack([found[at] for at in range(len(rows))])


if __name__ == "__main__":
    make_lexicon(*map(Path, sys.argv[1:]))
