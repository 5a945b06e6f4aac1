"""Credentials that are known by their own form: the prefixes that providers document, and blocks of private keys."""

from __future__ import annotations

import re
from typing import NamedTuple

_KEY_BLOCK = r"(?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
_BREAK = r"(?:\s|\\[nr])*+"
# The block up to its END line, or, where it was cut off, its header lines and base64 lines. Only the possessive repeats
# keep many unterminated blocks linear.
_PRIVATE_KEY = (
    rf"-----BEGIN {_KEY_BLOCK}"
    rf"(?:(?:[^\[-]++|(?!-----|\[redacted:)[\[-])*+-----END {_KEY_BLOCK}"
    rf"|(?:{_BREAK}[A-Za-z-]{{4,20}}: [^\n\\]{{0,100}})*+(?:{_BREAK}[A-Za-z0-9+/=]{{16,}}+)++"
    rf"(?:{_BREAK}[A-Za-z0-9+/=]++(?=\s*\Z))?"
    r"|(?:\r?\n|\\[nr])*+[A-Za-z0-9+/=]++(?=\s*\Z))"
)
# In "://host:8080?to=a@b" the number is a port, "://image:1.2@sha256:" is no login; the rest is what people write in
# place of a password.
_PLACEHOLDER = (
    r"\[[^\]@\s]{0,100}\]|<[^>@\s]{0,100}>|\$?\{[^}@\s]{0,100}\}{1,2}|\$[A-Z_]{1,100}|\$\([^)@\s]{0,100}\)"
    r"|%s|%\(\w{1,100}\)s|\*+|[xX]+|\.+|…"
)
_CONNECTION = (
    r"""(?P<keep>:(?://|\\/\\/)[^\s:/?#@"'<>`]{0,100}:)"""
    rf"(?!\d{{1,5}}[?#])(?!(?:{_PLACEHOLDER})@)"
    r"""[^\s/"'`]{1,200}(?=@(?!sha\d))"""
)


class Detector(NamedTuple):
    """`literal` is what every hit contains: a text without it costs one substring test."""

    literal: str
    kind: str
    pattern: re.Pattern[str]


def _detector(literal: str, kind: str, pattern: str) -> Detector:
    return Detector(literal, kind, re.compile(pattern))


def _key(prefix: str, kind: str, rest: str, no_before: str = "A-Za-z0-9") -> Detector:
    """A key that starts with `prefix` where no word runs into it; raw JSON may put an escape before it.

    The look-behind stands behind the prefix because a search for a literal is several times faster.
    """
    literal = re.escape(prefix)
    start = rf"(?:(?<![{no_before}]{literal})|(?<=\\[nrt]{literal})|(?<=\\u[0-9A-Fa-f]{{4}}{literal}))"
    return _detector(prefix, kind, literal + start + rest)


