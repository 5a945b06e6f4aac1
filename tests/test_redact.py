from __future__ import annotations

import base64
import hashlib
import json
import random
import string
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
    "docker-token": ["dckr" + "_pat_" + MIXED[:27]],
    "linear-key": ["lin" + "_api_" + MIXED[:40]],
    "notion-token": ["ntn" + "_" + MIXED[:46], "secret" + "_" + MIXED[:43]],
    "shopify-token": ["shp" + letters + "_" + HEX * 2 for letters in ("at", "ss", "ca", "pa")],
    "grafana-token": ["glsa" + "_" + MIXED[:32] + "_" + HEX[:8], "glc" + "_eyJ" + MIXED],
    "rubygems-key": ["rubygems" + "_" + HEX * 3],
    "groq-key": ["gsk" + "_" + MIXED],
    "replicate-token": ["r8" + "_" + MIXED[:37]],
    "sentry-token": ["sntryu" + "_" + HEX * 4],
    "supabase-key": ["sbp" + "_" + (HEX * 3)[:40]],
    "planetscale-token": ["pscale" + "_tkn_" + MIXED],
    "figma-token": ["figd" + "_" + MIXED],
    "netlify-token": ["nfp" + "_" + MIXED[:36]],
    "pinecone-key": ["pcsk" + "_" + MIXED],
    "langsmith-key": ["lsv2" + "_pt_" + HEX * 2 + "_" + HEX[:10]],
    "sourcegraph-token": ["sgp" + "_" + (HEX * 3)[:40]],
    "1password-token": ["ops" + "_eyJ" + MIXED * 3],
    "age-key": ["AGE-SECRET" + "-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN54KHCE"],
    "mailgun-key": ["key" + "-" + HEX * 2],
    "mailchimp-key": [HEX * 2 + "-us" + "12"],
    "google-secret": ["GOCSPX" + "-" + MIXED[:28]],
    "google-token": ["ya29" + "." + MIXED, "1/" + "/0" + MIXED],
    "xai-key": ["xai" + "-" + MIXED + MIXED],
    "perplexity-key": ["pplx" + "-" + MIXED],
    "nvidia-key": ["nvapi" + "-" + MIXED + MIXED],
    "tavily-key": ["tvly" + "-" + MIXED[:32]],
    "newrelic-key": ["NRAK" + "-" + "ABC123DEF456GHJ789KLM012NPQ"],
    "postman-key": ["PMAK" + "-" + HEX + HEX[:8] + "-" + HEX * 2 + HEX[:2]],
    "pulumi-token": ["pul" + "-" + (HEX * 3)[:40]],
    "square-token": ["sq0" + "atp-" + MIXED[:22]],
    "hubspot-token": ["pat" + "-na1-" + "01234567-89ab-cdef-0123-456789abcdef"],
    "vault-token": ["hvs" + "." + MIXED],
    "doppler-token": ["dp" + ".pt." + MIXED],
    "terraform-token": [MIXED[:14] + ".atlas" + "v1." + MIXED + MIXED[:20]],
    "airtable-token": ["pat" + MIXED[:14] + "." + HEX * 4],
    "azure-secret": ["aB3" + "8Q" + "~" + MIXED[:33]],
    "databricks-token": ["dapi" + HEX * 2],
    "twilio-key": ["SK" + HEX * 2],
    "atlassian-token": ["ATATT3" + MIXED + MIXED],
    "bitbucket-token": ["ATBB" + MIXED[:32]],
    "crates-token": ["cio" + MIXED[:32]],
    "mapbox-token": ["sk" + ".eyJ" + MIXED + "." + MIXED[:22]],
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


# --- what only its surroundings give away ----------------------------------------------------------------------------

DRAW = random.Random(8)  # noqa: S311 - they unlock nothing
LETTERS = string.ascii_letters + string.digits


def drawn(length, letters=LETTERS):
    return "".join(DRAW.choice(letters) for _ in range(length))


def encoded(size):
    return base64.b64encode(DRAW.randbytes(size)).decode()


def login():
    return base64.b64encode(f"bob:{drawn(12)}".encode()).decode()


