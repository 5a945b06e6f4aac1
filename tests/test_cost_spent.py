"""The estimate before, the report after, and the server in between: they speak of the same calls and the same money."""

import pytest
from support_api import Provider
from support_chat import Chat, completion, configure, honest, statement, talk
from support_cli import Home, write_jsonl


def expecting(home, **figures):
    """Say in the user's profile what a window is expected to bring."""
    path = home.folder / "memcli.toml"
    more = "".join(f"{name} = {value}\n" for name, value in figures.items())
    path.write_text(path.read_text().replace("[profiles.test]\n", f"[profiles.test]\n{more}"))


@pytest.fixture
def transcript(tmp_path):
    return write_jsonl(tmp_path / "chat.jsonl", [*talk(105), *talk(45, "s2")])


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_calls_that_were_estimated_are_the_calls_that_are_made(home, transcript, rate):
    with Chat() as chat:
        configure(home, chat.url, "small", "premium", rate=rate)
        estimated = home.run("cost", "estimate", transcript, "--json").json
        planned = home.run("ingest", transcript, "--dry-run", "--json").json["estimate"]
        assert chat.requests == []
        assert home.run("ingest", transcript, "-q").code == 0
        # A run of its own would ask about the same windows; the rate draws by the place of a window in its database.
        assert planned == {name: estimated[name] for name in planned}
        assert {each["tier"]: each["calls"] for each in planned["tiers"]} == {
            tier: chat.asked_of(tier) for tier in ("small", "premium") if chat.asked_of(tier)
        }
        assert planned["calls"] == len(chat.requests)
        assert planned["messages_sent"] == sum(len(asked) for asked in chat.requests)
        again = home.run("ingest", transcript, "--dry-run", "--reextract", "--json").json["estimate"]
        assert again["calls"] == 0, "what was answered costs nothing again"


def test_what_is_estimated_to_be_read_is_near_what_the_prompts_hold(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small")
        planned = home.run("cost", "estimate", transcript, "--json").json
        assert home.run("ingest", transcript, "-q").code == 0
        sent = sum(len(message["content"]) for body in chat.bodies for message in body["messages"])
    # English takes about four characters a token, numbers and hashes fewer.
    assert sent / 5 < planned["tokens_in"] < sent / 1.5


def test_the_report_is_the_bill_of_the_server(home, transcript):
    def varied(number, body):
        if number % 4 == 0:
            return 500, {"retry-after-ms": "5"}, {"error": {"message": "out of order"}}
        text = honest(body)["choices"][0]["message"]["content"]
        return 200, {}, completion(text, (1000 + number, 10 * number))

    with Chat(varied) as chat:
        # Both tiers quote the same places: what the second one says again is no new memory.
        configure(home, chat.url, "small", "premium")
        run = home.run("ingest", transcript, "--json", "-q").json
        found = home.run("cost", "report", "--json").json
    assert found["usd"] == pytest.approx(chat.dollars, abs=1e-6)
    assert found["usd"] == pytest.approx(run["cost_usd"], abs=1e-6)
    assert found["calls"] == len(chat.usage)
    assert found["tokens"] == sum(map(sum, chat.usage))
    assert [each["tokens_in"] for each in found["agents"]] == [sum(tokens_in for tokens_in, _ in chat.usage)]
    assert {each["model"]: each["calls"] for each in found["models"]} == {
        f"{each['tier']}-model": each["calls"] for each in found["tiers"]
    }
    outcome = found["outcome"]
    assert outcome["windows"] == 9
    assert outcome["tokens_per_memory"] == pytest.approx(found["tokens"] / outcome["memories"], abs=1e-5)
    assert outcome["usd_per_memory"] == pytest.approx(found["usd"] / outcome["memories"], abs=1e-5)
    for name, figure in run["expectation"]["outcome"].items():
        assert figure == pytest.approx(outcome[name], abs=1e-5), name


def test_what_embeddings_took_is_in_the_report_beside_what_the_tiers_took(tmp_path, transcript):
    home = Home(tmp_path / "own")
    with Chat() as chat, Provider() as provider:
        configure(home, chat.url, "small", settings="embed_price = 0.5\n")
        home.env |= {"OPENAI_API_KEY": "sk-test"}
        words = ("--model", "openai:embedder", "--base-url", provider.url, "--json", "-q")
        run = home.run("ingest", transcript, *words).json
        found = home.run("cost", "report", "--json").json
        embedding = next(each for each in found["tiers"] if each["tier"] == "embedding")
        assert embedding["tokens_in"] == run["embed_tokens"] == sum(map(len, provider.texts))
        assert embedding["calls"] == run["embed_calls"] == len(provider.requests)
        assert embedding["usd"] == pytest.approx(run["embed_tokens"] * 0.5 / 1e6, abs=1e-6)
        assert found["usd"] == pytest.approx(chat.dollars + embedding["usd"], abs=2e-6)
        assert {each["model"] for each in found["models"]} == {"small-model", "embedder"}
        assert "embedding" in home.run("cost", "report").out
        # What a later tier adds to stored windows is no embedding of the batch that they came in.
        configure(home, chat.url, "small", "premium", settings="embed_price = 0.5\n")
        again = home.run("ingest", "--reextract", "--json", "-q").json
        later = home.run("cost", "report", "--json").json
    spent = next(each for each in later["tiers"] if each["tier"] == "embedding")
    assert spent["tokens_in"] == run["embed_tokens"] + again["embed_tokens"]
    assert later["usd"] == pytest.approx(chat.dollars + spent["usd"], abs=2e-6)
    assert {each["run"] for each in later["runs"]} == {1, 2}


def test_a_run_says_what_came_out_beside_what_its_profile_expects(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small")
        expecting(home, expected_memories=2, expected_tokens=20)
        found = home.run("ingest", transcript, "--json", "-q").json["expectation"]
        assert (found["profile"], found["memories_per_window"], found["tokens_each"]) == ("test", 2, 20)
        assert found["outcome"]["memories_per_window"] == 2
        tokens = sum(map(sum, chat.usage))
        assert found["outcome"]["tokens_per_memory"] == pytest.approx(tokens / (2 * len(chat.requests)))
        assert found["advice"] == []
        written = len("It was said: ") + 60
        assert found["outcome"]["tokens_each"] == pytest.approx(written / 4, rel=0.1)


def test_what_comes_out_below_the_expectation_is_said_with_what_to_do(home, transcript):
    def poor(_number, body):
        return 200, {}, completion({"memories": honest_one(body)}, (5000, 100))

    def honest_one(body):
        text = body["messages"][1]["content"].split("\n")[2]
        return [statement(text[:30], "m1")]

    with Chat(poor) as chat:
        configure(home, chat.url, "small")
        expecting(home, expected_memories=8, expected_tokens=100)
        done = home.run("ingest", transcript, "-q")
        assert "1.0 new memories a window (test expects 8)" in done.out
        report = home.run("cost", "report").out
    assert "a memory takes 5,100 tokens, over 200: lower the rate of test (now 1)" in report
    assert "a window brings 1.0 memories where test expects 8" in report


def test_a_run_without_model_tiers_has_nothing_to_compare(home, transcript):
    found = home.run("ingest", transcript, "--json", "-q").json["expectation"]
    assert (found["profile"], found["outcome"], found["advice"]) == ("local", None, [])
    assert "expected" not in home.run("ingest", transcript, "--dry-run").out
