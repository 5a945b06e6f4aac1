"""A model's server that is slow, busy, broken, old or hostile: what is tried again, what fails, what is said."""

import json
import time

import pytest
from support_chat import KEY, Chat, asked_about, completion, configure, honest, statement, talk
from support_cli import write_jsonl
from support_ingest import assert_sound

from memcli.config import DEFAULT_TIERS
from memcli.errors import ProviderError
from memcli.extract.llm import LlmOptions, LlmTier
from memcli.extract.prompt import load_prompt
from memcli.model import Part, Window

SOON = {"retry-after-ms": "5"}


@pytest.fixture
def transcript(tmp_path):
    return write_jsonl(tmp_path / "chat.jsonl", talk(100))


def error(said, **more):
    return {"error": {"message": said, **more}}


def everything(home):
    return b"".join(each.read_bytes() for each in home.folder.rglob("*") if each.is_file() and each.suffix != ".toml")


def tiers(home):
    return dict(home.rows("SELECT status, count(*) FROM window_tiers WHERE tier = 'small' GROUP BY 1"))


# --- tried again -----------------------------------------------------------------------------------------------------


def test_what_is_out_of_order_for_a_while_is_asked_again(home, transcript):
    troubles = (429, 500, 503)

    def sometimes(number, body):
        trouble = (*troubles, None)[number % 4]
        return (trouble, SOON, error("not now")) if trouble else (200, {}, honest(body))

    with Chat(sometimes) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript, "--json", "--quiet", "--concurrency", "1")
        assert (done.code, len(chat.requests)) == (0, 19)
    assert (done.json["models"]["small"]["calls"], done.json["models"]["small"]["refused"]) == (5, 14)
    told = home.rows("SELECT DISTINCT error FROM model_calls WHERE status = 'failed' ORDER BY 1")
    assert told == [(f"HTTP {status}",) for status in troubles]


def test_a_pause_that_the_server_asks_for_is_kept_by_all(home, transcript):
    times = []

    def busy(number, body):
        times.append(time.monotonic())
        return (429, {"retry-after": "1"}, error("slow down")) if number == 1 else (200, {}, honest(body))

    with Chat(busy) as chat:
        configure(home, chat.url, "small")
        assert home.run("ingest", transcript, "--concurrency", "1").code == 0
    assert times[1] - times[0] >= 1


def test_the_headers_that_tell_of_a_limit_are_kept(home, transcript):
    times = []

    def limited(number, body):
        times.append(time.monotonic())
        headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "600ms"} if number == 2 else {}
        return 200, headers, honest(body)

    with Chat(limited) as chat:
        configure(home, chat.url, "small")
        assert home.run("ingest", transcript, "--concurrency", "1").code == 0
    assert times[2] - times[1] >= 0.6


def test_an_answer_that_cannot_be_read_is_asked_for_once_more_and_both_are_paid(home, transcript):
    def clumsy(_number, body):
        if len(body["messages"]) == 2:
            return 200, {}, completion("I found: a lot of stations!", (500, 20))
        return 200, {}, honest(body)

    with Chat(clumsy) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript, "--json", "--quiet")
        assert (done.code, len(chat.requests)) == (0, 10)
        repair = next(body for body in chat.bodies if len(body["messages"]) == 4)["messages"]
        assert repair[2] == {"role": "assistant", "content": "I found: a lot of stations!"}
        assert "cannot be read" in repair[3]["content"]
        assert done.json["cost_usd"] == pytest.approx(chat.dollars)
        assert home.rows("SELECT sum(cost_usd) FROM windows")[0][0] == pytest.approx(chat.dollars)


# --- dialects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("understood", ["json_object", None])
def test_an_endpoint_without_json_schema_is_asked_for_what_it_has_and_only_once_too_much(home, transcript, understood):
    def old(_number, body):
        wanted = body.get("response_format", {}).get("type")
        if wanted not in {understood, None}:
            return 400, {}, error(f"response_format {wanted} is not supported")
        text = honest(body)["choices"][0]["message"]["content"]
        return 200, {}, completion(f"Sure!\n```json\n{text}\n```")

    with Chat(old) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript, "--json", "--quiet", "--concurrency", "1")
        assert done.code == 0
        assert len(chat.requests) == 5 + (1 if understood else 2)
    assert done.json["models"]["small"]["statements"] == 10