_PUTTY_KEY = r"(?P<keep>Private-Lines: \d{1,4}(?:\r?\n|\\n))(?:[A-Za-z0-9+/=]{16,}+(?:\r?\n|\\n)?)++"
_ESCAPED = r"(?<=\\[nrt])"  # raw JSON
_WORD_START = rf"(?:(?<![A-Za-z0-9])|{_ESCAPED})"
_HEX_END = r"(?![A-Za-z0-9])"
_TOKENS = (
    _key("sk_", "stripe-key", r"(?:live|test)_[A-Za-z0-9]{16,}+"),
    _key("rk_", "stripe-key", r"(?:live|test)_[A-Za-z0-9]{16,}+"),
    _key("whsec_", "stripe-key", r"[A-Za-z0-9+/=]{32,}+"),
    _key("hf_", "huggingface-token", r"[A-Za-z0-9]{30,}+"),
    _key("npm_", "npm-token", r"[A-Za-z0-9]{30,}+"),
    _key("do", "digitalocean-token", r"[opr]_v1_[a-f0-9]{40,}+(?![A-Za-z0-9])"),
    _key("github_pat_", "github-token", r"[A-Za-z0-9_]{20,}+"),
    _key("gh", "github-token", r"[opsur]_[A-Za-z0-9]{20,}+"),
    _key("dckr_", "docker-token", r"(?:pat|oat)_[A-Za-z0-9_-]{20,}+"),
    _key("lin_", "linear-key", r"(?:api|oauth)_[A-Za-z0-9]{32,}+"),
    _key("ntn_", "notion-token", r"[A-Za-z0-9]{40,}+"),
    _key("secret_", "notion-token", r"[A-Za-z0-9]{43}(?![A-Za-z0-9_])"),
    _key("shp", "shopify-token", rf"(?:at|ss|ca|pa)_[a-fA-F0-9]{{32}}{_HEX_END}"),
    _key("glsa_", "grafana-token", rf"[A-Za-z0-9]{{32}}_[A-Fa-f0-9]{{8}}{_HEX_END}"),
    _key("glc_eyJ", "grafana-token", r"[A-Za-z0-9+/=]{32,}+"),
    _key("rubygems_", "rubygems-key", rf"[a-f0-9]{{48}}{_HEX_END}"),
    _key("gsk_", "groq-key", r"[A-Za-z0-9]{40,}+"),
    _key("r8_", "replicate-token", rf"[A-Za-z0-9]{{37}}{_HEX_END}"),
    _key("sntry", "sentry-token", r"(?:s_eyJ[A-Za-z0-9+/=_-]{40,}+|u_[a-f0-9]{64}(?![A-Za-z0-9]))"),
    _key("sbp_", "supabase-key", rf"[a-f0-9]{{40}}{_HEX_END}"),
    _key("sb_secret_", "supabase-key", r"[A-Za-z0-9_-]{20,}+"),
    _key("pscale_", "planetscale-token", r"(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{32,}+"),
    _key("figd_", "figma-token", r"[A-Za-z0-9_-]{40,}+"),
    _key("nfp_", "netlify-token", r"[A-Za-z0-9]{36,}+"),
    _key("pcsk_", "pinecone-key", r"[A-Za-z0-9_]{40,}+"),
    _key("lsv2_", "langsmith-key", rf"(?:pt|sk)_[a-f0-9]{{32}}_[a-f0-9]{{10}}{_HEX_END}"),
    _key("sgp_", "sourcegraph-token", rf"(?:(?:[a-f0-9]{{16}}|local)_)?[a-f0-9]{{40}}{_HEX_END}"),
    _key("ops_eyJ", "1password-token", r"[A-Za-z0-9+/=_-]{100,}+"),
)
_DIGIT_AHEAD = r"(?=[A-Za-z_-]{0,80}[0-9])"
_DASHED = (
    _detector("-----BEGIN", "private-key", _PRIVATE_KEY),
    _detector("Private-Lines", "private-key", _PUTTY_KEY),
    # A specific prefix comes before the general one.
    _key("sk-ant-", "anthropic-key", r"[A-Za-z0-9_-]{20,}+"),
    _key(
        "sk-",
        "openai-key",
        r"(?:(?:proj|svcacct|admin|None|or-v1)-(?=[A-Za-z_-]{0,80}[0-9])[A-Za-z0-9_-]{20}"
        r"|[A-Za-z0-9]{20})[A-Za-z0-9_-]*+",
    ),
    _key(
        "gl", "gitlab-token", rf"(?:pat|ptt|dt|rt|cbt|ft|imt|agent|oas|soat|ffct)-{_DIGIT_AHEAD}[A-Za-z0-9_-]{{20,}}+"
    ),
    _key("xox", "slack-token", r"[abeprs]-(?=[A-Za-z-]{0,80}[0-9])[A-Za-z0-9-]{10,}+"),
    _key("xapp-", "slack-token", r"\d-[A-Z0-9]{8,20}-\d{8,20}-[a-f0-9]{32,}+"),
    _key("pypi-A", "pypi-token", r"[A-Za-z0-9_-]{30,}+"),
    _key("AGE-SECRET-KEY-1", "age-key", rf"[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{{58}}{_HEX_END}"),
    _key("key-", "mailgun-key", rf"[0-9a-f]{{32}}{_HEX_END}", no_before="A-Za-z0-9_-"),
    _detector("-us", "mailchimp-key", rf"{_WORD_START}[0-9a-f]{{32}}-us\d{{1,2}}{_HEX_END}"),
    _key("GOCSPX-", "google-secret", r"[A-Za-z0-9_-]{20,}+"),
    _key("xai-", "xai-key", r"[A-Za-z0-9]{60,}+"),
    _key("pplx-", "perplexity-key", r"[A-Za-z0-9]{40,}+"),
    _key("nvapi-", "nvidia-key", r"[A-Za-z0-9_-]{50,}+"),
    _key("tvly-", "tavily-key", rf"{_DIGIT_AHEAD}[A-Za-z0-9-]{{20,}}+"),
    _key("NRAK-", "newrelic-key", rf"[A-Z0-9]{{27}}{_HEX_END}"),
    _key("PMAK-", "postman-key", rf"[a-f0-9]{{24}}-[a-f0-9]{{34}}{_HEX_END}"),
    _key("CFPAT-", "contentful-token", r"[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"),
    _key("pul-", "pulumi-token", rf"[a-f0-9]{{40}}{_HEX_END}"),
    _key("HRKU-", "heroku-key", r"AA[A-Za-z0-9_-]{50,}+"),
    _key("xkeysib-", "brevo-key", rf"[a-f0-9]{{64}}-[A-Za-z0-9]{{16}}{_HEX_END}"),
    _key("sq0", "square-token", r"(?:atp|csp)-[A-Za-z0-9_-]{22,}+"),
    _key("pat-", "hubspot-token", rf"(?:na|eu|ap)\d-[a-f0-9]{{8}}-(?:[a-f0-9]{{4}}-){{3}}[a-f0-9]{{12}}{_HEX_END}"),
)
_AWS_VALUE = r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
_AWS_ASSIGNED = r"""_?(?i:access_?)?(?i:key)["'\\]{0,3}\s{0,5}(?:=>|[:=])\s{0,5}["'\\]{0,3})""" + _AWS_VALUE
# The secret is looked for first: beside a key id that is still there.
_AWS = tuple(
    (
        prefix,
        (
            _detector(prefix, "aws-secret", rf"(?P<keep>{prefix}[A-Z0-9]{{16}}[\s\"',:;|/\\]{{1,6}}){_AWS_VALUE}"),
            _key(prefix, "aws-key-id", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
        ),
    )
    for prefix in ("AKIA", "ASIA")
)
_WEBHOOK = r"(?P<keep>hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9_/-]{20,}+"
_JWT = r"[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"
_AZURE = "[A-Za-z0-9_~.-]"
_TERRAFORM = _WORD_START + r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}+"
_DISCORD_HOOK = r"(?P<keep>discord(?:app)?\.com/api/webhooks/\d{1,24}/)[A-Za-z0-9_-]{60,}+"
_DISCORD_BOT = r"(?<![\w.-])[MNO][A-Za-z\d_-]{22,30}\.[\w-]{6}\.[\w-]{27,45}(?![\w.-])"
# A text is tested for the few gates only; behind each stand the detectors whose hits all contain it. Key ids, which end
# where no letter follows, come behind the tokens that may be glued to them; passwords come last, when a token in the
# place of one has its own kind.
GATES = (
    ("-", _DASHED),
    ("_", _TOKENS),
    (":AA", (_detector(":AA", "telegram-token", r"(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{32,}+"),)),
    *_AWS,
    *((word, (_detector(word, "aws-secret", f"(?P<keep>{word}{_AWS_ASSIGNED}"),)) for word in ("ecret", "ECRET")),
    ("AIza", (_key("AIza", "google-key", r"[A-Za-z0-9_-]{30,}+"),)),
    (
        "eyJ",
        (
            _key("sk.eyJ", "mapbox-token", r"[A-Za-z0-9_-]{20,}+\.[A-Za-z0-9_-]{20,}+"),
            _key("eyJ", "jwt", _JWT, no_before="A-Za-z0-9_-"),
        ),
    ),
    ("SG.", (_key("SG.", "sendgrid-key", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,}+"),)),
    (
        "/",
        (
            _key("1//0", "google-token", r"[A-Za-z0-9_-]{30,}+"),
            _detector("/api/webhooks/", "discord-webhook", _DISCORD_HOOK),
            _detector("hooks.slack.com", "slack-webhook", _WEBHOOK),
        ),
    ),
    (
        "=",
        (_detector("sig=", "azure-signature", r"(?P<keep>[?&;]sig=)[A-Za-z0-9%+/=-]{40,}+"),),
    ),
    (
        "~",
        (
            _detector(
                "Q~",
                "azure-secret",
                rf"(?:(?<!{_AZURE})|{_ESCAPED})[A-Za-z0-9_~.]{{3}}\dQ~{_AZURE}{{31,34}}(?!{_AZURE})",
            ),
        ),
    ),
    ("ya29", (_key("ya29.", "google-token", r"[A-Za-z0-9_-]{20,}+"),)),
    ("hv", (_key("hv", "vault-token", r"[sbr]\.[A-Za-z0-9_-]{24,}+"),)),
    ("dp.", (_key("dp.", "doppler-token", r"(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{40,}+"),)),
    (".atlas", (_detector(".atlasv1.", "terraform-token", _TERRAFORM),)),
    ("dapi", (_key("dapi", "databricks-token", r"[a-f0-9]{32}(?:-\d)?(?![A-Za-z0-9])"),)),
    ("SK", (_key("SK", "twilio-key", rf"[0-9a-f]{{32}}{_HEX_END}"),)),
    (
        "AT",
        (
            _key("ATATT3", "atlassian-token", r"[A-Za-z0-9_=-]{50,}+"),
            _key("ATBB", "bitbucket-token", r"[A-Za-z0-9]{28,}+"),
        ),
    ),
    ("pat", (_key("pat", "airtable-token", rf"[A-Za-z0-9]{{14}}\.[a-f0-9]{{64}}{_HEX_END}"),)),
    ("cio", (_key("cio", "crates-token", rf"(?=[A-Za-z]{{0,30}}\d)[A-Za-z0-9]{{32}}{_HEX_END}"),)),
    *((word, (_detector(word, "discord-token", _DISCORD_BOT),)) for word in ("iscord", "ISCORD")),
    ("@", (_detector("://", "password", _CONNECTION), _detector(r":\/\/", "password", _CONNECTION))),
)
