"""What is fuzzed: each target takes bytes that nobody vouches for, and may raise nothing but what it promises."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing, suppress
from io import BytesIO
from itertools import islice
from pathlib import Path

from memcli import config
from memcli.dedup.gates import judge, merge_key, same_signature, signature
from memcli.errors import MemcliError, UsageError
from memcli.exchange.plain import parse_plain
from memcli.exchange.records import parse_message, parse_parted, parse_star
from memcli.extract.answer import UnreadableAnswerError, schema, statements
from memcli.extract.quotes import find_quote
from memcli.extract.rule_files import check_ids, dump_rules, parse_rules, rule_of
from memcli.extract.rules import RuleExtractor, compile_rule, matches, starter_rules
from memcli.filters import FilterRules, recall_lines, screen, strip_injected, strip_recalled
from memcli.model import Item, Message, Part, Rejected, Skipped, Window
from memcli.protocols import Source
from memcli.readers import READERS, detect, make_reader
from memcli.readers.archives import open_stream, zip_members
from memcli.redact import redact
from memcli.render.terminal import json_line, one_line, safe
from memcli.search.words import any_of, closeness, dates_of, possible_names, telling, words_of
from memcli.text import clean, content_hash, normalise, pieces, sentences

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
_RULES = RuleExtractor(starter_rules())


def text_of(raw: bytes) -> str:
    """The bytes as a text that JSON could have brought: lone surrogates too."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")


def halves(raw: bytes) -> tuple[str, str]:
    """Two texts in one."""
    left, _, right = raw.partition(b"\xff")
    return text_of(left), text_of(right)


# --- the targets -----------------------------------------------------------------------------------------------------


def reading(name: str, raw: bytes) -> list[Item]:
    """What a reader makes of a file; positions go on, and nothing that SQLite cannot hold comes out."""
    items = list(make_reader(name).read(Source(BytesIO(raw), final=True)))
    for item in items:
        assert isinstance(item, Message | Skipped | Rejected)
        if isinstance(item, Message):
            assert 0 <= item.start <= item.end
            item.text.encode()
            assert "\0" not in item.text
    return items


def readers(raw: bytes) -> None:
    """All readers, and the choice among them."""
    with suppress(MemcliError):
        detect(raw[: 1 << 16])
    for name in READERS:
        with suppress(MemcliError):
            reading(name, raw)


def archives(raw: bytes) -> None:
    """Compressed files and zips."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".gz", ".zst", ".zip"):
            path = Path(folder) / f"x{suffix}"
            path.write_bytes(raw)
            with suppress(MemcliError):
                if suffix == ".zip":
                    for _, stream in zip_members(str(path)):
                        stream.read(1 << 20)
                else:
                    with open_stream(str(path)) as stream:
                        stream.read(1 << 20)


def rules(raw: bytes) -> None:
    """Rule files of both kinds, and what their rules make of a text."""
    text = raw.decode("utf-8", "replace")
    for kind in ("json", "toml"):
        try:
            file = parse_rules(text, kind)
            check_ids(file.rules)
        except ValueError:
            continue
        assert parse_rules(dump_rules(file, kind), kind) == file
        for rule in file.rules[:20]:
            with suppress(UsageError):
                list(islice(matches(compile_rule(rule), text), 100))


def patterns(raw: bytes) -> None:
    """One pattern, as an expression and as simple words, over a text."""
    pattern, text = halves(raw)
    for kind in ("regex", "simple"):
        try:
            rule = rule_of({"name": "x", "pattern": pattern, "kind": kind, "id": "x"})
            compiled = compile_rule(rule)
        except (ValueError, UsageError):
            continue
        for place, _, spans in islice(matches(compiled, clean(text)), 100):
            assert place[0] <= place[1]
            assert isinstance(spans, list)


def extraction(raw: bytes) -> None:
    """The built-in rules over a conversation."""
    parts = tuple(Part(number, "user", clean(text)) for number, text in enumerate(halves(raw), 1))
    for found in _RULES.extract(Window(1, 1, "a", parts)).candidates:
        (source,) = found.sources
        assert parts[source.message_id - 1].text[source.start : source.end] == found.content


def gates(raw: bytes) -> None:
    """The evidence about two texts; whatever it is, it is the same both ways round where it says that they agree."""
    one, other = (normalise(clean(each)) for each in halves(raw))
    judge(one, other, 0.99, 0.9)
    same_signature(one, other)
    assert judge(one, one, 1.0, 0.9).failed == judge(one, one, 1.0, 0.9).failed
    assert signature(one) == signature(one)
    merge_key(one)


def settings(raw: bytes) -> None:
    """A configuration file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memcli.toml"
        path.write_bytes(raw)
        with suppress(MemcliError):
            config.load({}, path, {}, Path(folder))


def variables(raw: bytes) -> None:
    """Settings from the environment."""
    name, value = halves(raw)
    with suppress(MemcliError):
        config.load({}, None, {f"MEMCLI_{name.upper()}": value}, Path("/nowhere"))


_TABLE = sqlite3.connect(":memory:", check_same_thread=False)
_TABLE.execute("CREATE VIRTUAL TABLE texts USING fts5 (text, tokenize='porter unicode61 remove_diacritics 2')")
_TABLE.execute("INSERT INTO texts VALUES ('the green tea of May 2026 OR NEAR AND NOT')")


def queries(raw: bytes) -> None:
    """A query becomes words for FTS5, all of them quoted."""
    query = clean(text_of(raw))
    words = words_of(query)
    asked = telling(words)
    possible_names(words)
    for day in [*dates_of(query), *dates_of("8 May 2023")]:
        closeness([day], "2026-03-01T00:00:00.000Z")
    if asked:
        with closing(_TABLE.execute("SELECT 1 FROM texts WHERE texts MATCH ?", (any_of(asked[:200]),))) as found:
            found.fetchall()