def test_a_model_that_reasons_is_asked_in_its_own_words(home, transcript):
    def reasoning(_number, body):
        if "max_tokens" in body:
            return 400, {}, error("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "temperature" in body:
            return 400, {}, error("Unsupported value: 'temperature' does not support 0.3 with this model.")
        assert body["max_completion_tokens"] == 300
        assert body["response_format"]["type"] == "json_schema"
        return 200, {}, honest(body)

    with Chat(reasoning) as chat:
        configure(home, chat.url, "small")
        assert home.run("ingest", transcript, "--concurrency", "1").code == 0
        assert len(chat.requests) == 7


def test_one_window_that_is_refused_does_not_change_how_the_others_are_asked(home, transcript):
    def picky(_number, body):
        if "Station 25 " in body["messages"][1]["content"]:
            return 400, {}, error("this content is not allowed")
        return 200, {}, honest(body)

    with Chat(picky) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript, "--concurrency", "1")
        assert done.code == 7
        assert chat.bodies[-1]["response_format"]["type"] == "json_schema"
    assert "window 2, small: the small model small-model" in done.err
    assert "answers 400: this content is not allowed" in done.err
    assert tiers(home) == {"done": 4, "failed": 1}


def test_what_no_database_can_hold_does_not_break_the_run(home, transcript):
    def odd(_number, body):
        (name, text), *_ = asked_about(body).items()
        return (
            200,
            {},
            completion({"memories": [statement(text[:40], name, says="Half a smile \ud83d and \0 nothing")]}),
        )

    with Chat(odd) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript)
        assert done.code == 0, done.err
        chat.behave = lambda _number, _body: (400, {}, error("no \ud83d smile \u001b[31m red"))
        done = home.run("ingest", write_jsonl(home.folder / "b.jsonl", talk(20, "s2")))
        assert done.code == 7
        assert "\x1b" not in done.err
    assert home.rows("SELECT count(*) FROM memories WHERE content = 'Half a smile � and � nothing'") == [(5,)]


# --- failing ---------------------------------------------------------------------------------------------------------


def test_a_window_that_fails_fails_alone_and_is_asked_again_by_the_next_run(home, tmp_path):
    bad = {
        "Station 25 ": ((200, {}, completion("no JSON, never")), "gives no readable answer"),
        "Station 65 ": ((200, {}, b"<html>welcome to the hotel</html>"), "something else"),
        "Station 105 ": ((200, {}, {"choices": []}), "no readable answer"),
        "Station 145 ": ((200, {}, []), "no readable answer"),
        "Station 185 ": ((400, {}, error("bad luck")), "answers 400: bad luck"),
    }

    def stubborn(_number, body):
        asked = body["messages"][1]["content"]
        return next((answer for mark, (answer, _) in bad.items() if mark in asked), (200, {}, honest(body)))

    transcript = write_jsonl(tmp_path / "chat.jsonl", talk(200))
    with Chat(stubborn) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript, "--json", "--concurrency", "1")
        assert done.code == 7
        for window, (_, reason) in zip(range(2, 11, 2), bad.values(), strict=True):
            (line,) = [line for line in done.err.split("\n") if line.startswith(f"window {window}, small:")]
            assert reason in line
        assert done.json["windows"] == {"processed": 10, "skipped_by_rate": 0, "failed": 5, "waiting": 0}
        assert tiers(home) == {"done": 5, "failed": 5}
        assert home.rows("SELECT count(*) FROM memories WHERE extraction_method = 'verbatim'") == [(200,)]
        chat.behave = lambda _number, body: (200, {}, honest(body))
        before = len(chat.requests)
        done = home.run("ingest", transcript, "--quiet")
        assert (done.code, len(chat.requests)) == (0, before + 5)
        assert tiers(home) == {"done": 10}
    assert_sound(home.db)


