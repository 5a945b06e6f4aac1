"""Model tiers ask once per window, never twice the same, and keep to rate, minimum and profile."""

import json

import pytest
from support_chat import Chat, asked_about, completion, configure, honest, statement, talk
from support_cli import write_jsonl
from support_ingest import assert_sound


@pytest.fixture
def transcript(tmp_path):
    return write_jsonl(tmp_path / "chat.jsonl", talk(200))


def ingest(home, *args):
    done = home.run("ingest", *args, "--json", "--quiet")
    assert done.code == 0, done.err
    return done.json


def test_two_hundred_messages_in_windows_of_twenty_are_ten_calls_a_tier_and_none_the_second_time(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small", "premium")
        report = ingest(home, transcript)
        assert len(chat.requests) == 20
        assert (chat.asked_of("small"), chat.asked_of("premium")) == (10, 10)
        assert [len(asked) for asked in chat.requests] == [20] * 20
        shown = {text for asked in chat.requests for text in asked.values()}
        assert shown == {message["content"] for message in talk(200)}
        for tier in ("small", "premium"):
            found = report["models"][tier]
            assert (found["calls"], found["windows"]["done"], found["statements"]) == (10, 10, 20)
        again = ingest(home, transcript)
        assert len(chat.requests) == 20
        assert again["models"]["small"]["calls"] == 0
        assert again["cost_usd"] == 0
    methods = home.rows("SELECT extraction_method, count(*) FROM memories GROUP BY 1 ORDER BY 1")
    assert dict(methods) == {"premium:premium-model": 20, "small:small-model": 20, "verbatim": 200}
    assert_sound(home.db)


def test_what_was_asked_before_is_not_asked_again_wherever_it_comes_from(home, transcript, tmp_path):
    with Chat() as chat:
        configure(home, chat.url, "small")
        ingest(home, transcript)
        assert len(chat.requests) == 10
        copied = write_jsonl(tmp_path / "copy.jsonl", talk(200))
        found = ingest(home, copied, "--agent", "another")["models"]["small"]
        assert len(chat.requests) == 10
        assert (found["calls"], found["answers_reused"], found["statements"], found["cost_usd"]) == (0, 10, 20, 0)
        assert home.rows(
            "SELECT count(*) FROM memories WHERE agent_id = 'another' AND extraction_method LIKE 'small%'"
        ) == [(20,)]
        # What was spent is down once: to the windows that it was spent on.
        assert home.rows("SELECT count(*) FROM windows WHERE cost_usd > 0") == [(10,)]


def test_the_same_window_twice_in_a_run_is_one_question(home, tmp_path):
    messages = [{**message, "agent_id": agent} for agent in ("anna", "ben") for message in talk(20)]
    with Chat() as chat:
        configure(home, chat.url, "small", free="")
        told = ingest(home, write_jsonl(tmp_path / "both.jsonl", messages))["models"]["small"]
        assert len(chat.requests) == 1
        assert (told["calls"], told["answers_reused"], told["windows"]["done"]) == (1, 1, 2)
    assert home.rows("SELECT agent_id, count(*) FROM memories GROUP BY 1") == [("anna", 2), ("ben", 2)]
    assert home.rows("SELECT tokens > 0 FROM windows ORDER BY id") == [(1,), (0,)]


def test_another_prompt_or_model_is_another_version_that_reextract_brings_to_old_windows(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small")
        ingest(home, transcript)
        ingest(home, "--reextract")
        assert len(chat.requests) == 10
        prompt = home.folder / "mine.md"
        prompt.write_text('Note what is painted. {focus} Answer with {"memories": []}.')
        configure(home, chat.url, "small", prompt="mine.md")
        ingest(home, transcript)
        assert len(chat.requests) == 10
        ingest(home, "--reextract")
        assert len(chat.requests) == 20
        assert (
            chat.bodies[-1]["messages"][0]["content"]
            == 'Note what is painted. Focus: all of it. Answer with {"memories": []}.'
        )
        ingest(home, "--reextract")
        assert len(chat.requests) == 20
    assert home.rows("SELECT count(DISTINCT version), count(*) FROM window_tiers WHERE tier = 'small'") == [(2, 20)]


def test_the_rate_samples_windows_for_the_models_only_and_the_same_ones_each_time(home, tmp_path):
    transcripts = [write_jsonl(tmp_path / f"{name}.jsonl", talk(40, f"s{name}")) for name in range(30)]
    with Chat() as chat:
        configure(home, chat.url, "small", free="'rules'", rate=0.3)
        report = ingest(home, *transcripts)
        asked = len(chat.requests)
        assert 8 <= asked <= 30
        assert report["windows"] == {"processed": 60, "skipped_by_rate": 60 - asked, "failed": 0, "waiting": 0}
        ingest(home, "--reextract")
        assert len(chat.requests) == asked
    by_status = dict(home.rows("SELECT tier || ' ' || status, count(*) FROM window_tiers GROUP BY 1"))
    assert by_status == {"rules done": 60, "small done": asked, "small skipped_by_rate": 60 - asked}


def test_what_a_new_version_says_again_of_its_window_is_not_taken_for_recalled(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small")
        ingest(home, transcript)
        before = home.rows("SELECT count(*) FROM memories")
        configure(home, chat.url, "small", temperature=0.9)
        report = ingest(home, "--reextract")
    small = report["models"]["small"]
    assert (small["calls"], small["rejected"]) == (10, {})
    assert home.rows("SELECT count(*) FROM rejected_statements") == [(0,)]
    assert home.rows("SELECT count(*) FROM memories") == before


def test_what_a_lower_rate_or_a_higher_minimum_left_out_is_brought_in_by_reextract(home, tmp_path):
    transcripts = [write_jsonl(tmp_path / f"{name}.jsonl", talk(44, f"s{name}")) for name in range(10)]
    with Chat() as chat:
        configure(home, chat.url, "small", rate=0.3, min_messages=5)
        ingest(home, *transcripts)
        asked = len(chat.requests)
        configure(home, chat.url, "small", rate=1.0, min_messages=4)
        ingest(home, "--reextract")
        assert asked < 20
        assert len(chat.requests) == 30
        ingest(home, "--reextract")
        assert len(chat.requests) == 30
    assert home.rows("SELECT status, count(*) FROM window_tiers WHERE tier = 'small' GROUP BY 1") == [("done", 30)]


def test_rate_for_all_spares_the_free_tiers_the_same_windows(home, tmp_path):
    transcripts = [write_jsonl(tmp_path / f"{name}.jsonl", talk(40, f"s{name}")) for name in range(15)]
    with Chat() as chat:
        configure(home, chat.url, "small", free="'verbatim'", rate=0.3, settings="rate_applies_to = 'all'")
        ingest(home, *transcripts)
        asked = len(chat.requests)
    by_status = dict(home.rows("SELECT tier || ' ' || status, count(*) FROM window_tiers GROUP BY 1"))
    assert by_status["verbatim done"] == by_status["small done"] == asked
    assert by_status["verbatim skipped_by_rate"] == 30 - asked


def test_a_window_below_the_minimum_of_a_tier_is_not_worth_a_call(home, tmp_path):
    transcripts = [write_jsonl(tmp_path / f"{count}.jsonl", talk(count, f"s{count}")) for count in (3, 5, 6)]
    with Chat() as chat:
        configure(home, chat.url, "small", "premium")
        report = ingest(home, *transcripts)
        assert (chat.asked_of("small"), chat.asked_of("premium")) == (2, 1)
        assert report["models"]["small"]["windows"]["too_short"] == 1
        assert report["models"]["premium"]["windows"]["too_short"] == 2


def test_the_flag_overrides_the_profile_both_ways(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small")
        ingest(home, transcript, "--extract", "rules,verbatim")
        assert chat.requests == []
        home.env["MEMCLI_PROFILE"] = "local"
        ingest(home, "--reextract", "--extract", "small")
        assert len(chat.requests) == 10


def test_the_profiles_focus_and_the_tiers_parameters_reach_the_model(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small", "premium", focus="colours of stations")
        ingest(home, transcript)
        by_model = {body["model"]: body for body in chat.bodies}
    small, premium = by_model["small-model"], by_model["premium-model"]
    assert (small["max_tokens"], small["temperature"]) == (300, 0.3)
    assert (premium["max_tokens"], premium["temperature"]) == (800, 0.2)
    for body in (small, premium):
        assert "colours of stations" in body["messages"][0]["content"]
        wanted = body["response_format"]["json_schema"]
        assert wanted["strict"] is True
        items = wanted["schema"]["properties"]["memories"]["items"]
        assert set(items["required"]) == set(items["properties"])
        assert ("relates_to" in items["properties"]) == (body is premium)


def test_a_dry_run_asks_nobody_and_says_what_it_left_out(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small", "premium")
        done = home.run("ingest", transcript, "--dry-run", "--json", "--quiet")
        assert (done.code, chat.requests) == (0, [])
        assert done.json["models"]["small"]["windows"]["waiting"] == 10
        assert not home.db.exists()
        # What is answered already is used, for nothing.
        ingest(home, transcript)
        configure(home, chat.url, "small", "premium", settings="agent = 'another'")
        done = home.run("ingest", write_jsonl(home.folder / "b.jsonl", talk(200)), "--dry-run", "--json", "--quiet")
        assert len(chat.requests) == 20
        assert done.json["models"]["small"]["answers_reused"] == 10


def test_links_of_the_premium_tier_are_stored_between_its_memories(home, transcript):
    def linked(_number, body):
        if body["model"] == "small-model":
            return 200, {}, honest(body)
        first, second, third, *_ = asked_about(body).items()
        memories = [
            statement(first[1][:40], first[0], says=f"Cause of {first[1][:20]}", number=1, relates_to=[3, 1, 9]),
            statement("this was never said", second[0], number=2, relates_to=[1]),
            statement(third[1][:40], third[0], says=f"Effect of {third[1][:20]}", number=3, relates_to=[2, 1]),
        ]
        return 200, {}, completion({"memories": memories})

    with Chat(linked) as chat:
        configure(home, chat.url, "small", "premium")
        ingest(home, transcript)
    links = home.rows(
        "SELECT a.content LIKE 'Cause%', b.content LIKE 'Effect%', a.window_id = b.window_id, kind"
        " FROM memory_links AS l JOIN memories AS a ON a.id = l.memory_id JOIN memories AS b ON b.id = l.related_id"
    )
    assert sorted(links) == [(0, 0, 1, "relates_to")] * 10 + [(1, 1, 1, "relates_to")] * 10


def test_memories_of_models_are_merged_and_come_apart_again_like_any_other(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small", "premium", free="")
        ingest(home, transcript)
    # Both models say the same.
    assert home.rows("SELECT count(*) FROM memories") == [(40,)]
    assert home.rows("SELECT count(*) FROM active_memories") == [(20,)]
    assert home.run("dedup", "--undo", "1", "--quiet").code == 0
    assert home.rows("SELECT count(*) FROM active_memories") == [(40,)]
    assert home.run("search", "Station 3 of line s1", "--json").code == 0
    assert_sound(home.db)


def test_old_databases_get_the_tables_and_keep_their_tiers(home, transcript):
    home.run("ingest", transcript, "--extract", "rules,verbatim")
    before = home.rows("SELECT * FROM window_tiers ORDER BY window_id, tier")
    assert before
    script = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "for name in ('model_calls', 'model_answers', 'rejected_statements', 'memory_links', 'boot_lines'):\n"
        "    db.execute(f'DROP TABLE {name}')\n"
        "db.execute('DROP INDEX window_tiers_open')\n"
        "for name in ('embed_calls', 'embed_tokens', 'embed_usd'):\n"
        "    db.execute(f'ALTER TABLE batches DROP COLUMN {name}')\n"
        "for name in ('messages', 'memories', 'sessions', 'rules'):\n"
        "    db.execute(f'ALTER TABLE {name} DROP COLUMN row_hash')\n"
        "db.execute(\"DELETE FROM _sqlite_migrations WHERE name IN ('m006_models', 'm010_row_hashes')\")\n"
        "db.commit()\n"
    )
    assert home.python(script, home.db).code == 0
    with Chat() as chat:
        configure(home, chat.url, "small")
        ingest(home, "--reextract")
        assert len(chat.requests) == 10
    after = home.rows("SELECT * FROM window_tiers WHERE tier <> 'small' ORDER BY window_id, tier")
    assert after == before


def test_the_answers_are_kept_as_they_came(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small")
        ingest(home, transcript)
    answers = [json.loads(row[0]) for row in home.rows("SELECT answer FROM model_answers")]
    assert len(answers) == 10
    assert all(len(answer["memories"]) == 2 for answer in answers)
