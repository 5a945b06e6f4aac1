"""`memcli cost` and `memcli profiles` as their users run them: nobody is called, nothing is written, sums are exact."""

import json
import re
import sqlite3
from contextlib import closing

import pytest
from rich.cells import cell_len
from support_cli import FIXTURES, UNSAFE, Home, write_jsonl
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from memcli.config import PROFILES

ACCEPTANCE = ("--messages-per-day", "50", "--agents", "1000", "--days", "30", "--profile", "customer-support")
MODELS = ("--model", "small=gpt-4.1-mini", "--model", "premium=gpt-4.1")
# A window per message and every window seen, so that the calls can be counted by hand.
EACH = """
[profiles.each]
max_messages = 1
timeout_minutes = 0
min_messages = 1
rate = 1.0
min_chars = 1
filters = "none"
tiers = ["small", "premium"]
[tiers.small]
model = "gpt-4.1-mini"
min_messages = 1
[tiers.premium]
model = "gpt-4.1"
min_messages = 1
"""
NASTY = "\x1b[31mred\x1b[0m [bold]\u202eagent"


def chat(folder, agents=("ann", "bob"), messages=6):
    """`messages` messages of each agent on as many days."""
    return write_jsonl(
        folder / "chat.jsonl",
        (
            {
                "id": f"{agent}-{number}",
                "session_id": f"of {agent}",
                "agent_id": agent,
                "role": "user",
                "content": f"On day {number} {agent} planted {number * 7} cherry trees behind the house.",
                "timestamp": f"2026-03-{number + 1:02}T12:00:00Z",
            }
            for number in range(messages)
            for agent in agents
        ),
    )


def config(home, text=EACH):
    (home.folder / "memcli.toml").write_text(text, encoding="utf-8")


def test_the_acceptance_example_is_what_the_command_line_says(home):
    found = home.run("cost", "scenario", *ACCEPTANCE, "--json").json
    assert (found["messages"], found["windows"], found["processed"]) == (1_500_000, 75_000, 22_500)
    assert (found["usd"], found["usd_per_agent"], found["usd_per_day"]) == (450.0, 0.45, 15.0)
    by_name = {each["profile"]: each for each in found["profiles"]}
    assert set(by_name) == set(PROFILES) - {"local"}
    assert by_name["comprehensive"]["usd"] == 10_200.0
    shown = home.run("cost", "scenario", *ACCEPTANCE).out
    assert "$450.00  22,500 calls at $0.02" in shown
    assert re.search(r"per agent +\$0\.45 ", shown)


def test_prices_per_window_and_per_token_take_the_place_of_the_planning_prices(home):
    dear = home.run("cost", "scenario", *ACCEPTANCE, "--window-price", "small=0.05", "--json").json
    assert dear["usd"] == 22_500 * 0.05
    by_model = home.run("cost", "scenario", *ACCEPTANCE, *MODELS, "--json").json
    assert by_model["tiers"][0]["price"] == "gpt-4.1-mini"
    own = home.run("cost", "scenario", *ACCEPTANCE, "--model", "small=x", "--price", "small=4,16", "--json").json
    assert own["usd"] == pytest.approx(10 * by_model["usd"], abs=1e-5)
    # A premium model says nothing of a profile without that tier.
    assert home.run("cost", "scenario", *ACCEPTANCE, *MODELS[2:], "--json").json["usd"] == 450.0


