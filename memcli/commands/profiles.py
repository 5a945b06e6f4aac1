"""`memcli profiles`: what each profile does and is expected to bring."""

from __future__ import annotations

from dataclasses import asdict

from memcli.config import Profile
from memcli.cost import creation_rate


def described(profile: Profile) -> dict[str, object]:
    """A profile as JSON: its settings, and the memories per 1,000 messages that its rate is meant to bring."""
    return asdict(profile) | {"tiers": list(profile.tiers), "memories_per_1000_messages": creation_rate(profile)}
