"""The bill: what is spent is what the server counted, no limit is passed, and reaching one keeps everything done."""

import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_chat import PRICE_IN, PRICE_OUT, Chat, completion, configure, honest, talk
from support_cli import write_jsonl
from support_ingest import assert_sound

from memcli.extract.prompt import worst_case
from memcli.ingest.budget import Budget, BudgetReachedError, Limits
from memcli.store.calls import Spent


@pytest.fixture
def transcript(tmp_path):
    return write_jsonl(tmp_path / "chat.jsonl", talk(240))


def slow(_number, body):
    """An answer after a while, with about as many tokens as a real model would count."""
    time.sleep(0.03)
    text = honest(body)["choices"][0]["message"]["content"]
    size = sum(len(message["content"]) for message in body["messages"])
    return 200, {}, completion(text, (size // 4, len(text) // 4))


def spent(home):
    (row,) = home.rows(
        "SELECT count(*), sum(tokens_in), sum(tokens_out), sum(cost_usd) FROM model_calls WHERE status <> 'failed'"
    )
    return row


def test_what_is_accounted_is_what_the_server_counted_in_all_places(home, transcript):
    def varied(number, body):
        if number % 5 == 0:
            return 500, {"retry-after-ms": "5"}, {"error": {"message": "out of order"}}
        found = honest(body)
        return 200, {}, completion(found["choices"][0]["message"]["content"], (1000 + 37 * number, 11 * number))

    with Chat(varied) as chat:
        configure(home, chat.url, "small", "premium")
        report = home.run("ingest", transcript, "--json", "--quiet", "--concurrency", "6").json
        calls, tokens_in, tokens_out, usd = spent(home)
        assert len(chat.usage) == calls == 24
        assert len(chat.requests) > 24
        assert (tokens_in, tokens_out) == tuple(map(sum, zip(*chat.usage, strict=True)))
        assert usd == pytest.approx(chat.dollars, rel=1e-12)
        assert report["cost_usd"] == pytest.approx(chat.dollars, rel=1e-12)
        for table in ("windows", "batches"):
            assert home.rows(f"SELECT sum(tokens) FROM {table}") == [(tokens_in + tokens_out,)]
            assert home.rows(f"SELECT sum(cost_usd) FROM {table}")[0][0] == pytest.approx(chat.dollars, rel=1e-12)
        for tier in ("small", "premium"):
            told = report["models"][tier]
            row = home.rows(
                "SELECT count(*) FILTER (WHERE status = 'done'), count(*) FILTER (WHERE status = 'failed'),"
                " sum(tokens_in), sum(tokens_out) FROM model_calls WHERE tier = ?",
                tier,
            )
            assert row == [(told["calls"], told["refused"], told["tokens_in"], told["tokens_out"])]
    assert home.rows("SELECT DISTINCT agent_id, model, run_id, messages FROM model_calls WHERE tier = 'small'") == [
        ("default", "small-model", 1, 20)
    ]
    assert home.rows("SELECT count(*) FROM model_calls WHERE window_id IS NULL OR started_at IS NULL") == [(0,)]


def worst(body):
    texts = [message["content"] for message in body["messages"]]
    return (worst_case(*texts) * PRICE_IN + body["max_tokens"] * PRICE_OUT) / 1e6


@pytest.mark.parametrize("concurrency", ["1", "8"])
def test_max_usd_stops_before_the_limit_is_passed_and_the_next_run_goes_on(home, transcript, concurrency):
    with Chat(slow) as chat:
        configure(home, chat.url, "small")
        limit = 0.05
        done = home.run("ingest", transcript, "--max-usd", str(limit), "--concurrency", concurrency, "--json")
        assert done.code == 7
        assert "the budget is reached: max_usd = 0.05 (0.0" in done.err
        asked = len(chat.requests)
        assert 0 < asked < 12
        # It could not have been one call more: at worst that would have passed the limit (the schema counts as well).
        assert chat.dollars <= limit < chat.dollars + worst(chat.bodies[0]) + 0.003
        assert done.json["cost_usd"] == pytest.approx(chat.dollars)
        windows = done.json["windows"]
        assert (windows["processed"], windows["waiting"], windows["failed"]) == (12, 12 - asked, 0)
        # Rules and verbatim saw everything, and all that was answered is kept.
        assert home.rows("SELECT count(*) FROM memories WHERE extraction_method = 'verbatim'") == [(240,)]
        assert home.rows("SELECT count(*) FROM memories WHERE extraction_method LIKE 'small:%'") == [(2 * asked,)]
        again = home.run("ingest", transcript, "--json", "--quiet")
        assert again.code == 0, again.err
        assert len(chat.requests) == 12
        assert again.json["models"]["small"]["windows"]["done"] == 12 - asked
        assert home.rows("SELECT count(*) FROM memories WHERE extraction_method LIKE 'small:%'") == [(24,)]
        assert home.rows("SELECT status, attempts, count(*) FROM window_tiers WHERE tier = 'small' GROUP BY 1, 2") == [
            ("done", 1, 12)
        ]
    assert_sound(home.db)


def test_max_calls_counts_calls_of_both_tiers(home, transcript):
    with Chat(slow) as chat:
        configure(home, chat.url, "small", "premium", free="")
        for limit, calls in ((0, 0), (5, 5)):
            done = home.run("ingest", transcript, "--max-calls", str(limit), "--concurrency", "8", "--quiet")
            assert (done.code, len(chat.requests)) == (7, calls)


def test_max_tokens_counts_both_ways(home, transcript):
    with Chat(slow) as chat:
        configure(home, chat.url, "small")
        assert home.run("ingest", transcript, "--max-tokens", "9000", "--concurrency", "8", "--quiet").code == 7
        assert 0 < sum(map(sum, chat.usage)) <= 9000


def test_the_budget_of_a_month_counts_earlier_runs_and_is_open_again_the_next(home, transcript, tmp_path):
    with Chat() as chat:
        configure(home, chat.url, "small", settings="[budget]\nmax_calls_per_month = 15")
        assert home.run("ingest", transcript).code == 0
        more = write_jsonl(tmp_path / "more.jsonl", talk(200, "s2"))
        done = home.run("ingest", more)
        assert (done.code, len(chat.requests)) == (7, 15)
        assert "max_calls_per_month = 15" in done.err
        assert home.run("ingest", more).code == 7
        assert len(chat.requests) == 15
        code = (
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('UPDATE model_calls SET started_at ='"
            " \" date(started_at, 'start of month', '-2 days')\"); db.commit()"
        )
        assert home.python(code, home.db).code == 0
        assert home.run("ingest", more).code == 0
        assert len(chat.requests) == 22


def test_retries_are_within_the_budget_and_refused_calls_cost_nothing(home, transcript):
    def refusing(_number, _body):
        return 429, {"retry-after-ms": "2"}, {"error": {"message": "slow down"}}

    with Chat(refusing) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript, "--max-calls", "3", "--json", "--quiet")
        assert done.code == 7
        assert len(chat.requests) > 3
    assert done.json["cost_usd"] == 0
    assert home.rows("SELECT status, sum(tokens_in), sum(cost_usd) FROM model_calls GROUP BY 1") == [("failed", 0, 0.0)]


def test_a_limit_in_dollars_needs_a_price_and_none_is_guessed(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small", price_in=None, price_out=None)
        done = home.run("ingest", transcript, "--max-usd", "1")
        assert (done.code, chat.requests) == (2, [])
        assert "no price is known for small-model" in done.err
        assert not home.db.exists()
        report = home.run("ingest", transcript, "--json", "--quiet").json
        assert report["models"]["small"]["cost_usd"] is None
        assert home.rows("SELECT DISTINCT cost_usd FROM model_calls") == [(None,)]
        assert "price unknown" in home.run("ingest", write_jsonl(home.folder / "b.jsonl", talk(20, "s9"))).out


def test_a_server_that_counts_no_tokens_is_booked_at_the_worst(home, tmp_path):
    def silent(_number, body):
        document = honest(body)
        del document["usage"]
        return 200, {}, document

    with Chat(silent) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", write_jsonl(tmp_path / "chat.jsonl", talk(60)))
        assert done.err.count("the small model does not say how many tokens it took") == 1
        ((tokens_in, tokens_out),) = home.rows("SELECT tokens_in, tokens_out FROM model_calls LIMIT 1")
        assert tokens_out == 300
        assert tokens_in >= worst_case(*(message["content"] for message in chat.bodies[0]["messages"]))


# --- the budget itself -----------------------------------------------------------------------------------------------

CALLS = st.lists(
    st.tuples(st.integers(1, 100), st.floats(0, 1), st.floats(0, 5)).map(lambda t: (t[0], int(t[0] * t[1]), t[2])),
    max_size=30,
)


@given(CALLS, st.integers(0, 500), st.integers(0, 12), st.floats(0, 20))
def test_no_limit_is_ever_passed(calls, tokens, most, usd):
    budget = Budget(Limits(usd, most, tokens), Limits(), Spent())
    total = [0, 0, 0.0]
    for reserved, actual, dollars in calls:
        try:
            budget.reserve(reserved, dollars)
        except BudgetReachedError:
            assert total[0] + 1 > most or total[1] + reserved > tokens or total[2] + dollars > usd * (1 - 1e-9)
            continue
        budget.settle((reserved, dollars), actual, dollars / 2)
        total = [total[0] + 1, total[1] + actual, total[2] + dollars / 2]
        assert total[0] <= most
        assert total[1] <= tokens
        assert total[2] <= usd * (1 + 1e-9)


def test_many_threads_fill_a_budget_to_the_last_call_and_no_further():
    budget = Budget(Limits(calls=40, tokens=1000), Limits(), Spent())
    under_way, peak, done, lock = 0, 0, [], threading.Lock()

    def work():
        nonlocal under_way, peak
        while True:
            try:
                budget.reserve(100, 0.0)
            except BudgetReachedError:
                return
            with lock:
                under_way += 1
                peak = max(peak, under_way)
            time.sleep(0.001)
            with lock:
                under_way -= 1
            budget.settle((100, 0.0), 10, 0.0)
            done.append(10)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 40
    assert peak <= 10


@pytest.mark.parametrize("scope", ["run", "month"])
def test_what_waits_is_let_in_when_another_call_turns_out_cheaper(scope):
    limits = {"run": Limits(), "month": Limits(), scope: Limits(tokens=100)}
    budget = Budget(limits["run"], limits["month"], Spent())
    budget.reserve(80, 0.0)
    entered = threading.Event()
    waiting = threading.Thread(target=lambda: (budget.reserve(60, 0.0), entered.set()))
    waiting.start()
    assert not entered.wait(0.05)
    budget.settle((80, 0.0), 30, 0.0)
    assert entered.wait(10)
    waiting.join()


def test_a_refused_call_is_none():
    budget = Budget(Limits(calls=1), Limits(), Spent())
    budget.reserve(5, 0.0)
    budget.settle((5, 0.0), 0, 0.0, counts=False)
    budget.reserve(5, 0.0)
    budget.settle((5, 0.0), 5, 0.0)
    with pytest.raises(BudgetReachedError, match="max_calls = 1"):
        budget.reserve(5, 0.0)


def test_a_limit_that_no_call_fits_into_says_what_a_call_may_take(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript, "--max-tokens", "3000")
        assert chat.requests == []
    assert done.code == 7
    found = re.search(r"max_tokens = 3000 \(0 taken so far, at most (\d+) for the next call\)", done.err)
    assert found is not None
    assert int(found[1]) > 3000
    assert home.rows("SELECT DISTINCT error FROM window_tiers WHERE status = 'waiting'") == [
        ("the budget is reached: max_tokens = 3000",)
    ]


def test_a_large_limit_is_written_out():
    with pytest.raises(BudgetReachedError, match=r"^max_tokens = 2000000$"):
        Budget(Limits(tokens=2_000_000), Limits(), Spent()).reserve(2_000_001, 0.0)


def test_thoughts_that_only_the_total_counts_are_paid_like_what_is_written(home, transcript):
    def thinking(_number, body):
        document = honest(body)
        document["usage"] = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 620}
        return 200, {}, document

    with Chat(thinking) as chat:
        configure(home, chat.url, "small")
        report = home.run("ingest", transcript, "--json", "--quiet").json
    calls, tokens_in, tokens_out, usd = spent(home)
    assert (calls, tokens_in, tokens_out) == (12, 1200, 12 * 520)
    assert report["cost_usd"] == pytest.approx(usd) == pytest.approx((1200 * PRICE_IN + 6240 * PRICE_OUT) / 1e6)
