"""Metadata for Datasette: titles, descriptions, labels, searchable tables and queries of a database of memcli."""

from __future__ import annotations

from pathlib import Path

from memcli.store.catalogue import QUESTIONS, RECORDS_OF_OTHERS, TABLES, VIEWS, WORDS_INDEX, TableInfo


def metadata(db: Path) -> dict[str, object]:
    """The document that `datasette DB --metadata FILE` takes; Datasette knows a database by its file's name.

    Datasette 1.0 reads the queries from `--config FILE`, which may be the same file.
    """
    return {
        "title": "Memories",
        "description": "What memcli has remembered of chat transcripts. It is private: keep the port to yourself.",
        "databases": {
            db.stem: {
                "tables": {
                    **{name: _table(name, info) for name, info in (VIEWS | TABLES).items()},
                    **{name: {"hidden": True} for name in RECORDS_OF_OTHERS},
                },
                "queries": {
                    name: {"title": each.title, "description": each.description, "sql": each.sql.strip()}
                    for name, each in QUESTIONS.items()
                },
            }
        },
    }


def _table(name: str, info: TableInfo) -> dict[str, object]:
    found: dict[str, object] = {
        "title": name.replace("_", " ").capitalize(),
        "description": f"One row per {info.row.replace('`', '')}.",
    }
    if info.columns:
        found["columns"] = dict(info.columns)
    if info.label is not None:
        found["label_column"] = info.label
    if info.newest is not None:
        found["sort_desc"] = info.newest
    if info.words is not None:
        found |= {"fts_table": WORDS_INDEX, "fts_pk": info.words}
    if info.facets:
        found["facets"] = list(info.facets)
    if info.units:
        found["units"] = dict(info.units)
    if info.machinery:
        found["hidden"] = True
    return found
