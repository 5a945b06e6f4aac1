"""A database whose embedding model is a provider's, from the command line to a real HTTP server on the loopback."""

import json
import signal
import sqlite3
import sys

import pytest
from support_api import DIM, Provider, answer
from support_cli import Home, Nursery, finish, some_chat, wait_for, write_jsonl

KEY = "sk-very-secret"
FAILURE = {"retry-after-ms": "5"}, {"error": {"message": f"out of order, {KEY}"}}


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture
def home(tmp_path, nursery):
    made = Home(tmp_path / "home", nursery=nursery)
    made.env |= {"OPENAI_API_KEY": KEY}
    return made


@pytest.fixture
def chat(tmp_path):
    return write_jsonl(tmp_path / "chat.jsonl", some_chat(300))


def make(home, provider, *paths, **env):
    return home.run(
        "ingest", *paths, "--model", "openai:small", "--base-url", provider.url, "--json", "--quiet", env=env
    )


def everything(home):
    """All that is in the database and beside it, as bytes."""
    files = [each for each in home.folder.rglob("*") if each.is_file()]
    return b"".join(each.read_bytes() for each in files)


def test_ingest_takes_a_fiftieth_of_the_calls_and_records_tokens(home, chat):
    with Provider() as provider:
        done = make(home, provider, chat)
        assert (done.code, done.err) == (0, "")
        report = done.json
        # One for the length of the vectors, one for the full windows, one for those that the end of the input closed.
        assert len(provider.requests) == report["embed_calls"] == 3
        assert len(provider.requests) <= report["embedded"] * 0.02
        assert len(provider.texts) == len(set(provider.texts)) == report["embedded"] + 1
        assert report["embed_tokens"] == sum(map(len, provider.texts))
        assert report["cost_usd"] == 0
    assert home.rows("SELECT sum(tokens), sum(cost_usd) FROM batches") == [(report["embed_tokens"], 0.0)]
    assert home.rows("SELECT DISTINCT dim FROM segments") == [(DIM,)]
    assert home.rows("SELECT count(*) FROM memories WHERE embedded") == [(report["embedded"],)]


def test_the_price_gives_the_cost(home, chat):
    with Provider() as provider:
        report = make(home, provider, chat, MEMCLI_EMBED_PRICE="20").json
    assert report["cost_usd"] == pytest.approx(report["embed_tokens"] * 20 / 1e6)
    assert home.rows("SELECT sum(cost_usd) FROM batches")[0][0] == pytest.approx(report["cost_usd"])


def test_later_runs_and_searches_go_on_with_it_unasked_and_the_key_is_nowhere(home, chat, tmp_path):
    with Provider() as provider:
        make(home, provider, chat)
        before = len(provider.requests)
        more = write_jsonl(tmp_path / "more.jsonl", some_chat(170, seed=5))
        assert home.run("ingest", more, "--quiet").code == 0
        assert len(provider.requests) == before + 1
        found = home.run("search", "the billing service", "-k", "3", "--json")
        assert found.code == 0
        assert len(found.json[0]["hits"]) == 3
        assert provider.requests[-1] == ["the billing service"]
        assert set(provider.keys) == {f"Bearer {KEY}"}
        assert home.run("ingest", chat, "--json", "--quiet").json["embed_calls"] == 0
        assert len(provider.requests) == before + 2
    assert KEY.encode() not in everything(home)
    assert json.loads(home.rows("SELECT value FROM meta WHERE key = 'provider'")[0][0])["base_url"] == provider.url


def test_another_model_is_refused_for_a_database_that_has_one(home, chat):
    with Provider() as provider:
        make(home, provider, chat)
        before = len(provider.requests)
        for other in ("openai:large", "default"):
            done = home.run("ingest", chat, "--model", other)
            assert done.code == 6
            assert f"memcli reindex --model {other}" in done.err
        assert home.run("ingest", chat, "--model", "openai:small").code == 0
        assert len(provider.requests) == before


def test_a_failing_provider_is_exit_code_7_and_progress_is_kept(home, tmp_path):
    chat = write_jsonl(tmp_path / "chat.jsonl", some_chat(120))

    def behave(number, texts):
        return (500, *FAILURE) if number >= 4 else (200, {}, answer(texts))

    with Provider(behave) as provider:
        done = home.run(
            "ingest", chat, "--model", "openai:small", "--base-url", provider.url, "--batch-size", "30", "--quiet"
        )
        assert done.code == 7
        assert "answers 500: out of order, ***" in done.err
        assert "run it again" in done.err
        assert KEY not in done.err + done.out
        kept = home.rows("SELECT count(*) FROM messages")[0][0]
        assert 0 < kept < 120
        provider.behave = lambda _number, texts: (200, {}, answer(texts))
        again = home.run("ingest", chat, "--json", "--quiet")
        assert again.code == 0
        assert again.json["messages"]["new"] == home.rows("SELECT count(*) FROM messages")[0][0] - kept
        provider.behave = lambda *_: (401, {}, {"error": {"message": "no"}})
        found = home.run("search", "anything")
        assert found.code == 7
        assert "OPENAI_API_KEY" in found.err


