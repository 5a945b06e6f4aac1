"""The ChatGPT export: the branch of a tree that was shown, content types, damage, and memory that stays bounded."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest

from memcli.model import Message, Position, Rejected, Skipped
from memcli.protocols import Source
from memcli.readers import arrays, detect
from memcli.readers.arrays import ARRAY, MAX_DEPTH, WRAPPED_ARRAY, Unread, array_kind, read_elements, read_head
from memcli.readers.chatgpt import ChatGPTReader
from memcli.readers.fields import RESULT_LENGTH

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def message(content, role="user", **more):
    if isinstance(content, str):
        content = {"content_type": "text", "parts": [content]}
    return {"author": {"role": role}, "content": content, **more}


def tree(*nodes, current, **more):
    """Nodes are (id, parent, message)."""
    mapping = {node: {"id": node, "parent": parent, "message": found} for node, parent, found in nodes}
    return {"conversation_id": "c1", "mapping": mapping, "current_node": current, **more}


def read_bytes(raw, position=None, state=None):
    source = Source(io.BytesIO(raw), position or Position(), state={} if state is None else state)
    return list(ChatGPTReader().read(source))


def read(*conversations):
    return read_bytes(json.dumps(conversations).encode())


def one(found, **more):
    (item,) = read(tree(("n1", None, found), current="n1", **more))
    return item


def nasty(name):
    return read_bytes((FIXTURES / "nasty" / name).read_bytes())


def texts(items):
    return [item.text for item in items if isinstance(item, Message)]


def kinds(items):
    return [item.kind for item in items if isinstance(item, Skipped)]


def test_a_message_has_everything_its_node_tells():
    found = message("Hi.", "assistant", id="m1", create_time=1767000012.25, metadata={"model_slug": "gpt-4o"})
    assert one(found) == Message(
        "c1", "m1", "assistant", "Hi.", 0, 1, 1, "2025-12-29T09:20:12.250Z", model="gpt-4o", tags=("model:gpt-4o",)
    )


def test_the_shown_branch_is_read_from_the_root_and_the_others_are_counted():
    items = read(
        tree(
            ("root", None, None),
            ("edited", "root", message("first try")),
            ("a1", "edited", message("its answer", "assistant")),
            ("q", "root", message("second try")),
            ("a2", "q", message("regenerated", "assistant")),
            ("a3", "q", message("shown", "assistant")),
            current="a3",
        )
    )
    assert texts(items) == ["second try", "shown"]
    assert kinds(items) == ["no-message", *["side-branch"] * 3]
    assert [(item.end, item.line) for item in items if isinstance(item, Skipped)] == [(0, 0)] * 3 + [(1, 1)]


def test_trees_of_every_shape_are_survived():
    items = nasty("chatgpt-trees.json")
    assert texts(items) == [
        "I am my own grandparent.", "So am I.", "My parent does not exist.", "The chain ends above.",
        "Nobody says where the talk ended.", "The last leaf.", "Its current node is not there.", "I am my own parent.",
        "Only a node's name, and no links.", "A bare string as content.",
    ]  # fmt: skip
    assert kinds(items) == [
        "side-branch", "side-branch", "empty-conversation", "no-role/text", *["no-message"] * 3, "side-branch",
    ]  # fmt: skip
    assert [(item.line, item.reason) for item in items if isinstance(item, Rejected)] == [
        (10, "no conversation: mapping is missing or no object"),
        (11, "no conversation: mapping is missing or no object"),
        (12, "a number, not an object"),
        (13, "a string, not an object"),
        (14, "null, not an object"),
        (15, "a list, not an object"),
    ]


def test_every_content_type_has_its_place():
    items = nasty("chatgpt-shapes.json")
    assert [(item.key, item.origin, item.text) for item in items if isinstance(item, Message)] == [
        ("m0", "typed", "two\n\nparts"),
        ("m2", "tool_result", "a quote"),
        ("m3", "tool_result", "L0: a page"),
        ("m4", "tool_result", "a tool that answers in text"),
        ("m5", "tool_result", '{"prompt":"a boat"}'),
        ("m9", "typed", "an unknown speaker"),
        ("m11", "typed", "what was spoken"),
        ("m12", "injected", "hidden"),
        ("n13", "typed", "an id for the second time"),
        ("m14", "typed", "half an emoji ? and a NUL � here"),
    ]
    assert kinds(items) == [
        "assistant/text/empty",
        "user/tomorrows_type",
        "user/other",
        "user/text/empty",
        "no-role/text",
    ]


@pytest.mark.parametrize(
    ("content", "origin", "text"),
    [
        ({"content_type": "code", "language": "python", "text": "plot()"}, "tool_result", "plot()"),
        ({"content_type": "execution_output", "text": "x" * 5000}, "tool_result", "x" * RESULT_LENGTH),
        ({"content_type": "tether_browsing_display", "result": None, "summary": "a page"}, "tool_result", "a page"),
        (
            {"content_type": "user_editable_context", "user_profile": "Mira", "user_instructions": "metric"},
            "injected",
            "Mira\n\nmetric",
        ),
        ({"content_type": "multimodal_text", "parts": [{"asset_pointer": "file"}, "and words"]}, "typed", "and words"),
    ],
)
def test_what_programs_write_is_told_from_what_people_write(content, origin, text):
    item = one(message(content))
    assert (item.origin, item.text) == (origin, text)


@pytest.mark.parametrize("kind", ["thoughts", "reasoning_recap", "model_editable_context"])
def test_thoughts_are_skipped_and_counted_by_their_type(kind):
    assert one(message({"content_type": kind, "thoughts": [], "content": "x"}, "assistant")).kind == f"assistant/{kind}"


def test_tools_projects_and_models_become_tags():
    call = message("{}", "assistant", recipient="browser", metadata={"model_slug": "m-1"})
    assert one(call, gizmo_id="g-p-1").tags == ("project:g-p-1", "model:m-1", "tool:browser")
    answer = message({"content_type": "execution_output", "text": "1"}, author={"role": "tool", "name": "python"})
    assert one(answer, gizmo_id="g-abc").tags == ("tool:python",)


def test_a_session_without_id_is_known_by_its_nodes():
    with_id, by_id, first, again, other = (
        read({"mapping": {node: {"message": message("x")}}, **ids})[0].session_key
        for node, ids in (
            ("a", {"conversation_id": "c", "id": "i"}),
            ("a", {"id": "i"}),
            ("a", {}),
            ("a", {}),
            ("b", {}),
        )
    )
    assert (with_id, by_id) == ("c", "i")
    assert first == again != other


@pytest.mark.parametrize(
    ("name", "whole", "reason"),
    [
        ("chatgpt-truncated.json", 2, "behind 2 conversations: the file ends in the middle of the array"),
        ("chatgpt-glued.json", 3, "behind 3 conversations: parse error: trailing garbage"),
        ("chatgpt-corrupt.json", 2, "behind 2 conversations: lexical error: invalid bytes in UTF8 string"),
    ],
)
def test_what_is_whole_of_a_damaged_array_is_read_and_then_one_reason_is_given(name, whole, reason):
    *items, rejected = nasty(name)
    assert texts(items) == [text for n in range(whole) for text in (f"Question {n}?", f"Answer {n}.")]
    assert (rejected.start, rejected.end, rejected.line, rejected.reason) == (whole, whole, whole + 1, reason)
    again = read_bytes((FIXTURES / "nasty" / name).read_bytes(), Position(whole, whole), {"array": "item"})
    assert again == [rejected]


def test_an_array_inside_an_object_is_read():
    items = nasty("chatgpt-wrapped.json")
    assert [item.session_key for item in items] == ["c0", "c0", "c1", "c1", "c2", "c2"]
    raw = json.dumps(
        {"conversations": json.loads((FIXTURES / "nasty" / "chatgpt-wrapped.json").read_bytes())["conversations"]},
        indent=1,
    )
    assert read_bytes(raw.encode()) == items
    assert detect(raw.encode()).name == "chatgpt"
    (rejected,) = read_bytes(b'{"x": {"conversations": [{"mapping": {}}]}}')
    assert rejected.reason == "no array of conversations in it"


def test_lines_of_conversations_are_read_too():
    raw = b"".join(
        json.dumps(tree(("n1", None, message(text)), current="n1", conversation_id=text)).encode() + b"\n"
        for text in "ab"
    )
    assert [(item.text, item.line) for item in read_bytes(raw)] == [("a", 1), ("b", 2)]
    assert detect(raw).name == "chatgpt"


@pytest.mark.parametrize("opening", [b"[", b'[{"a":', b'[{"message": '])
@pytest.mark.parametrize("inner", [b"[", b'{"k":'])
def test_deep_nesting_ends_an_array_before_it_costs_memory(opening, inner):
    depth = 100_000
    raw = opening + inner * depth + b"0" + (b"]" if inner == b"[" else b"}") * depth + b"}]"
    tracemalloc.start()
    (rejected,) = read_bytes(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rejected.reason == "behind 0 conversations: nested too deeply"
    assert peak < 20 << 20


@pytest.mark.parametrize("chunk", [1, 7, 61, 1 << 16])
def test_brackets_in_strings_do_not_count_as_depth(monkeypatch, chunk):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", chunk)
    element = {"a": "[" * 3 * MAX_DEPTH, "b": '\\" {[' * 50 + "\\", "\\": ['"', "]", "}"], "c": "{" * MAX_DEPTH}
    elements = [element] * 5
    assert list(read_elements(io.BytesIO(json.dumps(elements).encode()), ARRAY)) == elements
    deepest = json.loads("[" * (MAX_DEPTH // 2) + "]" * (MAX_DEPTH // 2))
    assert list(read_elements(io.BytesIO(json.dumps([deepest] * 3).encode()), ARRAY)) == [deepest] * 3


def test_an_element_above_the_limit_ends_the_array(monkeypatch):
    monkeypatch.setattr(arrays, "MAX_LINE_BYTES", 1 << 20)
    small = tree(("n1", None, message("hi")), current="n1")
    first, rejected = read(small, tree(("n1", None, message("x" * (2 << 20))), current="n1"), small)
    assert first.text == "hi"
    assert rejected.reason == "behind 1 conversations: an element longer than 1 MiB"


class Endless(io.RawIOBase):
    """An array of `count` conversations, made as it is read."""

    def __init__(self, conversation, count):
        self._parts = iter([b"[", *[conversation + b","] * (count - 1), conversation + b"]"])
        self._left = b""

    def read(self, size=-1):
        while len(self._left) < size and (part := next(self._parts, b"")):
            self._left += part
        found, self._left = self._left[:size], self._left[size:]
        return found


def test_memory_does_not_grow_with_the_number_of_conversations():
    nodes = [(f"n{n}", f"n{n - 1}", message(f"turn {n} " * 500)) for n in range(10)]
    conversation = json.dumps(tree(*nodes, current="n9")).encode()
    peaks = []
    for count in (10, 200):
        tracemalloc.start()
        assert sum(1 for _ in ChatGPTReader().read(Source(Endless(conversation, count)))) == 10 * count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 20)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b'[{"a":1}]', ARRAY),
        (b"\xef\xbb\xbf \r\n[", ARRAY),
        (b"[\n{", ARRAY),
        (b"[1]\n\n\0", ARRAY),
        (b'[1]\n{"a":1}\n', None),
        (b"[1]\n[2]\n", ARRAY),
        (b'{"a":1}\n', None),
        (b'{"conversations": [{"mapping": {', WRAPPED_ARRAY),
        (b'{"conversations": [{"from": "human"', None),
        (b'{"mapping": {}, "conversations": [', None),
        (b'{"title": "\\"conversations\\": [", "mapping": {', None),
        (b"", None),
        (b"42", None),
    ],
)
def test_arrays_are_told_from_lines(head, kind):
    assert array_kind(head, wrapped=True) == kind
    assert array_kind(head) == (None if kind == WRAPPED_ARRAY else kind)


def test_what_was_looked_at_is_read_again():
    stream = io.BytesIO(b" " * 10 + b"[1, 2]" + b" " * 10)
    head = read_head(stream)
    unread = Unread(head, stream)
    assert unread.read(12) + unread.read(3) + unread.read() == stream.getvalue()
    assert read_head(io.BytesIO(b'{"a":1}\n' * 20_000), wrapped=True) != b""
