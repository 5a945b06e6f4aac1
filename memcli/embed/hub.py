"""Models from a hub: what to fetch, downloads that go on where they broke off, checksums.

Files land in huggingface_hub's own cache (HF_HOME), in its documented layout, where other programs find them too.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from memcli.embed.graph import read_graph
from memcli.embed.install import choose_graph, data_files_of, folder_files
from memcli.embed.layout import Files
from memcli.embed.models import TOKENIZER_FILE
from memcli.errors import DamagedError, MemcliError, ProviderError, UsageError
from memcli.protocols import Progress

_BRANCH = "main"
_CONFIGS = frozenset(
    {"modules.json", "config.json", "config_sentence_transformers.json", "tokenizer_config.json", TOKENIZER_FILE}
)
_RESUMED_BYTES = 1_000_000
_CHUNK = 1 << 20
_SHA256_DIGITS = 64
_CHECKSUM = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_SECONDS = 30.0
# Pauses before what failed is tried again, each doubled as huggingface_hub does for contents of files; it asks but once
# for lists and headers, and memcli itself streams large files.
_PAUSES = (1.0, 2.0, 4.0)
_LONGEST_PAUSE = 60.0
_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
# Classes of the HTTP library by name: huggingface_hub has changed the library more than once.
_PASSING_ERRORS = frozenset({"TimeoutException", "NetworkError", "RemoteProtocolError"})
_AGAIN = "run it again: what has arrived is kept"


_T = TypeVar("_T")


class _BrokenOffError(DamagedError):
    """A download ended before its end; what arrived is kept."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A model as the hub lists it: its commit, its licence, and (bytes, checksum) of each file."""

    name: str
    commit: str
    licence: str | None
    files: Mapping[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to fetch of a listed model: the graph and the files that say what to do with it."""

    listing: Listing
    graph: str
    names: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.listing.files[name][0] for name in self.names)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    return bool(_hub().constants.HF_HUB_OFFLINE)


def look_up(name: str, graph: str | None, progress: Progress) -> Wanted:
    """Ask the hub for the files of a model, and pick. What may pass by itself is tried again, as `progress` is told.

    Raises:
        UsageError: there is no such model, or no such graph in it, or huggingface_hub is not installed.
        ProviderError: the hub does not answer, or not as a hub does.
    """
    hub = _hub()
    with _named(name):
        info = _patiently(lambda: _info(hub, name), name, progress)
        files = {each.rfilename: (each.size or 0, _checksum(each)) for each in info.siblings or ()}
        licence = getattr(info.card_data, "license", None) if info.card_data is not None else None
    listing = Listing(name, str(info.sha), licence if isinstance(licence, str) else None, files)
    chosen = choose_graph(files, graph, name)
    beside = (PurePosixPath(chosen).parent / TOKENIZER_FILE).as_posix()
    tokenizer = TOKENIZER_FILE if TOKENIZER_FILE in files else beside
    wanted = [each for each in files if each in _CONFIGS or _is_module_setting(each)]
    wanted += [each for each in (tokenizer, chosen) if each in files and each not in wanted]
    return Wanted(listing, chosen, tuple(wanted))


def _info(hub: Any, name: str) -> Any:  # noqa: ANN401 - huggingface_hub's ModelInfo
    try:
        return hub.HfApi().model_info(name, revision=_BRANCH, files_metadata=True, timeout=_SECONDS)
    except hub.errors.HFValidationError:
        raise
    except (ValueError, TypeError, KeyError) as error:  # whatever a page that is no listing leads to
        raise ProviderError(
            f"{hub.constants.ENDPOINT} does not answer as a hub does: {_first_line(error)}", "see HF_ENDPOINT"
        ) from error


def fetch(wanted: Wanted, progress: Progress) -> Files:
    """Download what is wanted, and the files beside the graph that hold weights of it; give them by name.

    Raises:
        ProviderError: the hub does not answer, or the model changed meanwhile; what has arrived is kept.
        DamagedError: a file is not what its checksum says.
    """
    listing = wanted.listing
    progress.start(wanted.size)
    found = {name: _fetch_file(listing, name, progress) for name in wanted.names}
    graph = found[wanted.graph]
    for name in data_files_of(graph, read_graph(graph), wanted.graph, listing.files).values():
        found[name] = _fetch_file(listing, name, progress)
    return found


def cached(name: str) -> tuple[Files, str]:
    """The files of a model in huggingface_hub's cache, and their commit.

    Raises:
        ProviderError: it is not there.
    """
    hub = _hub()
    with _named(name):
        found = hub.try_to_load_from_cache(name, TOKENIZER_FILE)
    if not isinstance(found, str):
        raise ProviderError(
            f"{name} is not in the cache {hub.constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to fetch it",
            "pull it once without HF_HUB_OFFLINE",
        )
    folder = Path(found).parent
    files = folder_files(folder, root=folder.parents[1])
    for each, path in files.items():
        # In this cache a file is named by its checksum.
        _verify(path, path.name, f"{name}: {each}")
    return files, folder.name


def _hub() -> Any:  # noqa: ANN401 - the module, where it is installed
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    try:
        import huggingface_hub.errors  # noqa: PLC0415 - an extra that only this needs
    except ImportError as error:
        raise UsageError("memcli model pull needs the package huggingface_hub", 'pip install "memcli[hub]"') from error
    hub: Any = huggingface_hub
    hub.logging.set_verbosity_error()
    return hub


def _is_module_setting(name: str) -> bool:
    path = PurePosixPath(name)
    is_pooling = path.name == "config.json" and path.parent.name.endswith("Pooling")
    return ".." not in path.parts and (is_pooling or path.match("sentence_*_config.json"))


def _checksum(file: Any) -> str:  # noqa: ANN401 - huggingface_hub's RepoSibling
    """SHA-256 of a large file, git's object id of a small one, empty where the hub gives none."""
    large = file.lfs
    return str(large.sha256 if large is not None else file.blob_id or "")


def _fetch_file(listing: Listing, name: str, progress: Progress) -> Path:
    size, checksum = listing.files[name]
    with _named(listing.name):
        if size > _RESUMED_BYTES and checksum:
            _resume(listing, name, progress)
        path = Path(_patiently(lambda: _in_cache(listing.name, name), f"{listing.name}: {name}", progress))
    # A file's place in the cache is snapshots/COMMIT/NAME.
    if path.parents[len(PurePosixPath(name).parts) - 1].name != listing.commit:
        raise ProviderError(f"{listing.name} was changed at the hub meanwhile", "run it again")
    real = path.resolve()
    try:
        if real.stat().st_size != size:
            raise DamagedError(f"{listing.name}: {name} has {real.stat().st_size:,} of {size:,} bytes", _AGAIN)
        _verify(real, checksum, f"{listing.name}: {name}")
    except DamagedError:
        real.unlink(missing_ok=True)
        raise
    progress.advance(size if size <= _RESUMED_BYTES else 0, 1)
    return real


def _in_cache(name: str, file: str) -> str:
    found: str = _hub().hf_hub_download(name, file, revision=_BRANCH, etag_timeout=_SECONDS)
    return found


def _resume(listing: Listing, name: str, progress: Progress) -> None:
    """Bring a large file into the cache, going on where an earlier call, even of another process, broke off."""
    hub = _hub()
    url, what = hub.hf_hub_url(listing.name, name, revision=listing.commit), f"{listing.name}: {name}"
    metadata = _patiently(lambda: hub.get_hf_file_metadata(url, timeout=_SECONDS), what, progress)
    size, checksum = listing.files[name]
    blobs = Path(hub.constants.HF_HUB_CACHE) / f"models--{listing.name.replace('/', '--')}" / "blobs"
    blob = blobs / checksum
    # Only where the cache would look for it; else hf_hub_download fetches the file in its own way.
    if metadata.etag != checksum or not _CHECKSUM.fullmatch(checksum) or blob.is_file():
        return
    headers = hub.utils.build_hf_headers()
    if urlsplit(metadata.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # signed links of other hosts must not see the user's token
    blobs.mkdir(parents=True, exist_ok=True)
    partial = blobs / f"{checksum}.memcli"
    with FileLock(f"{partial}.lock"), partial.open("ab") as out:
        arrived = out.tell()
        if arrived > size:
            _empty(out)
        progress.advance(out.tell(), 0)

        def go_on() -> None:
            with _complete(what, out, size):
                _stream(metadata.location, headers, out, progress)

        _patiently(go_on, what, progress)
        out.flush()
        try:
            _verify(partial, checksum, what)
        except DamagedError:
            partial.unlink()
            raise
        partial.replace(blob)


def _patiently(step: Callable[[], _T], what: str, progress: Progress) -> _T:
    """Do `step`, up to three times again, after growing pauses, while it fails with what may pass by itself.

    A hub that says how long to wait (Retry-After) is heeded, within a minute.
    """
    for number, pause in enumerate(_PAUSES, 2):
        try:
            return step()
        except Exception as error:
            if not _may_pass(error):
                raise
            seconds = _pause_of(error, pause)
            reason = _first_line(error) or type(error).__name__
            progress.note(f"{what}: {reason}; attempt {number} of {len(_PAUSES) + 1} in {seconds:g} s")
            time.sleep(seconds)
    return step()


def _stream(url: str, headers: dict[str, str], out: BinaryIO, progress: Progress) -> None:
    """Append to `out` what it has not got yet, chunk by chunk as it arrives."""
    arrived = out.tell()
    headers = {**headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={arrived}-"} if arrived else {})
    with _hub().get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=_SECONDS) as response:
        _hub().utils.hf_raise_for_status(response)
        if arrived and response.status_code != HTTPStatus.PARTIAL_CONTENT:
            _empty(out)
        for chunk in response.iter_raw():
            out.write(chunk)
            progress.advance(len(chunk), 0)


def _empty(out: BinaryIO) -> None:
    out.seek(0)
    out.truncate()


@contextmanager
def _complete(what: str, out: BinaryIO, size: int) -> Iterator[None]:
    """Raise DamagedError when a download that had begun breaks off; `out` keeps what has arrived."""
    reason: Exception | None = None
    before = out.tell()
    try:
        yield
    except MemcliError:
        raise
    except Exception as error:
        if not _is_of_network(error):
            raise
        reason = error
    arrived = out.tell()
    if arrived < size and arrived == before and reason is not None:
        raise reason
    if arrived < size:
        raise _BrokenOffError(f"{what}: the download broke off after {arrived:,} of {size:,} bytes", _AGAIN) from reason


def _verify(path: Path, checksum: str, what: str) -> None:
    """Raise DamagedError when the file's content is not that of its SHA-256 or git object id."""
    if not _CHECKSUM.fullmatch(checksum):
        return
    digest = hashlib.sha256() if len(checksum) == _SHA256_DIGITS else hashlib.sha1(usedforsecurity=False)
    if len(checksum) != _SHA256_DIGITS:
        digest.update(f"blob {path.stat().st_size}\0".encode())
    for chunk in _chunks(path):
        digest.update(chunk)
    if digest.hexdigest() != checksum:
        raise DamagedError(f"{what}: the content does not have the checksum {checksum}", "run it again")


def _chunks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_CHUNK), b"")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What errors of huggingface_hub mean to the user."""
    errors = _hub().errors
    try:
        yield
    except MemcliError:
        raise
    except errors.HFValidationError as error:
        raise UsageError(f"{name} is no name of a model: {_first_line(error)}", "names are like owner/model") from error
    except errors.GatedRepoError as error:
        raise UsageError(
            f"{name} is only for users with access", "ask for it on its page, then set HF_TOKEN"
        ) from error
    except errors.EntryNotFoundError as error:
        raise ProviderError(f"{name}: {_first_line(error)}", _AGAIN) from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"there is no model {name} at {_hub().constants.ENDPOINT}", "see whether it is spelt so"
        ) from error
    except Exception as error:
        if "Consistency check failed" in str(error):
            raise DamagedError(f"{name}: the download ended too early: {_first_line(error)}", _AGAIN) from error
        if _is_of_network(error):
            reason = _first_line(error) or type(error).__name__
            raise ProviderError(
                f"{name} cannot be fetched from {_hub().constants.ENDPOINT}: {reason}", _AGAIN
            ) from error
        raise


def _is_of_network(error: Exception) -> bool:
    # OSErrors, or of the HTTP library, which huggingface_hub has changed more than once.
    return isinstance(error, OSError) or type(error).__module__.split(".")[0].startswith(("httpx", "httpcore"))


def _may_pass(error: BaseException) -> bool:
    """Whether the error, or what it was raised from, is one of the network or of an overloaded hub."""
    return any(
        isinstance(each, _BrokenOffError)
        or getattr(getattr(each, "response", None), "status_code", None) in _PASSING_STATUS
        or any(kind.__name__ in _PASSING_ERRORS for kind in type(each).__mro__)
        for each in _causes(error)
    )


def _pause_of(error: BaseException, usual: float) -> float:
    """The seconds that the hub asks to wait, else `usual`."""
    for each in _causes(error):
        told = getattr(getattr(each, "response", None), "headers", {}).get("retry-after", "")
        if told.isascii() and told.isdigit():
            return min(float(told), _LONGEST_PAUSE)
    return usual


def _causes(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300]