def answers(raw: bytes) -> None:
    """What a model may say."""
    text = text_of(raw)
    with suppress(UnreadableAnswerError):
        for each in statements(text):
            if not isinstance(each, str):
                json.dumps(each.content)
                each.content.encode()
                assert all(isinstance(number, int) for number in each.relates_to)
    schema(linked=True)
    find_quote(*(clean(each) for each in halves(raw)))


def exports(raw: bytes) -> None:
    """Lines of an export, of memcli or of another program."""
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        return
    if not isinstance(record, dict):
        return
    for parse in (parse_message, parse_star, parse_parted, lambda each: parse_plain(each, "f", (0, 1), None)):
        with suppress(ValueError):
            parse(record)


def texts(raw: bytes) -> None:
    """What every message goes through: noise filter, redaction, sentences, pieces, hashes."""
    text = clean(text_of(raw))
    text.encode()
    for role in ("user", "assistant", "system", "tool"):
        screen(role, "typed", text, FilterRules(10, "strict"))
        spans = [(start, end) for start, end, _ in recall_lines(role, text)]
        strip_recalled(text, spans)
    strip_injected(text)
    redacted, _ = redact(text)
    redact(redacted)
    for spans in (sentences(text), pieces(text)):
        assert all(0 <= start < end <= len(text) for start, end in spans)
    assert content_hash(text) == content_hash(normalise(text))


def output(raw: bytes) -> None:
    """What is written out: one line, nothing to act on, and JSON that gives the text back."""
    text = text_of(raw)
    for shown in (safe(text), one_line(text), json_line(text).removesuffix("\n")):
        assert not any(each < " " or "\x7f" <= each <= "\x9f" for each in shown)
        assert not set(shown) & set("\u202e\u2066\u200b\u2060\ufeff")
        shown.encode()
    assert json.loads(json_line(text)) == text


TARGETS = {
    target.__name__: target
    for target in (
        readers, archives, rules, patterns, extraction, gates, settings, variables, queries, answers, exports, texts,
        output,
    )
}  # fmt: skip


def corpus(name: str) -> list[bytes]:
    """What a target starts from: the fixtures, as far as they are of its kind and small."""
    if name == "gates":
        rows = map(json.loads, (FIXTURES / "dedup_pairs.jsonl").read_text(encoding="utf-8").splitlines())
        return [*(f"{row['a']}\xff".encode("latin-1", "replace") + row["b"].encode() for row in rows), *_MEASURES]
    wanted = {
        "archives": ("*.zip", "*.gz", "*.zst"),
        "rules": ("*.toml", "*.jsonl"),
        "settings": ("*.toml",),
    }.get(name, ("*.jsonl", "*.json"))
    files = sorted(path for pattern in wanted for path in FIXTURES.rglob(pattern))
    whole = [path.read_bytes() for path in files if path.stat().st_size < 1 << 16]
    return [*whole, *_SEEDS.get(name, ()), *_MEASURES]


_MEASURES = (b"", b"\xff", b"[" * 500, b"{" * 500, b'"' * 99, b"1" * 5000, "\u202e\x1b[31m[/]".encode())
_ID = "00112233445566778899aabbccddeeff"
_OWN = {"agent": "a", "session": "s", "start": 0, "end": 1}
_SAID = {"quote": "q", "messages": ["m1"], "statement": "s", "type": "semantic", "importance": 0.5, "keywords": []}
_SEEDS = {
    "rules": (
        b'{"rules": [{"name": "a", "pattern": "b(c|d)*", "keep": "match", "keywords": ["x"]}]}',
        b'disabled_starter_rules = ["starter-name"]\n[[rules]]\nname = "a"\npattern = \'\\bx\'\nimportance = 0.5\n',
    ),
    "patterns": (b"(a|b)*c{2,9}\xffaabbcc", b"\\bfoo\\b.*\xfffoo bar", b"prefer *\xffI prefer tea"),
    "settings": (
        b'profile = "local"\nbatch_size = 7\nmax_memory = "1GB"\n[budget]\nmax_usd = 1\n',
        b"[profiles.x]\nmax_messages = 9\n",
        b'[tiers.small]\nmodel = "m"\nbase_url = "http://localhost"\nprice_in = 1.5\n',
    ),
    "variables": (b"batch_size\xff7", b"max_memory\xff1 GiB", b"roles\xffuser,tool"),
    "gates": (
        b"The budget is $500.\xffThe budget is $5000.",
        b'I do not like tea, and **Ann** said "never" on March 5, 2026\xffI like tea; PR #260 in src/app.py v1.2.3',
    ),
    "queries": (b'"tea" OR NEAR(a b) -x * ^ col:y {z} 2023-05-08 May 8th', b"what did Ann decide about retries?"),
    "answers": (
        json.dumps({"memories": [{**_SAID, "number": 1, "relates_to": [2]}]}).encode(),
        b'Sure! ```json\n{"memories": [{"statement": "s", "quote": "q"}, {"st',
    ),
    "exports": (
        json.dumps({"kind": "message", "id": _ID, "role": "user", "text": "t", "file": "f", **_OWN}).encode(),
        b'{"id": 1, "content": "c", "metadata": {"a": {"b": [1, true, null]}}, "importance": 0.5, "tags": ["x"]}',
        json.dumps({"kind": "parted", "texts": [["a", _ID], ["b", _ID]], "cosine": 0.9, "overlap": 0.5}).encode(),
    ),
}
