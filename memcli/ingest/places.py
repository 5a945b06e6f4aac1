"""Where the programs whose transcripts memcli reads put them, and what lies there now."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memcli.errors import InputRejectedError
from memcli.ingest.inputs import ZIP, discover
from memcli.readers.archives import is_chatgpt_export

_CONVERSATIONS = "conversations.json"
_USER_FOLDERS = "user-dirs.dirs"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or a file with transcripts of one format: how many files, and their size together in bytes."""

    path: Path
    format: str
    files: int
    size: int

    def shown(self, home: Path) -> str:
        """The path as a shell takes it, `~` for the home."""
        if self.path.is_relative_to(home) and self.path != home:
            return f"~/{shlex.quote(str(self.path.relative_to(home)))}"
        return shlex.quote(str(self.path))


def home_of(environ: Mapping[str, str]) -> Path:
    """The user's home: HOME, else what the system's list of users says."""
    return Path(environ.get("HOME") or _path("~"))


def known_places(environ: Mapping[str, str]) -> list[Place]:
    """List the known places that hold transcripts now. Names and sizes are looked at, no transcript is opened.

    CLAUDE_CONFIG_DIR, CODEX_HOME, PI_CODING_AGENT_DIR, XDG_CONFIG_HOME and the user's download folder count as they do
    for the programs themselves.
    """
    found: list[Place] = []
    seen: set[tuple[int, int]] = set()
    for path, format_name in _candidates(environ, home_of(environ)):
        try:
            status = path.stat()
        except (OSError, ValueError):
            continue
        if (status.st_dev, status.st_ino) in seen:  # one of them may be a link to another
            continue
        seen.add((status.st_dev, status.st_ino))
        files, _ = discover([str(path)])
        sizes = [each.stat.st_size for each in files if each.stat is not None]
        if any(sizes):
            found.append(Place(path, format_name, len(sizes), sum(sizes)))
    return found


def command_for(places: Sequence[Place], home: Path) -> str:
    """The command that reads these places, to be pasted into a shell."""
    return " ".join(["memcli ingest", *(place.shown(home) for place in places)])


def _candidates(environ: Mapping[str, str], home: Path) -> Iterator[tuple[Path, str]]:
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    # Claude Code has had its folder in both; a variable that is set leaves no doubt.
    claude = environ.get("CLAUDE_CONFIG_DIR")
    for folder in [_path(claude)] if claude else [home / ".claude", config / "claude"]:
        yield folder / "projects", "claude-code"
    codex = _path(environ.get("CODEX_HOME") or home / ".codex")
    yield codex / "sessions", "codex"
    yield codex / "archived_sessions", "codex"
    yield _path(environ.get("PI_CODING_AGENT_DIR") or home / ".pi" / "agent") / "sessions", "pi"
    yield from ((path, "chatgpt") for path in _exports(_downloads(environ, config, home)))


def _path(named: str | Path) -> Path:
    """A path with `~` put in; a user that there is not stays as it is written."""
    return Path(os.path.expanduser(named))  # noqa: PTH111 - Path.expanduser fails there


def _exports(folder: Path) -> Iterator[Path]:
    """The exports of ChatGPT in a folder of downloads: zips that hold conversations, and what was unpacked there."""
    try:
        entries = sorted(folder.iterdir())
    except (OSError, ValueError):  # no such folder, or a name that cannot be one
        return
    for entry in entries:
        if entry.name == _CONVERSATIONS or (entry.suffix.lower() == ZIP and _is_export(entry)):
            yield entry
        elif os.path.isfile(entry / _CONVERSATIONS):  # noqa: PTH113 - is_file fails in a folder that may not be entered
            yield entry / _CONVERSATIONS


def _is_export(path: Path) -> bool:
    try:
        return os.path.isfile(path) and is_chatgpt_export(str(path))  # noqa: PTH113 - as below
    except (OSError, InputRejectedError):
        return False


def _downloads(environ: Mapping[str, str], config: Path, home: Path) -> Path:
    """The folder of downloads, which desktops let their users name (xdg-user-dirs)."""
    named = environ.get("XDG_DOWNLOAD_DIR") or _named_downloads(config / _USER_FOLDERS)
    return _path(named.replace("$HOME", str(home), 1)) if named else home / "Downloads"


def _named_downloads(file: Path) -> str | None:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.strip().partition("=")
        if name == "XDG_DOWNLOAD_DIR":
            return value.strip('"')
    return None
