"""The embedder on a provider's API, against a real HTTP server on the loopback."""

import threading
import time

import numpy as np
import pytest
from support_api import DIM, Provider, answer, item, unit

from memcli.embed.api import ApiEmbedder, ApiModel, ApiOptions, probe
from memcli.errors import ProviderError, UsageError
from memcli.protocols import Spending
from memcli.provider import OPENAI_URL, checked_url

KEY = "sk-very-secret"
NOW = {"retry-after-ms": "5"}
TEXTS = [f"text number {number} of some" for number in range(40)]


def embedder(provider, spending=None, **options):
    return ApiEmbedder(
        ApiModel("small", DIM, provider.url), {"OPENAI_API_KEY": KEY}, ApiOptions(**options), spending or Spending()
    )


def expected(texts):
    return np.array([unit(text) for text in texts])


def fails(status, **more):
    return status, NOW, {"error": {"message": f"failed with {KEY}"} | more}


def test_a_thousand_texts_take_a_fiftieth_of_the_calls_and_keep_their_order():
    texts = [f"memory {number} about the deployment of the billing service" for number in range(1000)]
    with Provider() as provider:
        rows = embedder(provider).embed(texts)
        calls = len(provider.requests)
    assert calls <= len(texts) * 0.02
    assert calls == 1
    assert rows.dtype == np.float32
    assert np.abs(rows - expected(texts)).max() < 1e-6
    assert np.abs(np.linalg.norm(rows.astype(np.float64), axis=1) - 1).max() < 1e-6


def test_a_call_holds_no_more_texts_and_bytes_than_providers_take():
    with Provider() as provider:
        embedder(provider).embed([str(number) for number in range(5000)])
        assert sorted(map(len, provider.requests)) == [904, 2048, 2048]
    long = [f"{number} " + "é" * 1000 for number in range(400)]
    with Provider() as provider:
        rows = embedder(provider).embed(long)
        sizes = [sum(len(text.encode()) for text in texts) for texts in provider.requests]
    assert max(sizes) <= 300_000
    assert len(sizes) == 3
    assert np.abs(rows - expected(long)).max() < 1e-6


def test_several_calls_run_at_once_but_no_more_than_allowed_and_the_order_is_that_of_the_texts():
    def slow_first(number, texts):
        time.sleep(0.2 if number == 1 else 0.05)
        return 200, {}, answer(texts)

    texts = [f"{number} " + "x" * 7000 for number in range(300)]
    with Provider(slow_first) as provider:
        rows = embedder(provider, at_once=3).embed(texts)
        assert len(provider.requests) == 8
        assert provider.most_at_once == 3
    assert np.abs(rows - expected(texts)).max() < 1e-6


def test_the_key_goes_into_the_header_and_nowhere_else():
    with Provider() as provider:
        embedder(provider).embed(["a"])
        assert provider.keys == [f"Bearer {KEY}"]
        assert KEY not in str(provider.bodies)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_failure_that_passes_is_retried(status):
    def behave(number, texts):
        return fails(status) if number <= 3 else (200, {}, answer(texts))

    with Provider(behave) as provider:
        rows = embedder(provider).embed(TEXTS)
        assert len(provider.requests) == 4
    assert np.abs(rows - expected(TEXTS)).max() < 1e-6


def test_retry_after_is_waited_for():
    def behave(number, texts):
        return (429, {"retry-after": "0.6"}, {"error": {}}) if number == 1 else (200, {}, answer(texts))

    with Provider(behave) as provider:
        began = time.monotonic()
        embedder(provider).embed(["a"])
        assert time.monotonic() - began >= 0.6
        assert len(provider.requests) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "500ms"},
        {"x-ratelimit-remaining-tokens": "3", "x-ratelimit-reset-tokens": "0m0.5s"},
    ],
)
def test_no_call_is_made_before_the_limits_that_the_headers_tell_are_reset(headers):
    with Provider(lambda _number, texts: (200, headers, answer(texts))) as provider:
        client = embedder(provider)
        client.embed(["some text of a dozen bytes"])
        began = time.monotonic()
        client.embed(["another text of a dozen bytes"])
        assert time.monotonic() - began >= 0.45


def test_limits_that_are_far_off_do_not_slow_anything_down():
    headers = {"x-ratelimit-remaining-requests": "4999", "x-ratelimit-reset-requests": "30s"}
    with Provider(lambda _number, texts: (200, headers, answer(texts))) as provider:
        client = embedder(provider)
        began = time.monotonic()
        for text in TEXTS[:5]:
            client.embed([text])
        assert time.monotonic() - began < 10


def test_an_answer_that_does_not_come_in_time_is_asked_for_again():
    def behave(number, texts):
        if number == 1:
            time.sleep(1.0)
        return 200, {}, answer(texts)

    with Provider(behave) as provider:
        rows = embedder(provider, timeout=0.3).embed(["a"])
        assert len(provider.requests) == 2
    assert np.abs(rows - expected(["a"])).max() < 1e-6


