"""What a backup tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was copied where. `generation` is the number of the last transaction on the corpus that is in it."""

    db: str
    file: str
    size: int
    generation: int
    faults: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return asdict(self) | {"seconds": round(self.seconds, 4)}