def test_five_later_runs_try_again_then_it_is_given_up_and_said(home, transcript):
    def stubborn(_number, body):
        if "Station 25 " in body["messages"][1]["content"]:
            return 400, {}, error("never")
        return 200, {}, honest(body)

    with Chat(stubborn) as chat:
        configure(home, chat.url, "small")
        codes = []
        for number in range(1, 9):
            before = len(chat.requests)
            done = home.run("ingest", transcript, "--json", "--quiet")
            codes.append(done.code)
            tried = len(chat.requests) > before
            assert tried == (number <= 6)
            assert done.json["models"]["small"]["windows"]["permanent"] == (number == 6)
            assert ("failed too often" in done.err) == (number == 6)
            assert ("the next run asks again" in done.err) == (number < 6)
        assert codes == [7] * 6 + [0, 0]
        ((attempts, said),) = home.rows("SELECT attempts, error FROM window_tiers WHERE status = 'failed'")
        assert attempts == 6
        assert "never" in said
        # Another model is another chance.
        chat.behave = lambda _number, body: (200, {}, honest(body))
        configure(home, chat.url, "small", temperature=0.9)
        assert home.run("ingest", "--reextract").code == 0
    assert home.rows("SELECT count(*) FROM window_tiers WHERE status = 'failed'") == [(0,)]


def test_a_server_that_is_down_is_given_up_soon_and_all_else_goes_on(home, tmp_path):
    transcript = write_jsonl(tmp_path / "chat.jsonl", talk(400))
    with Chat(lambda _number, _body: (503, SOON, error("down for today"))) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript, "--json", "--concurrency", "1")
        assert len(chat.requests) == 3 * 5, "three windows, each asked five times"
    assert done.code == 7
    assert "answers 503: down for today" in done.err
    assert "no more calls in this run: 3 windows in a row failed" in done.err
    windows = done.json["windows"]
    assert (windows["failed"], windows["waiting"]) == (3, 17)
    assert home.rows("SELECT count(*) FROM memories WHERE extraction_method = 'verbatim'") == [(400,)]
    assert home.rows("SELECT sum(cost_usd) FROM model_calls") == [(0.0,)]
    assert home.rows("SELECT max(attempts) FROM window_tiers WHERE status = 'waiting'") == [(0,)]


def test_a_wrong_key_stops_at_once_and_is_shown_nowhere(home, transcript):
    def strict(_number, _body):
        return 401, {}, error(f"Incorrect API key provided: {KEY}. You can find yours on our site.")

    with Chat(strict) as chat:
        configure(home, chat.url, "small", "premium")
        done = home.run("ingest", transcript, "--concurrency", "1", "--verbose")
        assert done.code == 7
        assert len(chat.requests) == 2, "one for each tier"
        assert chat.keys[0] == f"Bearer {KEY}"
        assert "check the key in the environment variable CHAT_KEY" in done.err
        assert tiers(home) == {"waiting": 5}
        assert KEY not in done.out + done.err
        assert KEY.encode() not in everything(home)
        chat.behave = lambda _number, body: (200, {}, honest(body))
        assert home.run("ingest", transcript).code == 0
        assert len(chat.requests) == 12
    assert KEY.encode() not in everything(home)


def test_windows_of_a_server_that_cannot_be_reached_wait_and_are_not_given_up(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small")
    done = home.run("ingest", transcript, "--json")
    assert done.code == 7
    assert done.err.count("cannot be reached (ConnectError)") == 1
    assert "tiers.small.base_url" in done.err
    windows = done.json["windows"]
    assert (windows["failed"], windows["waiting"], done.json["cost_usd"]) == (0, 5, 0.0)
    assert home.rows("SELECT status, max(attempts) FROM window_tiers WHERE tier = 'small' GROUP BY 1") == [
        ("waiting", 0)
    ]
    with Chat() as chat:
        configure(home, chat.url, "small")
        assert home.run("ingest", transcript).code == 0
        assert len(chat.requests) == 5


def test_calls_whose_answers_cannot_be_read_are_told_apart_from_those_that_were_answered(home, tmp_path):
    def torn(number, body):
        return (200, {}, b'{"choices": [') if number == 1 else (200, {}, honest(body))

    with Chat(torn) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", write_jsonl(tmp_path / "b.jsonl", talk(40)), "--concurrency", "1")
    assert done.code == 7
    assert "2 calls, " in done.out
    assert "1 of them never answered" in " ".join(done.out.split())


def test_openai_itself_is_not_asked_without_a_key(home, transcript):
    configure(home, "https://api.openai.com/v1", "small")
    done = home.run("ingest", transcript, env={"CHAT_KEY": ""})
    assert done.code == 2
    assert "set the environment variable CHAT_KEY" in done.err


@pytest.mark.parametrize("key", ["sk-first\nsk-second", "sk-ключ", "sk two words"])
def test_a_key_that_cannot_be_sent_is_found_before_any_call_and_costs_nothing(home, transcript, key):
    with Chat() as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript, env={"CHAT_KEY": key})
        assert chat.requests == []
    assert (done.code, done.out) == (2, "")
    assert "the key in the environment variable CHAT_KEY holds a character" in done.err
    assert key[:4] not in done.err
    assert not home.db.exists()


