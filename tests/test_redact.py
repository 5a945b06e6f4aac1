from __future__ import annotations

import base64
import hashlib
import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memcli.redact import redact, redact_bytes_head

# Put together at run time, so that no scanner takes the fixtures for leaked keys.
HEX = "0123456789abcdef"
MIXED = "aB3dE5gH7jK9mN1pQ4rS6tU8vW0xY2zA5bC7dE9fG1hJ3kL5"
KEYS = {
    "openai-key": ["sk-" + MIXED, "sk-" + "proj-" + "abC_1-" + MIXED, "sk-" + "or-v1-" + HEX * 4, "sk-" + HEX * 2],
    "anthropic-key": ["sk-" + "ant-api03-" + MIXED + "_-AA"],
    "github-token": [
        *("gh" + letter + "_" + MIXED[:36] for letter in "pousr"),
        "github" + "_pat_" + MIXED[:22] + "_" + MIXED,
    ],
    "gitlab-token": ["glpat" + "-" + MIXED[:20]],
    "slack-token": ["xox" + letter + "-1234567890-" + MIXED[:24] for letter in "abprs"],
    "aws-key-id": ["AKIA" + "IOSFODNN7EXAMPLE", "ASIA" + "QWERTYUIOP123456"],
    "google-key": ["AIza" + "SyA" + MIXED[:32]],
    "stripe-key": ["sk" + "_live_" + MIXED[:24], "rk" + "_live_" + MIXED[:24], "sk" + "_test_" + MIXED[:24]],
    "huggingface-token": ["hf" + "_" + MIXED[:34]],
    "npm-token": ["npm" + "_" + MIXED[:36]],
    "pypi-token": ["pypi" + "-AgEIcHlwaS5vcmc" + MIXED],
    "sendgrid-key": ["SG" + "." + MIXED[:22] + "." + MIXED[:43]],
    "telegram-token": ["123456789" + ":AA" + MIXED[:33]],
    "digitalocean-token": ["dop" + "_v1_" + HEX * 4],
    "jwt": ["eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + "." + MIXED[:43]],
}
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA75\n" + MIXED + "\n-----END RSA " + "PRIVATE KEY-----"
PAIRS = [(kind, key) for kind, keys in KEYS.items() for key in keys]


@pytest.mark.parametrize(("kind", "key"), PAIRS)
def test_a_key_is_replaced_by_its_kind_wherever_it_stands(kind, key):
    for before, after in [
        ("", ""),
        ("use ", " now"),
        ('KEY="', '"'),
        ("key=", "\n"),
        ("(", ")."),
        ("`", "`"),
        (":", ","),
    ]:
        assert redact(f"{before}{key}{after}") == (f"{before}[redacted:{kind}]{after}", {kind: 1})


@pytest.mark.parametrize(("kind", "key"), PAIRS)
def test_a_key_behind_a_json_escape_is_found(kind, key):
    raw = json.dumps({"text": f"the key:\n{key}\tis \\ secret"})
    assert key not in redact(raw)[0]
    assert redact(raw)[1] == {kind: 1}


def test_several_keys_are_counted_by_kind():
    text = " ".join(key for _, key in PAIRS)
    assert redact(text)[1] == {kind: len(keys) for kind, keys in KEYS.items()}


@pytest.mark.parametrize(
    "block",
    [
        PEM,
        PEM.replace("RSA ", ""),
        PEM.replace("RSA ", "ENCRYPTED "),
        PEM.replace("\n", "\\n"),
        PEM.replace("\n", "\n  | "),
        PEM.replace("RSA ", "PGP ").replace("KEY", "KEY BLOCK"),
        PEM.replace("\n", " "),
    ],
)
def test_a_private_key_block_goes_as_a_whole_and_what_surrounds_it_stays(block):
    assert redact(f"Here: {block} Thanks.") == ("Here: [redacted:private-key] Thanks.", {"private-key": 1})


def test_a_private_key_block_that_was_cut_off_loses_its_key_but_not_the_prose_behind_it():
    cut = PEM[: PEM.index("-----END")]
    assert redact(cut)[0].strip() == "[redacted:private-key]"
    assert redact(cut + "What is wrong with it?")[0] == "[redacted:private-key]\nWhat is wrong with it?"
    assert redact(PEM[:45])[0] == "[redacted:private-key]"
    headers = cut.replace("\n", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB12\n\n", 1)
    assert redact(headers)[0].strip() == "[redacted:private-key]"


def test_an_end_line_without_a_key_before_it_is_no_key():
    text = "It starts with -----BEGIN " + "PRIVATE KEY----- and goes on."
    assert redact(text) == (text, {})


def test_of_a_webhook_only_the_secret_path_goes():
    url = "https://hooks.slack.com/services/" + "T00000000/B00000000/" + MIXED[:24]
    assert redact(f"post to {url} please") == (
        "post to https://hooks.slack.com/services/[redacted:slack-webhook] please",
        {"slack-webhook": 1},
    )


@pytest.mark.parametrize(
    "template",
    [
        "AWS_SECRET_ACCESS_KEY={}",
        'aws_secret_access_key = "{}"',
        '{{"SecretAccessKey": "{}"}}',
        "secretKey: '{}'",
    ],
)
def test_an_aws_secret_goes_where_it_is_assigned(template):
    secret = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
    assert redact(template.format(secret)) == (template.format("[redacted:aws-secret]"), {"aws-secret": 1})


def test_an_aws_secret_goes_beside_its_key_id():
    secret = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
    text, counts = redact(f"{KEYS['aws-key-id'][0]}, {secret}")
    assert text == "[redacted:aws-key-id], [redacted:aws-secret]"
    assert counts == {"aws-key-id": 1, "aws-secret": 1}


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgres://bob:s3cret@db:5432/app", "postgres://bob:{}@db:5432/app"),
        ("redis://:s3cret@localhost", "redis://:{}@localhost"),
        ("mongodb+srv://u.x:p@ss,w;rd@c.mongodb.net", "mongodb+srv://u.x:{}@c.mongodb.net"),
        ("https://bob:to$ken@example.com/x", "https://bob:{}@example.com/x"),
        (r'{"u":"amqp:\/\/bob:s3cret@h\/v"}', r'{"u":"amqp:\/\/bob:{}@h\/v"}'),
    ],
)
def test_of_a_connection_string_only_the_password_goes(text, redacted):
    assert redact(text) == (redacted.replace("{}", "[redacted:password]"), {"password": 1})


