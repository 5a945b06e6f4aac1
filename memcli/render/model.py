"""Embedding models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from memcli.render.terminal import one_line, safe, show

_SHOWN_ID = 8
_MEGA = 1e6


def show_models(models: Sequence[Mapping[str, Any]]) -> None:
    """Print the models on this machine."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("name", "id", "kind", "dim", "tokens", "MB", "used by"):
        number = heading in {"dim", "tokens", "MB"}
        table.add_column(heading, justify="right" if number else "left", no_wrap=heading == "id", overflow="fold")
    for each in models:
        users = ["new databases"] if each["new_databases"] else []
        users += ["this database"] if each["this_database"] else []
        table.add_row(
            Text(safe(each["name"]), style="bold" if each["new_databases"] else ""),
            Text(safe(each["model_id"][:_SHOWN_ID])),
            each["kind"],
            str(each["dim"]),
            "" if each["max_tokens"] is None else str(each["max_tokens"]),
            "" if each["bytes"] is None else f"{each['bytes'] / _MEGA:,.1f}",
            ", ".join(users),
        )
    show([table])


def show_model(card: Mapping[str, Any]) -> None:
    """Print a model's card."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in card.items():
        lines = [one_line(_told(key, each)) for each in (value if isinstance(value, list) else [value])]
        table.add_row(Text(safe(key)), Text("\n".join(lines)))
    show([table])


def _told(key: str, value: Any) -> str:  # noqa: ANN401 - whatever a card has
    if isinstance(value, list):
        return "; ".join(_told(key, each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(name, each)}" for name, each in value.items())
    return repr(value) if key.endswith("_prompt") else str(value)


def show_taken(taken: Mapping[str, Any]) -> None:
    """Print what came of a pull or an import."""
    name = safe(taken["name"])
    if "files" in taken:
        sizes = taken["files"]
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(justify="right")
        table.add_column(overflow="fold")
        for each, size in sizes.items():
            table.add_row(f"{size / _MEGA:,.1f} MB", Text(safe(each)))
        total = sum(sizes.values()) / _MEGA
        show([table, Text(f"Dry run: {name} would be fetched, {total:,.1f} MB.", style="dim")])
        return
    is_dry = taken["dry_run"]
    done = "is sound" if is_dry else "is installed" if taken["new"] else "was here already"
    show([Text(f"{name} {done}: {taken['dim']} dimensions, id {safe(taken['model_id'])}.")])
    if not is_dry:
        show(
            [
                Text(f"For new databases: memcli model use {name}", style="dim"),
                Text(f"For one that has memories: memcli reindex --model {name}", style="dim"),
            ]
        )


def show_model_changed(what: str, changed: Mapping[str, Any]) -> None:
    """Print which model `use` or `remove` was about."""
    head = "Dry run: " if changed["dry_run"] else ""
    name = safe(changed["name"])
    lines = [Text(f"{head}{what} {name}, id {safe(changed['model_id'])}.")]
    if changed["database"] is not None:
        lines.append(Text(f"{head}So does {safe(changed['database'])}, which has no memories yet.", style="dim"))
    if changed["kept"] is not None:
        lines.append(
            Text(f"{safe(changed['kept'])} stays as it is; to move it: memcli reindex --model {name}", style="dim")
        )
    show(lines)


def show_card(card: Mapping[str, Any], folder: str) -> None:
    """Print what a distillation made and how good it is."""
    scores = dict(card["scores"])
    judged = scores.pop("sts", [])
    lines = [
        f"{safe(folder)}: model {card['model_id']}, {card['settings']['tokens']:,} tokens, {card['dim']} dimensions"
    ]
    if scores:
        lines.append(
            f"{scores['held_out_texts']:,} texts held out: cosine to the teacher {scores['held_out_cosine']:.4f},"
            f" rank correlation of similarities {scores['held_out_similarity_spearman']:.4f}"
        )
    lines += [f"{safe(each['file'])}: Spearman {each['spearman']:.4f} over {each['n']:,} pairs" for each in judged]
    show([Text(line) for line in lines])
