"""Taking a model into the data folder: what is not sound is refused, and nothing is left half installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from memcli.embed.graph import GraphFacts, check_graph, read_graph
from memcli.embed.layout import Files, card_of, told_dimension
from memcli.embed.models import (
    CALIBRATION_FILE,
    CARD_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    ModelFiles,
    copy_file,
    drafts,
    is_whole,
    load_card,
    move_folder,
    write_card,
)
from memcli.embed.onnx import OnnxEmbedder, load_session, vector_output
from memcli.errors import DamagedError, UsageError
from memcli.workers import workers

_DEPTHS = ("*", "*/*", "*/*/*")
GRAPHS = ("onnx/model.onnx", "model.onnx")
# Two texts of one bucket, one alone in another: what the batch decides shows in the first.
_PROBE = ("The deploy key lives in the vault.", "We retry 5 times, then stop!", "a longer text, " * 12)
_INDEPENDENT = 1e-5
_HINT = "get the model again, or take another one"


@dataclass(frozen=True, slots=True)
class Installed:
    """A model that was taken in; `is_new` says that it was not there before, `warnings` what its user must know."""

    files: ModelFiles
    is_new: bool
    warnings: tuple[str, ...] = ()


def folder_files(folder: Path, root: Path | None = None) -> Files:
    """The files of a folder by their path in it, as deep as models have any.

    Raises:
        UsageError: there is no such folder.
        DamagedError: a file or folder is a link that leads out of `root` (None: the folder).
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", "name the folder of a model")
    root = (root or folder).resolve()
    found: dict[str, Path] = {}
    for path in sorted(path for pattern in _DEPTHS for path in folder.glob(pattern)):
        real = path.resolve()
        if not real.is_relative_to(root) or not real.exists():
            raise DamagedError(
                f"{path}: a link that leads out of the folder, or nowhere",
                "copy the folder with its files, as cp -RL does, and import the copy",
            )
        if real.is_file():
            found[path.relative_to(folder).as_posix()] = real
    return found


def choose_graph(names: Mapping[str, object], wanted: str | None, where: str) -> str:
    """The name of the graph among a model's files: the one asked for, else the usual ones.

    Raises:
        UsageError: there is no such file.
    """
    graphs = [name for name in sorted(names) if name.endswith(".onnx")]
    listed = f"ONNX files there: {', '.join(graphs)[:500]}" if graphs else "there is no ONNX file at all"
    if wanted is not None:
        if wanted not in names:
            raise UsageError(f"{where} has no file {wanted}", listed)
        return wanted
    found = next((name for name in GRAPHS if name in names), None)
    if found is None:
        raise UsageError(
            f"{where} has none of {' and '.join(GRAPHS)}", f"name another with --file; {listed}" if graphs else listed
        )
    return found


def data_files_of(graph: Path, facts: GraphFacts, graph_name: str, names: Mapping[str, object]) -> dict[str, str]:
    """The files with a graph's weights as {name that it uses: name in the folder}.

    Raises:
        DamagedError: a file lies elsewhere than beside the graph, or is missing.
    """
    found = {}
    for location in sorted(facts.data_files):
        name = (PurePosixPath(graph_name).parent / location).as_posix()
        if PurePosixPath(location).name == location and name in names:
            found[location] = name
    check_graph(graph, facts, tuple(found))
    return found