def test_a_token_in_the_place_of_a_password_keeps_its_own_kind():
    token = KEYS["gitlab-token"][0]
    assert redact(f"https://oauth2:{token}@gitlab.com/a")[1] == {"gitlab-token": 1}


@pytest.mark.parametrize(
    "text",
    [
        hashlib.sha1(b"x", usedforsecurity=False).hexdigest(),
        hashlib.sha256(b"x").hexdigest(),
        "550e8400-e29b-41d4-a716-446655440000",
        "/home/user/.ssh/id_rsa and C:\\Users\\x\\task-list\\disk-usage-of-the-whole-machine.txt",
        base64.b64encode(bytes(range(256))).decode(),
        base64.b64encode(b'{"json": "eyJ is how base64 of JSON starts"}').decode(),
        "sk-... sk-xxxx sk-your-key-here risk-averse-people-of-the-21st-century task-0123456789abcdefghij",
        "postgres://user:<password>@host postgres://user:${DB_PASSWORD}@host ftp://u:$PASS@h ftp://u:****@h",
        "mysql://u:{password}@h mysql://u:%(password)s@h mysql://u:%s@h mysql://u:xxx@h mysql://u:...@h",
        "http://localhost:8080/path@v2 http://localhost:3000?mail=me@example.com https://medium.com/@user",
        "git@github.com:owner/repo.git ssh://git@host:22/repo docker://alpine:3.18@sha256:0123abcd",
        "hf_hub_download npm_config_registry sk_live_... ghp_ xoxb- AKIA AIza SG.x.y pypi-server-with-a-long-name",
        "time 12:34:56:AAA and 1234567890:AAPL",
        "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIE\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0B\n-----END PUBLIC KEY-----",
    ],
)
def test_what_is_no_credential_stays_as_it_is(text):
    assert redact(text) == (text, {})