# A line as it stands in transcripts, what makes a value for it, and the kind of that.
ASSIGNED = [
    ("API_KEY={}", lambda: drawn(32), "api-key"),
    ('export ACME_KEY="{}"', lambda: drawn(40), "api-key"),
    ('{{"api_key": "{}", "n": 1}}', lambda: drawn(32, HEX), "api-key"),
    ("apiKey: '{}',", lambda: drawn(24), "api-key"),
    ('getenv("API_KEY", "{}")', lambda: drawn(32), "api-key"),
    ("curl -H 'x-api-key: {}' https://h", lambda: drawn(28), "api-key"),
    ("https://h/v1?api_key={}&q=1", lambda: drawn(32, HEX), "api-key"),
    ("AccountKey={};EndpointSuffix=core.windows.net", lambda: encoded(64), "api-key"),
    ("SharedAccessKey={}", lambda: encoded(32), "api-key"),
    ('client_secret = "{}"', lambda: drawn(30), "secret"),
    ('os.environ["SECRET_KEY"] = "{}"', lambda: drawn(50), "secret"),
    ("SECRET_KEY_BASE={}", lambda: drawn(64, HEX), "secret"),
    ("webhook_secret: {}", lambda: drawn(32, HEX), "secret"),
    ("token: {}", lambda: drawn(36), "token"),
    (r"{{\"access_token\": \"{}\"}}", lambda: drawn(43), "token"),
    ("//registry.npmjs.org/:_authToken={}", lambda: drawn(36), "token"),
    ("TWILIO_AUTH_TOKEN={}", lambda: drawn(32, HEX), "token"),
    ("AWS_SESSION_TOKEN={}", lambda: encoded(300), "token"),
    ("memcli --token {} run", lambda: drawn(40), "token"),
    ("Authorization: Bearer {}", lambda: drawn(40), "bearer-token"),
    ("Authorization: Basic {}", login, "basic-auth"),
    ('{{"auths": {{"h": {{"auth": "{}"}}}}}}', login, "basic-auth"),
    ('password = "{}"', lambda: drawn(8) + "1x!", "password"),
    ('password: str = "{}"', lambda: drawn(8) + "4z", "password"),
    ("DB_PASSWORD={}", lambda: drawn(9) + "a7", "password"),
    ("mysql --password {} db", lambda: drawn(10) + "q8", "password"),
    ("<password>{}</password>", lambda: drawn(10) + "3a", "password"),
    ("CREATE USER a WITH PASSWORD '{}';", lambda: drawn(11) + "2b", "password"),
    ("machine h login bob password {}", lambda: drawn(11) + "5c", "password"),
    ("curl -u bob:{} https://h/", lambda: drawn(12) + "9d", "password"),
]


@pytest.mark.parametrize(("line", "make", "kind"), ASSIGNED, ids=[line for line, _, _ in ASSIGNED])
def test_a_value_goes_that_a_name_says_is_a_credential(line, make, kind):
    found = 0
    for _ in range(100):
        value = make()
        text, counts = redact(f"Here it is\n{line.format(value)}\nThank you.")
        if counts:
            assert text == f"Here it is\n{line.format(f'[redacted:{kind}]')}\nThank you."
            assert counts == {kind: 1}
            found += 1
    assert found >= 95  # one in a hundred looks like a word


def test_a_jwt_or_a_key_of_a_provider_keeps_its_own_kind_behind_a_name():
    for kind in ("jwt", "openai-key", "stripe-key"):
        assert redact(f'password = "{KEYS[kind][0]}"')[1] == {kind: 1}