def test_a_provider_that_stays_silent_fails_the_run_by_name():
    with Provider(lambda _number, texts: time.sleep(0.5) or (200, {}, answer(texts))) as provider:
        with pytest.raises(ProviderError, match=r"does not answer within 0\.1 s") as caught:
            embedder(provider, timeout=0.1, retries=0).embed(["a"])
        assert provider.url in caught.value.message


@pytest.mark.parametrize(
    ("status", "calls", "hint"),
    [(401, 1, "OPENAI_API_KEY"), (403, 1, "OPENAI_API_KEY"), (404, 1, "name of the model"), (429, 3, "again"),
     (500, 3, "again")],
)  # fmt: skip
def test_a_failure_that_stays_says_what_to_do_and_never_the_key(status, calls, hint):
    with Provider(lambda *_: fails(status)) as provider:
        with pytest.raises(ProviderError) as caught:
            embedder(provider, retries=2).embed(TEXTS)
        assert len(provider.requests) == calls
    assert f"answers {status}: failed with ***" in caught.value.message
    assert hint in caught.value.hint
    assert KEY not in repr(caught.value) + str(caught.value.__cause__)


def test_a_provider_that_is_not_there_fails_the_run_by_name():
    with Provider() as provider:
        url = provider.url
    with pytest.raises(ProviderError, match="cannot be reached"):
        ApiEmbedder(ApiModel("m", DIM, url), {}, ApiOptions(retries=0)).embed(["a"])


def test_answers_in_another_order_are_put_right_by_their_indexes():
    def behave(_number, texts):
        document = answer(texts)
        document["data"].reverse()
        return 200, {}, document

    with Provider(behave) as provider:
        rows = embedder(provider).embed(TEXTS)
        assert len(provider.requests) == 1
    assert np.abs(rows - expected(TEXTS)).max() < 1e-6


def broken(change):
    """Only the first answer is broken."""

    def behave(number, texts):
        document = answer(texts)
        if number == 1:
            change(document["data"])
        return 200, {}, document

    return behave


def drop_three(data):
    del data[5], data[11], data[-1]


def spoil_three(data):
    data[0]["embedding"] = [float("nan")] * DIM
    data[7]["embedding"] = [0.0] * DIM
    data[9]["embedding"] = data[9]["embedding"][:20]


@pytest.mark.parametrize("change", [drop_three, spoil_three])
def test_rows_that_are_missing_or_no_vectors_are_asked_for_singly(change):
    with Provider(broken(change)) as provider:
        rows = embedder(provider).embed(TEXTS)
        assert [len(texts) for texts in provider.requests] == [40, 1, 1, 1]
    assert np.abs(rows - expected(TEXTS)).max() < 1e-6


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.append(data[0]),
        lambda data: [each.update(index=0) for each in data],
        lambda data: data[3].update(index=99),
        lambda data: data[3].update(index="3"),
        lambda data: data.clear(),
    ],
    ids=["too many", "one index", "foreign index", "no index", "none"],
)
def test_an_answer_that_does_not_tell_whose_rows_they_are_is_asked_for_again_by_halves(change):
    with Provider(broken(change)) as provider:
        rows = embedder(provider).embed(TEXTS)
        assert [len(texts) for texts in provider.requests] == [40, 20, 20]
    assert np.abs(rows - expected(TEXTS)).max() < 1e-6


def test_a_server_without_indexes_is_taken_at_its_order():
    def behave(_number, texts):
        document = answer(texts)
        for each in document["data"]:
            del each["index"]
        return 200, {}, document

    with Provider(behave) as provider:
        assert np.abs(embedder(provider).embed(TEXTS) - expected(TEXTS)).max() < 1e-6


def test_a_server_that_sends_numbers_instead_of_base64_is_understood():
    def behave(_number, texts):
        data = [{"index": place, "embedding": unit(text).tolist()} for place, text in enumerate(texts)]
        return 200, {}, {"data": data}

    with Provider(behave) as provider:
        assert np.abs(embedder(provider).embed(TEXTS) - expected(TEXTS)).max() < 1e-6


def test_a_server_that_takes_fewer_texts_is_found_out_once():
    def behave(_number, texts):
        return (422, {}, {"error": {"message": "batch too large"}}) if len(texts) > 16 else (200, {}, answer(texts))

    with Provider(behave) as provider:
        client = embedder(provider, at_once=1)
        assert np.abs(client.embed(TEXTS) - expected(TEXTS)).max() < 1e-6
        before = len(provider.requests)
        client.embed(TEXTS)
        later = [len(texts) for texts in provider.requests[before:]]
    assert max(later) <= 16
    assert len(later) <= 4