def test_the_factor_saved_is_worked_out_from_windows_and_rate(home):
    found = home.run("cost", "scenario", *ACCEPTANCE, *MODELS, "--json").json["one_call_per_message"]
    assert found["calls"] == 1_500_000
    plan = home.run("cost", "scenario", *ACCEPTANCE, *MODELS, "--json").json
    assert found["factor"] == pytest.approx(found["usd"] / plan["usd"], rel=1e-3)
    assert found["factor"] == pytest.approx(found["factor_by_windows"] / 0.3, rel=1e-3)
    assert found["goal"] == 5
    longer = home.run("cost", "scenario", *ACCEPTANCE, *MODELS, "--tokens-per-message", "5000", "--json").json
    # Where messages are long, the prompt that windows share hardly counts.
    assert longer["one_call_per_message"]["factor_by_windows"] < found["factor_by_windows"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--messages-per-day", "0"), "not a number of messages"),
        (("--messages-per-day", "nan"), "not a number of messages"),
        (("--messages-per-day", "5", "--window-price", "small=-1"), "no number of dollars"),
        (("--messages-per-day", "5", "--window-price", "tiny=1"), "no tier of that name"),
        (("--messages-per-day", "5", "--price", "small=1"), "two prices are needed"),
        (("--messages-per-day", "5", "--model", "small="), "no model is named"),
        (("--messages-per-day", "5", "--model", "small=unheard-of", "--profile", "balanced"), "price of unheard-of"),
    ],
)
def test_a_plan_that_cannot_be_made_is_wrong_usage_with_a_hint(home, words, said):
    done = home.run("cost", "scenario", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.strip().split("\n")) == 2


def test_profiles_whose_price_is_not_known_are_left_out_of_the_comparison(home):
    done = home.run("cost", "scenario", *ACCEPTANCE, "--model", "premium=unheard-of", "--json")
    assert (done.code, done.json["usd"]) == (0, 450.0)
    left_out = {"comprehensive", "maximum", "therapy"}
    assert {each["profile"] for each in done.json["profiles"]} == set(PROFILES) - {"local"} - left_out
    assert "left out of the comparison: comprehensive, maximum, therapy; the price of unheard-of is" in done.err


def test_an_unknown_profile_is_planned_with_a_rate_of_one_fifth_and_a_warning(home):
    done = home.run("cost", "scenario", "--messages-per-day", "100", "--profile", "thearpy", "--json")
    assert (done.json["profile"], done.json["windows"], done.json["processed"]) == ("thearpy", 150, 30)
    assert 'unknown profile "thearpy" (did you mean "therapy"?)' in done.err
    assert home.run("cost", "scenario", "--messages-per-day", "1", "--profile", "x", "-q").err == ""


def test_an_estimate_counts_every_call_of_the_real_input_and_leaves_nothing_behind(home):
    config(home)
    path = chat(home.folder)
    done = home.run("cost", "estimate", path, "--profile", "each", "--json")
    assert (done.code, done.err) == (0, "")
    found = done.json
    assert (found["messages"], found["windows"], found["calls"]) == (12, 12, 24)
    assert {each["tier"]: each["calls"] for each in found["tiers"]} == {"small": 12, "premium": 12}
    assert {each["agent"]: each["calls"] for each in found["agents"]} == {"ann": 12, "bob": 12}
    assert [each["day"] for each in found["days"]] == [f"2026-03-0{day}" for day in range(1, 7)]
    assert found["span_days"] == 6
    small, premium = found["tiers"]
    assert small["usd"] == pytest.approx((small["tokens_in"] * 0.4 + small["tokens_out"] * 1.6) / 1e6, abs=1e-6)
    assert premium["most_usd"] == pytest.approx((premium["tokens_in"] * 2 + 12 * 800 * 8) / 1e6, abs=1e-6)
    assert found["usd"] == pytest.approx(small["usd"] + premium["usd"], abs=2e-6)
    assert found["usd_per_day"] == pytest.approx(found["usd"] / 6, abs=1e-6)
    assert found["usd_per_month"] == pytest.approx(found["usd"] * 5, abs=1e-5)
    # A window per message leaves nothing for windows to save.
    assert (found["one_call_per_message"]["calls"], found["one_call_per_message"]["factor_by_windows"]) == (24, 1.0)
    assert small["is_exact"] is False
    assert small["price"]["date"] == "2026-06-21"
    assert not home.db.exists()