def test_the_key_and_the_account_of_openai_are_not_shown_to_other_servers(home, transcript):
    with Chat() as chat:
        configure(home, chat.url, "small")
        settings = home.folder / "memcli.toml"
        settings.write_text(settings.read_text().replace('api_key_env = "CHAT_KEY"\n', ""))
        account = {"OPENAI_ORG_ID": "org-of-mine", "OPENAI_PROJECT_ID": "project-of-mine"}
        done = home.run("ingest", transcript, env={"OPENAI_API_KEY": KEY} | account)
        assert done.code == 0
        assert not any(KEY in key for key in chat.keys)
        assert chat.accounts == {None}
        chat.behave = lambda _number, _body: (401, {}, error("who are you?"))
        done = home.run("ingest", write_jsonl(home.folder / "b.jsonl", talk(20, "s2")))
        assert "name the environment variable of its key: tiers.small.api_key_env" in done.err


@pytest.mark.parametrize("url", ["ftp://x", "http://user:pass@localhost/v1", "http://localhost/v1?key=1", "http://"])
def test_an_address_that_is_none_or_carries_secrets_is_refused(home, transcript, url):
    configure(home, url, "small")
    done = home.run("ingest", transcript)
    assert done.code == 2
    assert "pass" not in done.err.replace("password", "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("[tiers.tiny]\nmodel = 'x'", "tiers.tiny: no such tier did you mean"),
        ("[tiers.small]\nmodle = 'x'", 'tiers.small.modle: unknown key did you mean "model"?'),
        ("[tiers.small]\nprice_in = 1", "give both price_in and price_out"),
        ("[tiers.small]\nmax_tokens = 0", "tiers.small.max_tokens must be a whole number"),
        ("tiers = 3", "tiers must be tables, as in [tiers.NAME]"),
        ("budget = 3", "budget must be a table, as in [budget]"),
        ("max_usd = 3", "put it into the table [budget]"),
        ("[budget]\nmax_eur = 3", 'budget.max_eur: unknown key did you mean "max_usd"'),
        ("[budget]\nmax_usd = -1", "budget.max_usd must be a number"),
    ],
)
def test_what_is_wrong_in_the_settings_is_named(home, transcript, settings, said):
    (home.folder / "memcli.toml").write_text(settings)
    done = home.run("ingest", transcript)
    assert done.code == 2
    assert said in " ".join(done.err.split())


def test_settings_of_models_are_shown_with_where_they_come_from(home):
    (home.folder / "prompts").mkdir()
    (home.folder / "memcli.toml").write_text(
        "[budget]\nmax_usd = 2\nmax_tokens_per_month = 5\n[tiers.small]\nmodel = 'x'\nprompt = 'prompts/a.md'\n"
    )
    shown = home.run("config", "show", "--json", env={"MEMCLI_MAX_CALLS": "7", "MEMCLI_CONCURRENCY": "2"}).json
    values = {name: (each["value"], each["from"].split()[0]) for name, each in shown.items()}
    assert values["max_usd"] == (2.0, "file")
    assert values["max_tokens_per_month"] == (5, "file")
    assert values["max_calls"] == (7, "environment")
    assert values["concurrency"] == (2, "environment")
    assert values["tiers.small.model"] == ("x", "file")
    assert values["tiers.small.prompt"] == (str(home.folder / "prompts" / "a.md"), "file")
    assert values["tiers.premium.max_tokens"] == (800, "default")


