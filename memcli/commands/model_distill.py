"""`memcli model distill`: make a static embedding model from a teacher and texts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memcli.config import Config
from memcli.embed.models import CARD_FILE
from memcli.errors import UsageError
from memcli.files import read_small, toml_of
from memcli.store import memories
from memcli.store.db import Store

if TYPE_CHECKING:
    from memcli.embed.distill.distilling import Words

EXTRA = 'pip install "memcli[train]"'


def distill(
    config: Config,
    teacher: Path,
    corpus: Sequence[str],
    out: Path,
    *,
    from_db: bool,
    cache: Path | None,
    card: Path | None,
    sts: Sequence[Path],
    seed: int,
    epochs: int,
    report: Callable[[str, int, int], None],
) -> dict[str, object]:
    """Make the model in `out` and return its card. `corpus` holds FILE or FILE=WEIGHT.

    Raises:
        UsageError: the extra is not installed, nothing to learn from, a file or folder that cannot be used, or
            something at `out` that is no model.
        NoDatabaseError: `from_db` without a database.
        DamagedError: the teacher cannot be loaded.
    """
    _check_target(out)
    if not corpus and not from_db:
        raise UsageError("nothing to learn from", "name text files with --corpus, or add --from-db")
    try:
        from memcli.embed.distill import corpus as texts  # noqa: PLC0415 - an extra that only this command needs
        from memcli.embed.distill import distilling, scores  # noqa: PLC0415 - as above
        from memcli.embed.distill.teacher import Teacher  # noqa: PLC0415 - as above
    except ImportError as error:
        raise UsageError(f"distilling needs the package {error.name}", EXTRA) from error

    parts: dict[str, tuple[Sequence[str], float]] = {}
    for each in corpus:
        path, weight = _weighted(each)
        if path.name in parts:
            raise UsageError(f"two corpus files are named {path.name}", "the card lists them by name: rename one")
        parts[path.name] = (texts.read_lines(path), weight)
    if from_db:
        with Store.open(config.db) as store:
            parts[config.db.name] = (memories.all_contents(store), 1.0)
    words = _words(card, distilling.Words, out.resolve().name)
    judged = [scores.read_judged(path) for path in sts]
    settings = distilling.Settings(seed=seed, epochs=epochs)
    beside = out.with_name(f"{out.name}.teacher") if cache is None else cache
    learned, taught = Teacher(teacher), texts.gather(parts)
    with _whole(out) as draft:
        return distilling.distill(learned, taught, draft, beside, settings, words, judged, report)


def _check_target(out: Path) -> None:
    """Raise UsageError when there is something at `out` that is no model to be replaced."""
    is_taken = out.exists() and not out.is_dir()
    if is_taken or (out.is_dir() and any(out.iterdir()) and not (out / CARD_FILE).is_file()):
        raise UsageError(f"{out} is there already, and is no model folder", "name another folder with --out")


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder to make the model in, which takes the place of `out` at the end: whole, or not at all."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}", "name another folder with --out") from error
    try:
        yield aside / "new"
        try:
            if out.exists():
                out.rename(aside / "old")
            (aside / "new").rename(out)
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error.strerror}", "name another folder with --out") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _weighted(given: str) -> tuple[Path, float]:
    path, equals, weight = given.rpartition("=")
    if not equals or Path(given).exists():
        return Path(given), 1.0
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not 0 < value <= 100:  # noqa: PLR2004 - beyond it is a slip
        raise UsageError(f"not a weight: {weight}", "write FILE=WEIGHT with a weight above 0, at most 100")
    return Path(path), value


def _words(path: Path | None, kind: type[Words], name: str) -> Words:
    """What --card says, with the folder's name where it gives none."""
    if path is None:
        return kind(name=name)
    try:
        given = toml_of(read_small(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "--card takes a TOML file") from error
    except ValueError as error:
        raise UsageError(f"{path}: not TOML: {error}", "--card takes a TOML file") from error
    known = {"name": str, "licence": str, "attribution": str, "near_threshold": float, "teacher": dict, "corpus": dict}
    for key, value in given.items():
        if key not in known or not isinstance(value, known[key]):
            raise UsageError(f"{path}: {key!r} is unknown or of the wrong kind", f"it may hold {', '.join(known)}")
    return kind(**({"name": name} | given))