def test_a_dry_run_calls_nobody_and_says_what_that_means(home, chat):
    with Provider() as provider:
        args = ("ingest", chat, "--model", "openai:small", "--base-url", provider.url, "--dry-run")
        done = home.run(*args, "--json")
        assert done.code == 0
        assert done.json["embedded"] > 0
        assert "not called" in done.err
        assert not home.db.exists()
        make(home, provider, chat)
        before = len(provider.requests)
        assert home.run("ingest", chat, "--dry-run").code == 0
        assert len(provider.requests) == before


def test_a_database_from_elsewhere_does_not_get_the_key_or_the_question(home, chat, tmp_path):
    with Provider() as provider:
        make(home, provider, chat)
        other = Home(tmp_path / "other", nursery=home.nursery)
        other.env |= {"OPENAI_API_KEY": KEY, "MEMCLI_DB": str(home.db)}
        before = len(provider.requests)
        done = other.run("search", "a private question")
        assert done.code == 2
        assert provider.url in done.err
        assert "MEMCLI_BASE_URL" in done.err
        assert len(provider.requests) == before
        assert other.run("search", "a private question", env={"MEMCLI_BASE_URL": provider.url}).code == 0


@pytest.mark.parametrize("value", ["{", "[]", '{"model": "small"}', '{"model": "x", "dim": 3, "base_url": "http://a"}'])
def test_provider_settings_that_make_no_sense_are_no_model(home, chat, value):
    with Provider() as provider:
        make(home, provider, chat)
    with sqlite3.connect(home.db) as conn:
        conn.execute("UPDATE meta SET value = ? WHERE key = 'provider'", (value,))
    assert home.run("search", "x").code == 6


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--model", "openai:"), "lacks the name"),
        (("--model", "openai:x", "--base-url", "ftp://a"), "http or https"),
        (("--model", "openai:x", "--base-url", "http://u:p@a/"), "credentials"),
        (("--model", "default", "--base-url", "http://a/"), "models of a provider"),
        (("--model", "nonsense"), "nonsense"),
    ],
)
def test_a_model_that_cannot_be_is_refused(home, chat, args, message):
    done = home.run("ingest", chat, *args)
    assert done.code == 2
    assert message in done.err


def test_without_a_key_openai_is_not_asked(home, chat):
    del home.env["OPENAI_API_KEY"]
    done = home.run("ingest", chat, "--model", "openai:text-embedding-3-small")
    assert done.code == 2
    assert "OPENAI_API_KEY" in done.err
    assert home.run("ingest", chat).code == 0, "the failed try bound the database"


def test_without_the_extra_the_command_that_installs_it_is_named(home, chat):
    code = "import sys; sys.modules['openai'] = None; from memcli.cli import main; main()"
    done = home.python(code, "ingest", chat, "--model", "openai:x", "--base-url", "http://127.0.0.1:9/v1")
    assert done.code == 2
    assert 'pip install "memcli[llm]"' in done.err


def test_an_interrupted_run_does_not_wait_for_the_provider(home, chat):
    with Provider(
        lambda number, texts: (200, {}, answer(texts)) if number == 1 else (429, {"retry-after": "60"}, {})
    ) as (provider):
        process = home.start("ingest", chat, "--model", "openai:small", "--base-url", provider.url, "--quiet")
        wait_for(lambda: len(provider.requests) >= 2, process)
        process.send_signal(signal.SIGINT)
        assert finish(process).code == 130


def test_help_and_a_local_run_do_not_import_the_client(home, chat):
    code = (
        "import sys, atexit\n"
        "from memcli.cli import main\n"
        "atexit.register(lambda: print('openai' in sys.modules, file=sys.stderr))\n"
        "main()"
    )
    done = home.python(code, "ingest", chat, "--quiet")
    assert done.code == 0, sys.version
    assert done.err.strip() == "False"