@pytest.mark.parametrize(("content", "said"), [(None, "cannot read"), (b"", "empty"), (b"\xff\xfe", "not UTF-8")])
def test_a_prompt_that_cannot_be_used_is_said_before_anything_is_done(home, transcript, content, said):
    if content is not None:
        (home.folder / "mine.md").write_bytes(content)
    with Chat() as chat:
        configure(home, chat.url, "small", prompt="mine.md")
        done = home.run("ingest", transcript)
        assert (done.code, chat.requests) == (2, [])
    assert said in done.err
    assert "mine.md" in done.err


# --- in the process --------------------------------------------------------------------------------------------------


class Heard:
    """A Call that remembers what it was told."""

    def __init__(self):
        self.told = []

    def expect(self, tokens_in, tokens_out):
        self.worst = (tokens_in, tokens_out)

    def sent(self):
        self.told.append("sent")

    def refused(self, reason):
        self.told.append(reason)

    def lost(self, reason):
        self.told.append(f"lost {reason}")

    def answered(self, tokens_in, tokens_out, answer):
        self.told.append((tokens_in, tokens_out, answer is not None))


WINDOW = Window(1, 1, "anna", tuple(Part(number, "user", f"Message number {number}.") for number in range(6)))


def one(chat, timeout=120, **options):
    settings = {"model": "m", "base_url": chat.url, "timeout": timeout}
    from dataclasses import replace

    return LlmTier(
        replace(DEFAULT_TIERS["small"], **settings), load_prompt("small", None, ""), {}, LlmOptions(**options)
    )


def test_a_server_that_does_not_answer_in_time_may_have_charged():
    def asleep(_number, body):
        time.sleep(0.5)
        return 200, {}, honest(body)

    heard = Heard()
    with Chat(asleep) as chat, pytest.raises(ProviderError, match="does not answer within"):
        one(chat, timeout=0.1, retries=0).ask(WINDOW, heard)
    assert heard.told == ["sent", "lost ReadTimeout"]


def test_nothing_that_was_not_sent_is_charged():
    with Chat() as chat:
        tier = one(chat, retries=0)
    heard = Heard()
    with pytest.raises(ProviderError, match="cannot be reached"):
        tier.ask(WINDOW, heard)
    assert heard.told == ["sent", "ConnectError"]


def test_a_good_answer_is_told_once_with_its_tokens():
    heard = Heard()
    with Chat() as chat:
        tier = one(chat)
        answer = tier.ask(WINDOW, heard)
    assert heard.told == ["sent", (*chat.usage[0], True)]
    assert heard.worst[1] == 300
    assert len(tier.read(WINDOW, answer).candidates) == 2


def test_the_key_of_a_question_depends_on_all_that_decides_the_answer():
    from dataclasses import replace

    small = replace(DEFAULT_TIERS["small"], model="m")
    prompt = load_prompt("small", None, "")
    base = LlmTier(small, prompt, {}).key(WINDOW)
    assert (
        LlmTier(replace(small, base_url="http://localhost:1/v1", price_in=1.0, price_out=2.0), prompt, {}).key(WINDOW)
        == base
    )
    changed = [replace(small, model="n"), replace(small, temperature=0.5), replace(small, max_tokens=301)]
    keys = {LlmTier(each, prompt, {}).key(WINDOW) for each in changed}
    keys.add(LlmTier(small, load_prompt("small", None, "colours"), {}).key(WINDOW))
    parts = WINDOW.parts
    for other in (replace(parts[0], text="Message."), replace(parts[0], role="assistant")):
        keys.add(LlmTier(small, prompt, {}).key(replace(WINDOW, parts=(other, *parts[1:]))))
    assert len(keys | {base}) == 7


def test_answers_with_wrong_ids_and_inventions_are_paid_and_done(home, transcript):
    def wrong(_number, body):
        (name, _), *_ = asked_about(body).items()
        return 200, {}, completion({"memories": [statement("never said by anyone", name), statement("x", "m77")]})

    with Chat(wrong) as chat:
        configure(home, chat.url, "small")
        done = home.run("ingest", transcript)
        assert done.code == 0
        assert "10 rejected (invented_quote 5, unknown_message 5)" in " ".join(done.out.split())
        assert home.run("ingest", transcript).code == 0
        assert len(chat.requests) == 5
    assert json.loads(home.rows("SELECT report FROM runs WHERE id = 1")[0][0])["models"]["small"]["rejected"]