def test_a_text_that_the_provider_refuses_ends_the_run_with_what_it_said():
    def behave(_number, texts):
        refused = any("of forbidden things" in text for text in texts)
        return (400, {}, {"error": {"message": f"not allowed {KEY}"}}) if refused else (200, {}, answer(texts))

    with Provider(behave) as provider:
        with pytest.raises(ProviderError, match=r"refuses a text of 19 characters: not allowed \*\*\*"):
            embedder(provider).embed([*TEXTS, "of forbidden things"])
        assert len(provider.requests) < 15


def test_a_text_that_never_gets_a_vector_ends_the_run():
    def behave(_number, texts):
        data = [item(place, text) for place, text in enumerate(texts) if text != "lost"]
        return 200, {}, {"data": data}

    with Provider(behave) as provider, pytest.raises(ProviderError, match="no usable vector for a text of 4"):
        embedder(provider).embed([*TEXTS, "lost"])


def test_vectors_of_another_length_are_those_of_another_model():
    with Provider(lambda _number, texts: (200, {}, answer(texts, 8))) as provider:
        with pytest.raises(ProviderError, match="vectors of 8 numbers, where openai:small has 16"):
            embedder(provider).embed(TEXTS)
        assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b"[1]", b"<html>", b'"x"', b"null", b'{"data": 7}', b'{"data": [null]}', b"[" * 9999]
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_an_answer_that_is_something_else_is_a_provider_error(raw, kind):
    with Provider(lambda *_: (200, {"content-type": kind}, raw)) as provider, pytest.raises(ProviderError):
        embedder(provider, retries=0).embed(["a"])


def test_white_space_is_not_sent_and_has_the_zero_row():
    with Provider() as provider:
        rows = embedder(provider).embed(["", "a", " \n", "\ud800b"])
        assert provider.texts == ["a", "\ufffdb"]
        assert embedder(provider).embed([" "]).shape == (1, DIM)
        assert embedder(provider).embed([]).shape == (0, DIM)
        assert len(provider.requests) == 1
    assert rows.any(axis=1).tolist() == [False, True, False, True]


def test_a_text_beyond_the_models_limit_is_cut_off_between_characters():
    with Provider() as provider:
        embedder(provider).embed(["é" * 5000])
        assert provider.texts == ["é" * 4095]


def test_calls_tokens_and_cost_are_added_up():
    spending = Spending()
    with Provider() as provider:
        client = embedder(provider, spending, price=2.5)
        client.embed(["abcd", "efgh"])
        client.embed(["ij"])
    assert (spending.calls, spending.tokens) == (2, 10)
    assert spending.cost_usd == pytest.approx(10 * 2.5 / 1e6)


def test_without_a_price_only_tokens_are_counted():
    spending = Spending()
    with Provider() as provider:
        embedder(provider, spending).embed(["abcd"])
    assert (spending.tokens, spending.cost_usd) == (4, 0.0)


def test_the_length_of_the_vectors_is_asked_for_once():
    spending = Spending()
    with Provider() as provider:
        model = probe("small", provider.url, {}, ApiOptions(), spending)
        assert len(provider.requests) == spending.calls == 1
        assert provider.keys == ["Bearer none"]
    assert (model.dim, model.base_url, model.name) == (DIM, provider.url, "openai:small")


def test_the_id_is_of_name_and_dimensions_wherever_the_model_is_hosted():
    here = ApiModel("small", 16, "http://a/v1").model_id
    assert here == ApiModel("small", 16, "http://b/v1").model_id
    assert len({here, ApiModel("small", 8, "").model_id, ApiModel("large", 16, "").model_id}) == 3
    assert len(here) == 32


def test_openai_itself_is_not_asked_without_a_key():
    with pytest.raises(UsageError, match="no key") as caught:
        ApiEmbedder(ApiModel("m", 3), {"OPENAI_API_KEY": " "}).embed(["a"])
    assert "OPENAI_API_KEY" in caught.value.hint


def test_no_thread_is_left_behind():
    with Provider() as provider:
        embedder(provider, at_once=8).embed(["x" * 8000 + str(number) for number in range(300)])
    time.sleep(0.05)
    assert not [each for each in threading.enumerate() if each.name == "embedding-call"]


@pytest.mark.parametrize(
    "url",
    ["ftp://a/v1", "localhost:80", "", "http://", "http://a:b", "https://u:p@a/v1", "http://a/v1?key=1", "http://a b"],
)
def test_a_base_url_that_cannot_be_or_carries_credentials_is_refused(url):
    with pytest.raises(UsageError) as caught:
        checked_url(url)
    assert "u:p" not in caught.value.message


def test_a_base_url_loses_its_slash():
    assert checked_url(OPENAI_URL + "/") == OPENAI_URL