def test_a_database_moves_from_a_provider_to_a_model_of_its_own(home, chat):
    with Provider() as provider:
        make(home, provider, chat)
        before = len(provider.requests)
        assert home.run("reindex", "--model", "default", "--quiet").code == 0
        assert home.run("search", "the billing service").code == 0
        assert home.run("ingest", chat, "--quiet").code == 0
        assert len(provider.requests) == before
        back = home.run("reindex", "--model", "openai:small", env={"OPENAI_API_KEY": ""})
        assert back.code == 2
        assert "there is no key" in back.err


def test_the_list_of_models_shows_the_providers_without_a_warning(home, chat):
    with Provider() as provider:
        make(home, provider, chat)
        before = len(provider.requests)
        listed = home.run("model", "list")
        assert (listed.code, listed.err) == (0, "")
        (line,) = (each for each in listed.out.splitlines() if each.startswith("openai:small"))
        assert ("provider" in line, "this database" in line, str(DIM) in line) == (True, True, True)
        (document,) = (each for each in home.run("model", "list", "--json").json if each["kind"] == "provider")
        assert (document["name"], document["this_database"]) == ("openai:small", True)
        assert (document["bytes"], document["folder"], document["new_databases"]) == (None, None, False)
        for named, shown in (("openai:small", True), ("openai:large", False)):
            settled = home.run("model", "list", "--json", env={"MEMCLI_MODEL": named})
            assert settled.err == ""
            assert [each["new_databases"] for each in settled.json if each["kind"] == "provider"] == [shown]
        described = home.run("model", "info", "openai:small")
        assert (described.code, "is a provider's model" in described.err) == (2, True)
        assert len(provider.requests) == before


# --- a database that moves to a provider's model ---------------------------------------------------------------------


def moved(home, provider, *options, **more):
    options = ("--model", "openai:small", "--base-url", provider.url, "--batch-size", "16", "--json", *options)
    return home.nursery.run(home, "reindex", *options, **more)


def test_reindex_moves_a_database_to_a_provider_and_back(home, tmp_path):
    assert home.run("ingest", write_jsonl(tmp_path / "chat.jsonl", some_chat(60))).code == 0
    count = home.rows("SELECT count(*) FROM memories WHERE embedded")[0][0]
    with Provider() as provider:
        done = moved(home, provider)
        assert done.code == 0, done.err
        report = done.json
        assert (report["memories"], report["embedded"] + report["reused"]) == (count, count)
        assert report["embed_calls"] == len(provider.requests)
        assert report["embed_tokens"] == sum(map(len, provider.texts))
        assert home.rows("SELECT DISTINCT dim, model_id FROM segments") == [(DIM, report["model_id"])]
        assert KEY.encode() not in everything(home)
        before = len(provider.requests)
        assert home.run("search", "the billing service").code == 0
        assert home.run("ingest", tmp_path / "chat.jsonl").code == 0
        assert len(provider.requests) == before + 1
        again = moved(home, provider).json
        assert (again["run_id"], len(provider.requests)) == (None, before + 1)
    assert home.run("reindex", "--model", "default").code == 0
    assert home.rows("SELECT value FROM meta WHERE key = 'provider'") == []
    assert home.run("search", "the billing service").code == 0


def test_a_move_to_a_provider_that_is_interrupted_goes_on_and_changes_nothing_meanwhile(home, tmp_path):
    assert home.run("ingest", write_jsonl(tmp_path / "chat.jsonl", some_chat(60))).code == 0
    bound = home.rows("SELECT value FROM meta WHERE key = 'model_id'")

    def behave(number, texts):
        return (401, {}, {"error": {"message": "no"}}) if number > 2 else (200, {}, answer(texts))

    with Provider(behave) as provider:
        assert moved(home, provider).code == 7
        assert home.rows("SELECT value FROM meta WHERE key = 'model_id'") == bound
        assert home.rows("SELECT value FROM meta WHERE key = 'provider'") == []
        assert home.run("search", "the billing service").code == 0
        provider.behave = lambda _number, texts: (200, {}, answer(texts))
        report = moved(home, provider).json
    assert report["resumed"] == 16
    assert home.rows("SELECT DISTINCT dim FROM segments") == [(DIM,)]


def test_a_dry_run_of_a_move_to_a_provider_calls_nobody_and_says_so(home, tmp_path):
    assert home.run("ingest", write_jsonl(tmp_path / "chat.jsonl", some_chat(40))).code == 0
    before = home.db.read_bytes()
    with Provider() as provider:
        dry = moved(home, provider, "--dry-run")
        assert (dry.code, dry.json["model_id"], "openai:small is not called" in dry.err) == (0, None, True)
        assert provider.requests == []
    assert home.db.read_bytes() == before
    assert not (home.data / "provider-urls").exists()
