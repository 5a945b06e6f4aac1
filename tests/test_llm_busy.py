"""A model's server that asks for patience: it is shown, it can be interrupted, and no window is given up for it."""

import signal
import time

import pytest
from support_chat import Chat, configure, honest, talk
from support_cli import finish, write_jsonl

SOON = {"retry-after-ms": "5"}


@pytest.fixture
def transcript(tmp_path):
    return write_jsonl(tmp_path / "chat.jsonl", talk(100))


def error(said, **more):
    return {"error": {"message": said, **more}}


def tiers(home):
    return dict(home.rows("SELECT status, count(*) FROM window_tiers WHERE tier = 'small' GROUP BY 1"))


def test_a_long_pause_is_told_when_it_begins_and_an_interruption_ends_it_at_once(home, transcript):
    with Chat(lambda _number, _body: (429, {"retry-after": "90"}, error("slow down"))) as chat:
        configure(home, chat.url, "small")
        began = time.monotonic()
        with home.start("ingest", transcript) as process:
            told = b""
            while b"waiting 90 s as the server asked" not in told:
                told += (line := process.stderr.readline())
                assert line, told
            process.send_signal(signal.SIGINT)
            done = finish(process)
        assert done.code == 130
        assert "waiting" not in done.err, "once is enough, whatever the number of threads"
    assert time.monotonic() - began < 90, "it waited all the same"


def test_how_long_an_answer_may_take_is_a_setting_of_its_tier(home, transcript):
    config = home.folder / "memcli.toml"
    with Chat() as chat:
        configure(home, chat.url, "small")
        slow = config.read_text().replace("[tiers.small]", "[tiers.small]\ntimeout = {}")
        for wrong in ("0", "-1", "4000", '"soon"', "true"):
            config.write_text(slow.format(wrong))
            done = home.run("ingest", transcript)
            assert (done.code, "timeout must be a number from 1 to 3600" in done.err) == (2, True), done.err
        config.write_text(slow.format(1))
        shown = home.run("config", "show", "--json")
        assert "timeout" in shown.out


def test_windows_of_a_provider_that_would_not_answer_so_many_calls_wait_and_use_up_no_try(home, transcript):
    with Chat(lambda _number, _body: (429, SOON, error("Rate limit reached"))) as chat:
        configure(home, chat.url, "small")
        for _ in range(7):  # more often than a window is tried
            done = home.run("ingest", transcript, "--json", "--quiet")
            assert done.code == 7
            assert (done.json["windows"]["failed"], done.json["windows"]["waiting"]) == (0, 5)
            assert tiers(home) == {"waiting": 5}
        assert home.rows("SELECT max(attempts) FROM window_tiers WHERE tier = 'small'") == [(0,)]
        chat.behave = lambda _number, _body: (429, SOON, error("You exceeded your quota", code="insufficient_quota"))
        before = len(chat.requests)
        done = home.run("ingest", transcript, "--concurrency", "1")
        assert (done.code, tiers(home)) == (7, {"waiting": 5})
        assert len(chat.requests) == before + 5, "one call with its retries tells that no other will fare better"
        assert "You exceeded your quota" in done.err
        chat.behave = lambda _number, body: (200, {}, honest(body))
        assert home.run("ingest", transcript).code == 0
    assert tiers(home) == {"done": 5}
