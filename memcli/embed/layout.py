"""The layout of sentence-transformers and model2vec folders: from their configuration files to a model card.

Only JSON is read. Code that a folder names (`auto_map`) and pickled weights are never looked at.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from memcli.embed.models import IN_GRAPH, UNIT_LENGTH
from memcli.errors import DamagedError

_KNOWN = Path(__file__).parent / "known.toml"
_MOST_BYTES = 10_000_000
_USUAL_LENGTH = 512
_LONGEST = 8192
# The cosine from which two texts may be near duplicates; every pair must pass the gates as well. On labelled pairs of
# minimal differences all-MiniLM-L6-v2 merges 30 of 102 duplicates at it and none of 124 distinct pairs; what other
# models do is not measured.
NEAR_THRESHOLD = 0.9
_HINT = "get the folder again, or take another model"

_MODULES = {"Transformer", "Pooling", "Normalize", "StaticEmbedding", "Dropout"}
_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
_POOLING_WORDS = {"cls": "cls", "mean": "mean", "max": "max", "lasttoken": "last"}
_QUERY_NAMES = ("query",)
_PASSAGE_NAMES = ("document", "passage", "corpus")
# Their first position belongs to the padding token, so that they take fewer tokens than they have positions.
_SHIFTED_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet"}

Files = Mapping[str, Path]


def card_of(
    name: str, files: Files, inputs: frozenset[str], outputs: frozenset[str]
) -> tuple[dict[str, object], list[str]]:
    """The card of a model, without its id and dimension, and what had to be guessed.

    Args:
        name: what it is called; models that are known by name are helped out by `known.toml`.
        files: the folder's files by their path in it.
        inputs: the names of the graph's inputs.
        outputs: the names of the graph's outputs.

    Raises:
        DamagedError: a file makes no sense, or asks for what memcli cannot do.
    """
    modules, notes = _modules(files), []
    is_bag = "offsets" in inputs
    known = {} if is_bag else known_model(name)
    prompts = _prompts(files)
    card: dict[str, object] = {
        "name": name,
        "max_tokens": _max_tokens(files),
        "pooling": IN_GRAPH,
        "normalise": UNIT_LENGTH,
        "near_threshold": NEAR_THRESHOLD,
    }
    if is_bag:
        card["skipped_id"] = _unknown_token(files)
    else:
        pooling = _pooling(files, modules, outputs, has_prompts=bool(prompts)) or known.get("pooling")
        if pooling is None:
            notes.append("its files do not say how to pool: the mean is taken, as sentence-transformers would")
        card["pooling"] = pooling or "mean"
        card["special_tokens"] = True
        card["pad_id"] = _pad_id(files)
        card["lower_case"] = _bert_config(files).get("do_lower_case") is True
    for key in ("query_prompt", "passage_prompt"):
        card[key] = prompts.get(key, known.get(key, ""))
    return card, notes


def told_dimension(files: Files) -> int:
    """The length of a model's vectors by its configuration.

    Raises:
        DamagedError: none is told.
    """
    config = _read(files, "config.json", dict)
    told = [_read(files, "1_Pooling/config.json", dict).get("word_embedding_dimension")]
    told += [config.get(key) for key in ("hidden_dim", "hidden_size")]
    found = next((each for each in told if _whole(each)), None)
    if found is None:
        raise DamagedError("neither the graph nor config.json tells the length of the vectors", _HINT)
    return _whole(found)


def known_model(name: str) -> dict[str, str]:
    """What is known of a model by the last part of its name: pooling, query_prompt, passage_prompt."""
    last = name.rsplit("/", 1)[-1].casefold()
    return next((entry for entry in _known() if any(fnmatchcase(last, each) for each in entry["names"])), {})


@cache
def _known() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = tomllib.loads(_KNOWN.read_text(encoding="utf-8"))["model"]
    return entries


def _modules(files: Files) -> dict[str, str]:
    """The modules of the model as {kind: folder}, empty where the folder does not list them."""
    found = _read(files, "modules.json", list)
    modules = {}
    for each in found:
        kind, path = (each.get("type"), each.get("path")) if isinstance(each, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(path, str):
            raise DamagedError(f"{files['modules.json']}: a module without type and path", _HINT)
        modules[kind.rsplit(".", 1)[-1]] = path
    return modules


def _pooling(files: Files, modules: Mapping[str, str], outputs: frozenset[str], *, has_prompts: bool) -> str | None:
    """How token vectors are pooled, None where the folder does not say."""
    further = sorted(modules.keys() - _MODULES)
    tokens = outputs & {"last_hidden_state", "token_embeddings"}
    if further or not tokens:
        # What follows the transformer is not in its output, but it is in the sentence's.
        if outputs & {"sentence_embedding", "embedding", "embeddings"}:
            return IN_GRAPH
        reason = f"the model has the module {further[0]}" if further else f"the graph's outputs are {sorted(outputs)}"
        raise DamagedError(
            f"{reason}, which memcli cannot work out",
            "take an ONNX file with the output sentence_embedding, or last_hidden_state",
        )
    folder = modules.get("Pooling", "1_Pooling")
    name = f"{folder}/config.json"
    config = _read(files, name, dict)
    if not config:
        return None
    if has_prompts and config.get("include_prompt") is False:
        raise DamagedError(f"{files[name]}: pooling without the prompt is not supported", "take another model")
    mode = config.get("pooling_mode")
    modes = (
        [mode] if isinstance(mode, str) else [key for key in config if key != "pooling_mode" and _is_on(config, key)]
    )
    found = [_POOLING_WORDS.get(each, _POOLING_KEYS.get(each, "")) for each in modes]
    if len(found) != 1 or not found[0]:
        asked = ", ".join(modes)[:200] or "nothing"
        raise DamagedError(
            f"{files[name]}: pooling by {asked} is not supported", "memcli does one of mean, cls, max and last token"
        )
    return found[0]


def _is_on(config: Mapping[str, object], key: str) -> bool:
    return key.startswith("pooling_mode") and config[key] is True


def _prompts(files: Files) -> dict[str, str]:
    config = _read(files, "config_sentence_transformers.json", dict)
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(each, str) for each in prompts.values()):
        raise DamagedError(f"{files['config_sentence_transformers.json']}: prompts that are no texts", _HINT)
    usual = prompts.get(config.get("default_prompt_name"), "")
    query = next((prompts[name] for name in _QUERY_NAMES if name in prompts), usual)
    passage = next((prompts[name] for name in _PASSAGE_NAMES if name in prompts), usual)
    return {"query_prompt": query, "passage_prompt": passage} if query or passage else {}


def _bert_config(files: Files) -> dict[str, Any]:
    name = next((name for name in sorted(files) if fnmatchcase(name, "sentence_*_config.json")), "")
    config: dict[str, Any] = _read(files, name, dict)
    return config


def _max_tokens(files: Files) -> int:
    config = _read(files, "config.json", dict)
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _SHIFTED_POSITIONS:
        positions -= 2
    told = (
        _bert_config(files).get("max_seq_length"),
        _read(files, "tokenizer_config.json", dict).get("model_max_length"),
        positions,
    )
    lengths = [each for each in told if isinstance(each, int) and 0 < each <= _LONGEST]
    # sentence-transformers takes its own setting first; no text may have more tokens than there are positions.
    length = lengths[0] if lengths else _USUAL_LENGTH
    return min(length, positions) if isinstance(positions, int) and positions > 0 else length


def _pad_id(files: Files) -> int:
    """The token that fills up shorter texts; models that count positions by it need the right one."""
    wanted = _token(_read(files, "tokenizer_config.json", dict).get("pad_token"))
    vocabulary = _read(files, "tokenizer.json", dict)
    added = vocabulary.get("added_tokens")
    for each in added if isinstance(added, list) else []:
        if isinstance(each, dict) and wanted is not None and each.get("content") == wanted:
            return _whole(each.get("id"))
    padding = vocabulary.get("padding")
    if isinstance(padding, dict):
        return _whole(padding.get("pad_id"))
    return _whole(_read(files, "config.json", dict).get("pad_token_id"))


def _unknown_token(files: Files) -> int:
    """The token that model2vec leaves out, -1 where there is none."""
    tokenizer = _read(files, "tokenizer.json", dict).get("model")
    if not isinstance(tokenizer, dict):
        return -1
    unknown, vocabulary = tokenizer.get("unk_token"), tokenizer.get("vocab")
    if isinstance(vocabulary, dict) and isinstance(unknown, str):
        return _whole(vocabulary.get(unknown), -1)
    # A Unigram vocabulary is a list, its unknown token a place in it.
    return _whole(tokenizer.get("unk_id"), -1)


def _token(value: object) -> object:
    return value.get("content") if isinstance(value, dict) else value


def _whole(value: object, otherwise: int = 0) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def _read(files: Files, name: str, kind: type[Any]) -> Any:  # noqa: ANN401 - a list or a dict, as `kind` says
    """The JSON of a file, checked to be of `kind`; an empty one where there is no such file."""
    path = files.get(name)
    if path is None:
        return kind()
    try:
        if path.stat().st_size > (_MOST_BYTES if name != "tokenizer.json" else 10 * _MOST_BYTES):
            raise DamagedError(f"{path}: too large for a configuration file", _HINT)
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not JSON: {error}", _HINT) from error
    if not isinstance(found, kind):
        raise DamagedError(f"{path}: not what it should be, a JSON {'list' if kind is list else 'object'}", _HINT)
    return found