def install(
    name: str,
    files: Files,
    wanted: str | None,
    store_dir: Path,
    origin: Mapping[str, object],
    *,
    dry_run: bool = False,
) -> Installed:
    """Take a model into `store_dir/<model_id>/`: one of the sentence-transformers or model2vec layout, or memcli's own.

    Args:
        name: what it will be called; another graph than the usual one has its name added.
        files: its files by their name in its folder.
        wanted: the graph that the user names, None: the usual one.
        store_dir: the folder of all models.
        origin: what the card says of where it comes from.
        dry_run: do everything, but leave nothing there.

    Raises:
        UsageError: there is no such graph, or one that must be asked for by its name; the folder cannot be written.
        DamagedError: a file is damaged, unsafe, or asks for what memcli cannot do.
    """
    if CARD_FILE in files and not any(each.endswith(".onnx") for each in files):
        raise DamagedError(f"{name}/{MODEL_FILE}: the model file is missing", _HINT)
    is_own = wanted in {None, MODEL_FILE} and {CARD_FILE, MODEL_FILE, TOKENIZER_FILE} <= files.keys()
    graph_name = MODEL_FILE if is_own else choose_graph(files, wanted, name)
    if graph_name not in GRAPHS:
        name = f"{name}:{PurePosixPath(graph_name).stem}"
    facts = read_graph(files[graph_name])
    sources = _sources(name, files, graph_name, facts)
    with drafts(None if dry_run else store_dir) as draft:
        for target, source in sources.items():
            copy_file(files[source], draft / target)
        try:
            notes: list[str] = []
            if is_own:
                copy_file(files[CARD_FILE], draft / CARD_FILE)
            else:
                data_files = sorted(sources.keys() - {MODEL_FILE, TOKENIZER_FILE})
                notes = _write_card(draft, name, files, {"file": graph_name, **origin}, data_files)
            loaded = load_card(draft)
            dependence = _probe(loaded)
        except DamagedError as error:
            # The draft is gone by the time that the user reads this.
            raise DamagedError(error.message.replace(f"{draft}/", f"{name}: "), _HINT) from error
        if facts.is_dynamically_quantised or dependence is not None:
            notes.append(_unsteady(dependence, is_quantised=facts.is_dynamically_quantised))
            if wanted is None:
                raise UsageError(
                    f"{name}: {graph_name}: {notes[-1]}",
                    f"take a float32 file, or take this one all the same with --file {graph_name}",
                )
        final = store_dir / loaded.model_id
        is_new = not is_whole(final)
        if not dry_run:
            if is_new and final.is_dir():
                _put_aside(final, draft)
            move_folder(draft, final)
    return Installed(replace(loaded, folder=final), is_new, tuple(notes))


def _put_aside(damaged: Path, draft: Path) -> None:
    """Make way for the sound files in `draft`; a calibration by the user goes over to them."""
    if (damaged / CALIBRATION_FILE).is_file():
        copy_file(damaged / CALIBRATION_FILE, draft / CALIBRATION_FILE)
    with drafts(damaged.parent) as aside:
        damaged.replace(aside / damaged.name)


def _sources(name: str, files: Files, graph_name: str, facts: GraphFacts) -> dict[str, str]:
    """What the model's folder will hold, as {name there: name in `files`}, but for the card."""
    beside = (PurePosixPath(graph_name).parent / TOKENIZER_FILE).as_posix()
    if TOKENIZER_FILE not in files and beside not in files:
        raise DamagedError(f"{name} has no {TOKENIZER_FILE}", "memcli needs that file; take another model")
    tokenizer = TOKENIZER_FILE if TOKENIZER_FILE in files else beside
    data = data_files_of(files[graph_name], facts, graph_name, files)
    return {MODEL_FILE: graph_name, TOKENIZER_FILE: tokenizer, **data}


def _write_card(
    draft: Path, name: str, files: Files, origin: Mapping[str, object], data_files: Sequence[str]
) -> list[str]:
    """Write the card of the files in `draft`; return what the user should know of it."""
    session = load_session(draft / MODEL_FILE, workers())
    inputs = frozenset(node.name for node in session.get_inputs())
    shapes = {node.name: node.shape for node in session.get_outputs()}
    card, notes = card_of(name, files, inputs, frozenset(shapes))
    output = vector_output(shapes, str(card["pooling"]))
    columns = shapes[output][-1] if output is not None and shapes[output] else None
    card |= {"dim": columns if isinstance(columns, int) else told_dimension(files), **origin}
    if data_files:
        card["data_files"] = list(data_files)
    write_card(draft, card)
    return notes


def _probe(files: ModelFiles) -> float | None:
    """Embed some texts; return the lowest cosine of a text alone and with others, None where that makes no difference.

    Raises:
        DamagedError: the model does not load or does not work, or its tokenizer knows tokens that its graph does not.
    """
    embedder = OnnxEmbedder(files)
    embedder.check_vocabulary()
    together = embedder.embed(_PROBE)
    alone = np.concatenate([embedder.embed([text]) for text in _PROBE])
    if not together.any(axis=1).all():
        raise DamagedError(f"{files.folder / MODEL_FILE}: the graph gives zeros for a text", _HINT)
    embedder.embed_queries(_PROBE[:1])
    if np.abs(together - alone).max() <= _INDEPENDENT:
        return None
    return float((together * alone).sum(axis=1).min())


def _unsteady(cosine: float | None, *, is_quantised: bool) -> str:
    found = "" if cosine is None else f" (cosine {cosine:.3f} between one alone and the same with two others)"
    reason = ", since this graph is quantised by the batch at hand" if is_quantised else ""
    return (
        f"a text's vector depends on what is embedded with it{found}{reason}: "
        "duplicates may be missed, and results are not reproducible"
    )