TOKENS = st.sampled_from(
    [
        *(key for _, key in PAIRS),
        *("-----BEGIN " + "PRIVATE KEY-----", "-----END " + "PRIVATE KEY-----", "-----BEGIN", "[redacted:", "]", "["),
        *("://", ":", "@", "u", "sk-", "proj-", "eyJ", ".", "_", "-", " ", "\n", "\\n", "/", "=", '"', MIXED, "secret"),
        *("_key", "AKIA", "0", "postgres://u:pw@h", "$", "<", ">", "*", "x", "?"),
    ]
)


@example("AKIA" + "IOSFODNN7EXAMPLE" + KEYS["telegram-token"][0])
@example(KEYS["digitalocean-token"][0] + KEYS["openai-key"][0])
@given(st.lists(TOKENS, max_size=12).map("".join))
def test_redacting_a_redacted_text_changes_nothing(text):
    once, _ = redact(text)
    assert redact(once) == (once, {})


@given(st.text(), st.sampled_from(PAIRS), st.text())
def test_no_surroundings_with_white_space_between_save_a_key(before, pair, after):
    assert pair[1] not in redact(f"{before} {pair[1]} {after}")[0]


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "sk-",
            "sk-proj-",
            " sk-proj-",
            "-----BEGIN",
            PEM[:31],
            PEM[:31] + "\n",
            "eyJ",
            "-eyJ",
            "eyJaaaaaaaa.",
            "[",
            "-",
        ),
        *(
            "://u:",
            "://",
            ":xx",
            "secretkey:",
            "AKIA",
            "xoxb-a",
            "a-",
            "SG.",
            "SG.aaaaaaaaaaaaaaaaaaaaaa.",
            "1",
            "://:x*",
        ),
        *("glpat-", "hooks.slack.com/services/", "\\n", "ghp_a", "[redacted:", "-----BEGIN PRIVATE KEY-----a-"),
    ],
)
@pytest.mark.parametrize("tail", ["", "@ _ :AA -----BEGIN PRIVATE KEY-----"])
def test_a_megabyte_of_beginnings_takes_linear_time(unit, tail):
    text = unit * (1_000_000 // len(unit)) + tail
    started = time.perf_counter()
    redact(text)
    assert time.perf_counter() - started < 3


def test_the_head_of_a_rejected_line_is_redacted_before_it_is_cut():
    key = KEYS["openai-key"][0]
    raw = (b'{"text": "' + b"x" * 170 + b" " + key.encode() + b" and so on").replace(b"and", b"\xff")
    head = redact_bytes_head(raw)
    assert len(head) == 200
    assert "sk-" not in head
    assert head.endswith("[redacted:openai-ke")


def test_the_head_has_no_half_key_where_a_long_block_went_before_it():
    block = PEM.replace(MIXED, (MIXED * 400)[: 16_384 - len(PEM) + len(MIXED) - 15])
    raw = f"{block} {KEYS['openai-key'][0]}".encode()
    assert raw[:16_384].endswith(b" sk-aB3dE5gH7jK")
    assert "sk-" not in redact_bytes_head(raw)


def test_the_head_of_a_rejected_line_is_fit_for_a_terminal():
    raw = b'\xef\xbb\xbf{"a": "\x1b[31mred\x07\x9b\xe2\x80\xae\xe2\x80\xa8"\r\xff' + b"\0" * 50 + b"end"
    head = redact_bytes_head(raw)
    assert head.isprintable()
    assert "red" in head
    assert head.endswith("end")


def test_a_key_in_utf_16_is_not_shown():
    assert redact_bytes_head(f"key {KEYS['google-key'][0]} x".encode("utf-16-le")) == "key [redacted:google-key] x"


@given(st.binary(max_size=400), st.integers(0, 300))
def test_any_bytes_have_a_head_of_at_most_the_limit(raw, limit):
    assert len(redact_bytes_head(raw, limit)) <= limit
