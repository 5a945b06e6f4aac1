"""How large memcli grows on a ChatGPT export of 300 MB, which is generated: `make torture` measures it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support_cli import ROOT, Home

import memcli.bench
import memcli.embed

EXPORT_BYTES = 300_000_000
ALLOWED_RSS = 300_000_000
MEASURE = memcli.bench.__path__[0] + "/measure.py"
TOKENIZER = Path(memcli.embed.__path__[0]) / "default" / "tokenizer.json"
COMMON = "the of and to in a is that it for was on with as be by not this are or from at have an but which they you we"

# What an export holds beside the talk: status, citations, search results, the output of programs.
_METADATA = {
    "is_visually_hidden_from_conversation": None, "serialization_metadata": {"custom_symbol_offsets": []},
    "request_id": "9b1f3c55d6a20e41-LIS", "message_type": "next", "model_slug": "gpt-4o", "timestamp_": "absolute",
    "default_model_slug": "gpt-4o", "finish_details": {"type": "stop", "stop_tokens": [200002]}, "is_complete": True,
    "citations": [], "content_references": [], "parent_id": None, "search_result_groups": [],
}  # fmt: skip


class Talk:
    """Texts of one conversation: common words, and some of many words that are its own."""

    def __init__(self, draw, words):
        self._draw = draw
        self._words = draw.sample(words, 120) + COMMON.split() * 5

    def sentences(self, count):
        """So many sentences in one text."""
        return " ".join(
            " ".join(self._draw.choices(self._words, k=self._draw.randint(8, 20))).capitalize() + "."
            for _ in range(count)
        )


def _node(draw, author, content, parent, number):
    name = f"{draw.getrandbits(64):016x}-{number}"
    moment = 1_700_000_000.25 + 41.5 * number
    message = {
        "id": name, "author": {"role": author, "name": None, "metadata": {}}, "create_time": moment,
        "update_time": None, "content": content, "status": "finished_successfully", "end_turn": True, "weight": 1.0,
        "metadata": {**_METADATA, "parent_id": parent}, "recipient": "all", "channel": None,
    }  # fmt: skip
    return name, {"id": name, "message": message, "parent": parent, "children": []}


def _conversation(draw, words, number):
    talk = Talk(draw, words)
    mapping = {"root": {"id": "root", "message": None, "parent": None, "children": []}}
    last = "root"
    for turn in range(draw.randint(2, 16)):
        contents = [("user", {"content_type": "text", "parts": [talk.sentences(draw.randint(1, 3))]})]
        if draw.random() < 0.3:  # a search or a program now and then
            contents.append(("tool", {"content_type": "execution_output", "text": talk.sentences(60)}))
        contents.append(("assistant", {"content_type": "text", "parts": [talk.sentences(draw.randint(3, 9))]}))
        for place, (author, content) in enumerate(contents):
            name, node = _node(draw, author, content, last, 1000 * number + 10 * turn + place)
            mapping[last]["children"].append(name)
            mapping[name] = node
            last = name
    return {
        "title": talk.sentences(1)[:40], "create_time": 1_700_000_000.5, "update_time": 1_700_009_000.5,
        "mapping": mapping, "moderation_results": [], "current_node": last, "plugin_ids": None,
        "conversation_id": f"c{number}", "conversation_template_id": None, "gizmo_id": None, "is_archived": False,
        "safe_urls": [], "default_model_slug": "gpt-4o", "id": f"c{number}",
    }  # fmt: skip


def write_export(path, size):
    """Write conversations as ChatGPT exports them, about `size` bytes in one array; give how many they are."""
    draw = random.Random(7)  # noqa: S311 - no secret
    vocabulary = json.loads(TOKENIZER.read_text(encoding="utf-8"))["model"]["vocab"]
    words = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 3]
    written = count = 0
    with path.open("w", encoding="utf-8") as out:
        while written < size:
            written += out.write("," if count else "[")
            written += out.write(json.dumps(_conversation(draw, words, count), separators=(",", ":")))
            count += 1
        out.write("]")
    return count


def measured(home, *args):
    """Run memcli by the benchmark's measuring program: a small parent, so that the peak is memcli's own."""
    report = home.folder / "report.json"
    command = [sys.executable, MEASURE, report, sys.executable, "-m", "memcli", *args, "--json"]
    done = subprocess.run(list(map(str, command)), env=home.env, cwd=ROOT, capture_output=True, check=True)
    return json.loads(done.stdout), json.loads(report.read_text())


@pytest.mark.torture
def test_an_export_of_300_mb_is_read_in_less_than_300_mb_of_memory(tmp_path):
    home = Home(tmp_path / "home")
    export = tmp_path / "conversations.json"
    count = write_export(export, EXPORT_BYTES)
    assert export.stat().st_size >= EXPORT_BYTES
    process, report = measured(home, "ingest", export)
    print(f"peak RSS {process['peak_rss'] / 1e6:.0f} MB, {process['seconds']:.0f} s, {report['memories']}")  # noqa: T201
    assert process["code"] == 0
    assert home.rows("SELECT count(*) FROM sessions") == [(count,)]
    assert report["messages"]["new"] > 10 * count
    assert process["peak_rss"] < ALLOWED_RSS
