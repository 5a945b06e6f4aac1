"""`memcli config show`: every setting with its value and its origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from memcli.config import Config

_UNSET = {
    "model": "none: the tier is not configured",
    "base_url": "OpenAI's",
    "api_key_env": "OPENAI_API_KEY for OpenAI",
    "prompt": "the package's",
    "tokenizer": "none: counts are estimates",
}


def effective(config: Config, origins: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    """Settings in their order as {name: (value, origin)}, the values of the profile in force below them.

    A value that is left to a default elsewhere is shown as that: the profile's tiers, the model's threshold.
    """
    profile, _ = config.active_profile()
    deferred = {"extract": list(profile.tiers), "near_threshold": "the embedding model's", "agent": "the transcript's"}
    deferred |= {"embed_batch_size": "auto"}
    values: dict[str, tuple[object, str]] = {}
    for item in fields(config):
        if item.name in {"profiles", "tiers"}:
            continue
        value = getattr(config, item.name)
        shown = deferred.get(item.name) if value is None else value
        values[item.name] = (str(shown) if isinstance(shown, Path) else shown, origins[item.name])
    for item in fields(profile):
        if item.name != "name":
            key = f"profiles.{profile.name}.{item.name}"
            values[key] = (getattr(profile, item.name), origins.get(key, "default"))
    for tier in config.tiers.values():
        for item in fields(tier):
            if item.name != "name":
                key = f"tiers.{tier.name}.{item.name}"
                value = getattr(tier, item.name)
                shown = _UNSET.get(item.name) if value is None else value
                values[key] = (str(shown) if isinstance(shown, Path) else shown, origins.get(key, "default"))
    return values