def test_an_estimate_is_of_the_input_whatever_was_ingested_before(home):
    config(home)
    path = chat(home.folder)
    first = home.run("cost", "estimate", path, "--profile", "each", "--json").json
    assert home.run("ingest", path, "-q").code == 0
    assert home.run("cost", "estimate", path, "--profile", "each", "--json").json == first


def test_an_estimate_above_the_budget_of_a_run_says_so(home):
    path = chat(home.folder)
    config(home, EACH + "[budget]\nmax_usd = 0.001\n")
    above = home.run("cost", "estimate", path, "--profile", "each")
    assert above.code == 0
    assert "more than max_usd, $0.001:" in above.err
    config(home, EACH + "[budget]\nmax_usd = 5\n")
    assert home.run("cost", "estimate", path, "--profile", "each").err == ""


def test_with_the_models_tokenizer_the_count_is_exact(home):
    config(home)
    tokenizer = Tokenizer(WordLevel({"?": 0}, "?"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.enable_truncation(4)
    tokenizer.save(str(home.folder / "words.json"))
    path = chat(home.folder, ("ann",), 1)
    words = home.run("cost", "estimate", path, "--profile", "each", "--tokenizer", "small=words.json", "--json").json
    small, premium = words["tiers"]
    assert (small["is_exact"], small["counted_by"], premium["is_exact"]) == (True, "words.json", False)
    prompt = (home.folder / "prompt.md").write_text("one two three", encoding="utf-8")
    assert prompt == 13
    config(home, EACH.replace("[tiers.premium]", 'prompt = "prompt.md"\ntokenizer = "words.json"\n[tiers.premium]'))
    own = home.run("cost", "estimate", path, "--profile", "each", "--json").json["tiers"][0]
    # Three words of the prompt, those of the message, and what stands around it: a few, and no piece of any.
    message = len("On day 0 ann planted 0 cherry trees behind the house.".split())
    assert own["is_exact"] is True
    assert 3 + message + 4 <= own["tokens_in"] <= 3 + message + 16
    assert small["tokens_in"] > own["tokens_in"]


def test_another_model_than_the_settings_has_neither_its_tokenizer_nor_its_prices(home):
    config(home, EACH.replace("[tiers.premium]", 'tokenizer = "no.json"\nprice_in = 7\nprice_out = 7\n[tiers.premium]'))
    words = ("--profile", "each", "--extract", "small", "--json")
    path = chat(home.folder, ("ann",), 1)
    other = home.run("cost", "estimate", path, *words, "--model", "small=gpt-4.1").json["tiers"][0]
    assert (other["is_exact"], other["price"]["usd_in"]) == (False, 2.0)
    own = home.run("cost", "estimate", path, *words, "--model", "small=gpt-4.1-mini")
    assert (own.code, "no.json" in own.err) == (2, True)


def test_an_estimate_needs_a_model_and_its_price_and_never_guesses(home):
    path = chat(home.folder)
    none = home.run("cost", "estimate", path, "--profile", "balanced")
    assert (none.code, none.out) == (2, "")
    assert "no model is set for small" in none.err
    unknown = home.run("cost", "estimate", path, "--profile", "balanced", "--model", "small=unheard-of")
    assert unknown.code == 2
    assert "the price of unheard-of is not known" in unknown.err
    assert "--price small=IN,OUT" in unknown.err
    words = ("--profile", "balanced", "--model", "small=unheard-of", "--price", "small=0,0", "--flush", "--json")
    free = home.run("cost", "estimate", path, *words)
    assert (free.code, free.json["usd"]) == (0, 0.0)
    config(home, '[tiers.small]\nmodel = "unheard-of"\nprice_in = 1\nprice_out = 1\n')
    assert home.run("cost", "estimate", path, "--profile", "balanced").code == 0


def test_a_local_profile_calls_nobody_and_a_missing_tier_is_named(home):
    path = chat(home.folder)
    local = home.run("cost", "estimate", path, "--json").json
    assert (local["calls"], local["usd"], local["messages"]) == (0, 0.0, 12)
    half = home.run("cost", "estimate", path, "--profile", "maximum", *MODELS[:2])
    assert half.code == 0
    assert "premium is left out, no model is set for it" in half.err


def test_lines_that_cannot_be_read_are_reported_as_ingest_does(home):
    path = chat(home.folder)
    with path.open("a") as file:
        file.write("{broken\n")
    done = home.run("cost", "estimate", path, "--profile", "balanced", *MODELS[:2], "--json")
    assert done.code == 3
    assert done.json["lines_rejected"] == 1
    assert "not taken: lines 1" in done.err


def test_an_estimate_opens_no_socket_and_needs_no_key(home):
    config(home)
    code = (
        "import atexit, socket, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.create_connection = refuse\n"
        "from memcli.cli import main\n"
        "atexit.register(lambda: print('openai' in sys.modules, file=sys.stderr))\n"
        "main()"
    )
    done = home.python(code, "cost", "estimate", chat(home.folder), "--profile", "each", "--json")
    assert (done.code, done.err.strip()) == (0, "False")
    assert done.json["calls"] == 24


def test_a_dry_run_of_ingest_says_what_its_calls_would_cost(home):
    config(home, EACH.replace('"gpt-4.1"', '"unheard-of"'))
    path = chat(home.folder)
    done = home.run("ingest", path, "--profile", "each", "--dry-run", "--json")
    assert done.code == 0
    found = done.json["estimate"]
    assert found["calls"] == 24
    assert found["usd"] is None
    small, premium = found["tiers"]
    assert small["usd"] > 0
    assert (premium["model"], premium["usd"], premium["price"]) == ("unheard-of", None, None)
    assert premium["tokens_in"] > 0
    shown = home.run("ingest", path, "--profile", "each", "--dry-run")
    assert "calls of models that were left out" in shown.out
    assert "the price of premium is not known" in shown.out
    assert not home.db.exists()
    plain = home.run("ingest", path, "--dry-run").out
    assert "calls of models" not in plain
    assert "estimate" not in home.run("ingest", path, "--dry-run", "--json").json


CALLS = [
    # window, agent, tier, model, status, tokens in and out, dollars, day, run
    (1, "ann", "small", "gpt-4.1-mini", "done", 1000, 100, 0.001, "2026-02-01", 1),
    (2, "ann", "small", "gpt-4.1-mini", "done", 2000, 200, 0.002, "2026-02-02", 1),
    (1, "ann", "premium", "gpt-4.1", "done", 3000, 300, 0.03, "2026-02-02", 1),
    (3, "bob", "small", "unheard-of", "done", 500, 50, None, "2026-02-03", 1),
    (3, "bob", "small", "gpt-4.1-mini", "lost", 700, 300, 0.004, "2026-02-03", 1),
    (None, "bob", "small", "gpt-4.1-mini", "reserved", 900, 300, 0.005, "2026-02-03", 1),
    (3, "bob", "small", "gpt-4.1-mini", "failed", 0, 0, 0.0, "2026-02-03", 1),
]


def spend(home, calls=CALLS):
    """Put into the database what model tiers and a provider of embeddings would have left there."""
    with closing(sqlite3.connect(home.db)) as conn, conn:
        for number, (window, agent, tier, model, status, read, written, usd, day, run) in enumerate(calls):
            error = "the server said 500" if status == "failed" else None
            conn.execute(
                "INSERT INTO model_calls VALUES (NULL, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, 1.5, ?, ?)",
                (
                    run,
                    window,
                    agent,
                    tier,
                    model,
                    b"%d" % number,
                    status,
                    read,
                    written,
                    usd,
                    error,
                    f"{day}T10:00:00Z",
                ),
            )
            if window is not None and status == "done":
                conn.execute("INSERT OR IGNORE INTO window_tiers VALUES (?, ?, 'v', 'done', 1, NULL)", (window, tier))
        conn.execute("UPDATE batches SET embed_calls = 2, embed_tokens = 5000, embed_usd = 0.0001 WHERE id = 1")
        conn.execute("UPDATE batches SET started_at = '2026-02-03T00:00:00Z'")
        conn.execute("UPDATE memories SET extraction_method = 'small:gpt-4.1-mini' WHERE id <= 3")
        conn.execute("UPDATE memories SET extraction_method = 'premium:gpt-4.1' WHERE id = 4")
        conn.execute("UPDATE memories SET verdict = 'near' WHERE id = 3")


@pytest.fixture(scope="module")
def spent(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("spent"))
    config(home, "[budget]\nmax_usd_per_month = 10\n[profiles.local]\nmax_messages = 2\n")
    assert home.run("ingest", chat(home.folder), "--flush", "-q").code == 0
    spend(home)
    return home


def test_the_report_adds_up_what_was_recorded_in_every_group(spent):
    found = spent.run("cost", "report", "--profile", "balanced", "--json").json
    counted = [call for call in CALLS if call[4] != "failed"]
    usd = sum(call[7] or 0 for call in counted)
    assert found["usd"] == pytest.approx(usd + 0.0001)
    assert found["calls"] == len(counted) + 2
    assert found["tokens"] == sum(call[5] + call[6] for call in counted) + 5000
    assert found["unpriced_calls"] == 1
    for group in ("tiers", "models", "agents", "days", "runs"):
        rows = found[group]
        assert sum(each["usd"] for each in rows) == pytest.approx(usd + 0.0001), group
        assert sum(each["calls"] for each in rows) == len(counted) + 2, group
        assert sum(each["tokens_in"] for each in rows) == sum(call[5] for call in counted) + 5000, group
    tiers = {each["tier"]: each for each in found["tiers"]}
    assert set(tiers) == {"small", "premium", "embedding"}
    assert tiers["premium"]["usd"] == pytest.approx(0.03)
    assert (tiers["small"]["calls"], tiers["small"]["unpriced_calls"]) == (5, 1)
    assert {each["agent"] for each in found["agents"]} == {"ann", "bob", "(embedding)"}
    assert [each["day"] for each in found["days"]] == ["2026-02-01", "2026-02-02", "2026-02-03"]
    assert found["month"]["budget_usd"] == 10
    assert found["unsettled"] == {"calls": 2, "usd": 0.009}
    shown = spent.run("cost", "report", "--profile", "balanced").out
    assert "$0.009 of it are the worst case of 2 calls without an answer" in shown
    assert "without 1 call whose price is not known" in shown


def test_the_report_says_what_the_money_brought(spent):
    found = spent.run("cost", "report", "--profile", "balanced", "--json").json
    outcome = found["outcome"]
    # Three windows of two messages were seen; of four memories one was a duplicate.
    assert (outcome["windows"], outcome["messages"], outcome["memories"]) == (3, 6, 3)
    tokens = sum(call[5] + call[6] for call in CALLS)
    assert outcome["tokens_per_memory"] == pytest.approx(tokens / 3, abs=1e-5)
    assert outcome["usd_per_memory"] is None, "the price of one call is not known"
    assert outcome["memories_per_window"] == 1
    assert outcome["memories_per_message"] == 0.5
    assert outcome["memories_per_1000_messages"] == pytest.approx(3 / 12 * 1000)
    assert found["expected"] == {
        "profile": "balanced",
        "memories_per_window": 8,
        "tokens_each": 100,
        "memories_per_1000_messages": 400,
    }
    assert len(found["advice"]) == 2
    assert "lower the rate of balanced" in found["advice"][0]
    yields = {each["tier"]: (each["windows"], each["made"], each["created"]) for each in found["yields"]}
    assert yields == {"small": (3, 3, 2), "premium": (1, 1, 1)}


def test_the_report_of_a_database_without_calls_says_so(home):
    assert home.run("ingest", chat(home.folder), "-q").code == 0
    assert "Nothing was spent" in home.run("cost", "report").out
    found = home.run("cost", "report", "--json").json
    assert (found["usd"], found["tiers"], found["advice"]) == (0, [], [])
    missing = home.run("cost", "report", "--db", home.folder / "none.db")
    assert missing.code == 4


def test_batches_and_metrics_show_what_models_took_and_what_failed(spent):
    found = spent.run("stats", "--batches", "--json").json
    assert {(each["where"], each["reason"], each["count"]) for each in found["failures"]} == {
        ("small call failed", "the server said 500", 1),
        ("small call lost", "?", 1),
    }
    slowest = found["slowest_windows"][0]
    assert (slowest["id"], slowest["seconds"]) == (3, 4.5)
    samples = spent.run("stats", "--prometheus", "-").out
    small = 'tier="small",model="gpt-4.1-mini"'
    assert f'memcli_model_calls_total{{{small},status="done"}} 2\n' in samples
    assert f'memcli_model_calls_total{{{small},status="failed"}} 1\n' in samples
    assert 'status="reserved"' not in samples, "a counter must not fall when a reservation is settled"
    assert f'memcli_model_tokens_total{{{small},direction="in"}} 3700\n' in samples
    assert f"memcli_model_cost_usd_total{{{small}}} 0.007\n" in samples
    assert "memcli_embedding_tokens_total 5000\n" in samples
    assert 'memcli_window_tiers{tier="small",status="done"} 3\n' in samples
    shown = spent.run("stats", "--batches").out
    assert "what failed, of all time" in shown
    assert "slowest windows" in shown


def test_profiles_are_shown_side_by_side_with_what_they_are_expected_to_bring(home):
    found = {each["name"]: each for each in home.run("profiles", "--json").json}
    assert set(found) == set(PROFILES)
    assert found["conservative"]["memories_per_1000_messages"] == 200
    assert (found["maximum"]["expected_memories"], found["maximum"]["expected_tokens"]) == (16, 200)
    assert found["therapy"]["tiers"] == ["rules", "small", "premium"]
    assert found["local"]["memories_per_1000_messages"] is None
    shown = home.run("profiles").out
    assert all(name in shown for name in PROFILES)
    assert re.search(r"balanced +8 +100 emotions +facts, emotions, patterns, context", shown)
    config(home, '[profiles.mine]\nrate = 0.7\nfocus = "bees"\n')
    assert "bees" in home.run("profiles").out
    config(home, "[profiles.mine]\nrates = 0.7\n")
    assert home.run("profiles").code == 2


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A database in which agents, models and days are named badly."""
    home = Home(tmp_path_factory.mktemp("nasty"))
    assert home.run("ingest", chat(home.folder, (NASTY, "b" * 90)), "--flush", "-q").code == 0
    spend(home, [(1, NASTY, "small", NASTY, "failed", 0, 0, 0, NASTY, 1), *CALLS])
    return home


@pytest.mark.parametrize(
    "words",
    [
        ("profiles",),
        ("cost", "scenario", *ACCEPTANCE),
        ("cost", "scenario", *ACCEPTANCE, *MODELS),
        ("cost", "report", "--profile", "maximum"),
        ("cost", "estimate", FIXTURES, "--profile", "maximum", *MODELS),
        ("stats", "--batches"),
    ],
)
def test_nothing_is_wider_than_a_terminal_of_80_columns_or_could_change_it(nasty, words):
    done = nasty.on_terminal(*words, env={"NO_COLOR": "1"})
    assert done.code == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.out.split("\r")[-1]).split("\n")
    assert max(map(cell_len, lines)) <= 80
    assert not UNSAFE.search("\n".join(lines))


def test_one_json_document_is_all_that_goes_to_stdout(home):
    for words in (("profiles",), ("cost", "scenario", *ACCEPTANCE), ("cost", "estimate", FIXTURES)):
        done = home.run(*words, "--json")
        assert done.code == 0
        json.loads(done.out)
