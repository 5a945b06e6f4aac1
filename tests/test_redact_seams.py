"""A credential that goes on from one record of a message to the next: within a run, over two runs, within a batch."""

import random
import string
import time

import pytest
from support_ingest import append, assert_sound, assistant, query, run, texts, user, write

from memcli.redact import redact
from memcli.redact.seams import redact_behind, redact_pieces

ANY = random.Random(5)  # noqa: S311 - test data
KEY = "sk-" + "ant-api03-" + "".join(ANY.choices(string.ascii_letters + string.digits, k=60))
ROWS = ["".join(ANY.choices(string.ascii_letters + string.digits + "+/", k=64)) for _ in range(8)]
BLOCK = "-----BEGIN PRIVATE " + "KEY-----"
END = "-----END PRIVATE " + "KEY-----"
PARTED = {
    "in its middle": (f"Use this key: {KEY[:16]}", f"{KEY[16:]} and nothing else.", KEY[16:]),
    "in its prefix": (f"Use this key: {KEY[:5]}", f"{KEY[5:]} and nothing else.", KEY[5:]),
    "behind its name": ("Set it like this: DB_PASSWORD=", "hun" + "ter2Quux! and restart.", "hun" + "ter2Quux"),
    "behind the head of a block": (f"Save this:\n{BLOCK}", "\n".join([*ROWS, END, "Done."]), ROWS[0]),
    "within a block": (
        "\n".join(["Save this:", BLOCK, *ROWS[:4]]),
        "\n".join([*ROWS[4:], END, "Done."]),
        ROWS[6],
    ),
}
SEPARATOR = "\n\n"


@pytest.mark.parametrize(("first", "second", "secret"), PARTED.values(), ids=PARTED)
@pytest.mark.parametrize("how", ["one run", "two runs", "another record between", "one batch"])
def test_the_second_half_is_not_stored(tmp_path, first, second, secret, how):
    db, path = tmp_path / "m.db", tmp_path / "a.jsonl"
    one, two = assistant(first, "r1", "msg"), assistant(second, "r2", "msg")
    write(path, one)
    if how == "two runs":
        run(db, path)
    if how in {"another record between", "one batch"}:
        append(path, user("I prefer tea to coffee in the morning.", "u1"))
    append(path, two)
    run(db, path, **({"batch_size": 1} if how == "another record between" else {}))
    said = next(text for text in texts(db) if "[redacted:" in text)
    assert said.startswith(redact(first)[0][:12])
    assert said.endswith(second[-5:])
    assert secret not in said
    for stored in ("SELECT text FROM messages", "SELECT content FROM memories"):
        assert not any(secret in text for (text,) in query(db, stored))
    assert secret.encode() not in db.read_bytes()
    assert_sound(db)  # also: every memory stands where its provenance says


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("The token is in the vault.", "I have looked at it, and it is fine 12345."),
        ("See https://example.org/path/to", "docs/2024/01/a8f5f167f44f4964e6c998dee827110c for more."),
        (f"Here is a key: {KEY}", "It is the one that you asked for, as of 2024-01-02."),
        ("\n".join([BLOCK, *ROWS, END]), "That is the whole block, nothing follows on it."),
        ("The password:", "I cannot tell you that."),
        ("", "Nothing stood before."),
        ("task-", "list/of-things-that-we-do.md"),
    ],
)
def test_what_is_no_credential_stays_as_it_is(first, second):
    before, _ = redact(first)
    assert redact_behind(before, second, SEPARATOR) == (second, {})


def test_pieces_without_a_seam_are_redacted_as_one_text_is():
    pieces = [f"Use {KEY} here.", "And AKIA" + "IOSFODNN7EXAMPLQ there.", "No more of it."]
    assert redact_pieces("", pieces, SEPARATOR) == redact(SEPARATOR.join(pieces))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("PGPASSWORD=x1", "Restarted postgres-14 on port 5432."),
        ("--password=abc1", "Migration0007 was applied."),
        ("see https://user:pw", "Then@mention someone."),
    ],
)
def test_a_word_is_no_more_of_a_value_that_ended_with_its_record(first, second):
    assert redact(f"{first}{SEPARATOR}{second}")[1] == {}
    assert redact_pieces("", [first, second], SEPARATOR) == (f"{first}{SEPARATOR}{second}", {})


def test_a_message_of_very_many_pieces_costs_no_more_for_each():
    long, pieces = "A line of a log without any key. " * 200_000, ["It goes on."] * 200
    began = time.process_time()
    redact_pieces("", [long[:8000], *pieces], SEPARATOR)
    short = time.process_time() - began
    began = time.process_time()
    said, _ = redact_pieces(long, pieces, SEPARATOR)
    assert time.process_time() - began < 10 * short + 0.2
    assert said == SEPARATOR.join(pieces)