UUID, SHA = "550e8400-e29b-41d4-a716-446655440000", hashlib.sha1(b"x", usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "api_key = your-api-key-here",
        'API_KEY="<your key>" TOKEN=$TOKEN SECRET=${SECRET} PASSWORD={{ password }} password: %(password)s',
        "token = get_token() and secret = config.client_secret, password: settings.password2",
        'token = os.environ["TOKEN_2024"]; const apiKey = process.env.API_KEY_2',
        'password = "password123" password: changeme1 PASSWORD=xxxx1234 pwd = "********1"',
        f"token: {UUID} api_key={UUID} secret_id = {UUID}",
        f"commit_token: {SHA} cache_key={SHA} token_hash: {SHA} public_key: {MIXED}",
        f"primary_key = {MIXED} sort key: {MIXED} next_page_token={MIXED} key={MIXED}",
        "max_tokens: 1024, pad_token: [PAD], tokens=1234567890123456789, tokenizer = claude-sonnet-4-5-20250929",
        "token: claude-sonnet-4-5-20250929 secret: my_module_name_v2_final api_key: some/path/to/a_file_2024.json",
        '"TextGenerationStreamOutputToken", "TextGenerationStreamOutputTokenDetailsAndMore"',
        "PWD=/home/me/project2 OLDPWD=/srv/a1b2c3 pwd: C:\\Users\\x1 passwd: /etc/passwd2",
        "password: $2b$12$abcdefghijklmnopqrstuv password: " + SHA,
        "The password must have 8-16 characters. Password: at least 1 digit. The key: be patient; the token: a word.",
        "Bearer authentication is used, Authorization: Basic realm. The bearer of this letter. Basic question",
        "def login(password: str = None, token: Optional[str] = None, secret: bytes = b''): ...",
        "if password == other_password2: pass",
        "data:image/png;base64," + base64.b64encode(bytes(range(256))).decode(),
        '"key": "' + MIXED + '", "hash": "' + SHA + '", "sha256": "' + HEX * 4 + '", "etag": "' + MIXED + '"',
    ],
)
def test_what_stands_behind_a_name_and_is_no_credential_stays(text):
    assert redact(text) == (text, {})


@given(st.text(max_size=200))
def test_any_text_is_redacted_and_redacted_once(text):
    once, _ = redact(text)
    assert redact(once) == (once, {})


@given(st.text(alphabet="ab1=:'\" -\\n", max_size=30), st.text(alphabet="ab1=:'\" -\\n", max_size=30))
def test_what_surrounds_a_value_stays_as_it_was(before, after):
    value = "kR7xQ2mZ9pLwV4tB8nYc"
    text, _ = redact(f"{before}\nAPI_KEY={value}\n{after}")
    if value not in before + after:
        assert text == f"{before}\nAPI_KEY=[redacted:api-key]\n{after}"


@pytest.mark.parametrize("unit", ["İ password=a1!bcdef ", "token: ", "Kelvin K "])
def test_letters_that_grow_in_lower_case_do_not_move_the_places(unit):
    text = unit * 3 + "API_KEY=kR7xQ2mZ9pLwV4tB8nYc end"
    assert redact(text)[0].endswith("API_KEY=[redacted:api-key] end")


TOKENS = st.sampled_from(
    [
        *(key for _, key in PAIRS),
        *("-----BEGIN " + "PRIVATE KEY-----", "-----END " + "PRIVATE KEY-----", "-----BEGIN", "[redacted:", "]", "["),
        *("://", ":", "@", "u", "sk-", "proj-", "eyJ", ".", "_", "-", " ", "\n", "\\n", "/", "=", '"', MIXED, "secret"),
        *(
            "password",
            "token",
            "api_key=",
            "Bearer ",
            "'",
            "kR7xQ2mZ9pLwV4tB8nYc",
            "auth",
            "basic ",
            "login ",
            "--",
            ">",
        ),
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
        *(
            "password",
            "password=",
            "secretkey:",
            "token: '",
            "_key=",
            "bearer ",
            "basic ",
            "curl -u a:",
            "login a pwd ",
        ),
        *(
            "token=a1b2c3d4e5f6g7h8 ",
            "--token ",
            "glpat-",
            "-us1",
            "hvs.",
            "pat",
            "discord Mabc",
            "hooks.slack.com/services/",
            "\\n",
            "ghp_a",
            "[redacted:",
            "-----BEGIN PRIVATE KEY-----a-",
        ),
    ],
)
@pytest.mark.parametrize("tail", ["", "@ _ :AA -----BEGIN PRIVATE KEY-----"])
def test_a_megabyte_of_beginnings_takes_linear_time(unit, tail):
    text = unit * (1_000_000 // len(unit)) + tail
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 3


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
