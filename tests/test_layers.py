"""The house of the design: layers import downward only, and each heavy package has its rooms."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "memcli"

LAYERS = [
    {"__init__", "errors", "model", "codes", "text", "workers", "files", "settings"},
    {"protocols", "config", "provider"},
    {"readers", "redact", "filters", "extract", "tags", "embed", "dedup", "store", "cost"},
    {"ingest", "maintain", "search", "exchange", "stats", "spending", "forecast", "rulebook", "bench", "wiring"},
    {"commands", "render", "cli", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Who may import a neighbour of its own layer, or what the design grants across.
SIBLINGS = {
    ("text", "__init__"),
    ("model", "text"),
    ("config", "protocols"),
    ("provider", "protocols"),
    ("wiring", "ingest"),
    ("forecast", "ingest"),
    ("bench", "ingest"),
    ("bench", "search"),
    ("exchange", "ingest"),
    ("cli", "render"),
    ("cli", "commands"),
    ("__main__", "cli"),
}
ROOMS = {
    "sqlite3": {"store"},
    "sqlite_utils": {"store"},
    "typer": {"cli"},
    "rich": {"render"},
    "onnxruntime": {"embed", "dedup/scan", "dedup/make_lexicon"},
    "tokenizers": {"embed", "dedup/make_lexicon"},
    "onnx": {"embed/distill/graph", "dedup/integer_product"},
    "scipy": {"embed/distill/distilling", "embed/distill/training"},
    "re2": {"extract/rules", "redact", "filters"},
    "numpy": {
        "embed",
        "bench/scan",
        "bench/search_peers",
        "bench/search_vectors",
        "store/rival",
        "bench/peers",
        "bench/vectors",
        "dedup/codes",
        "dedup/flood",
        "dedup/nearest",
        "dedup/make_lexicon",
        "dedup/blocks",
        "dedup/scan",
        "dedup/standing",
        "store/check_log",
        "store/repair",
        "store/segments",
        "store/vectors",
        "exchange/decided",
        "exchange/vectors",
        "ingest/resolve",
        "maintain",
        "search",
        "protocols",
        "wiring",
        "bench/quality",
    },
    "filelock": {"store", "embed/hub"},
    "huggingface_hub": {"embed/hub"},
    "platformdirs": {"config"},
    "openai": {"provider", "embed/api", "extract/llm"},
}
MODULES = sorted(ROOT.rglob("*.py"))


def imports(path):
    """Yield (module name, imported name or None, is inside TYPE_CHECKING) of every import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, id(node) in guarded
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or "", alias.name, id(node) in guarded


def room(path):
    return path.relative_to(ROOT).with_suffix("").as_posix()


def unit(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_layers_import_downward_only(path):
    here = unit(path)
    assert here in LEVEL, f"{room(path)} has no place in the house"
    for module, name, _ in imports(path):
        if module.split(".")[0] != "memcli":
            continue
        parts = module.split(".")
        there = parts[1] if len(parts) > 1 else (name if name in LEVEL else "__init__")
        if there in {here, "__init__"}:
            continue
        allowed = LEVEL[there] < LEVEL[here] or (here, there) in SIBLINGS
        assert allowed, f"{room(path)} imports memcli.{there}"


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_heavy_packages_stay_in_their_rooms(path):
    for module, _, type_checking in imports(path):
        package = module.split(".")[0]
        if package in ROOMS and not type_checking:
            rooms = ROOMS[package]
            assert unit(path) in rooms or room(path) in rooms, f"{room(path)} imports {package}"


def test_sql_text_lives_in_the_store_only():
    for path in MODULES:
        if unit(path) == "store":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                head = node.value.lstrip().split(" ")[0]
                assert head not in {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "PRAGMA"}, room(path)


# What stands in SQL beside constants: parts of a statement that the function itself has put together of constants, and
# names of tables and columns. Each was looked at; a value never stands here, it is a parameter.
PARTS = {
    ("check", "', '.join(HASHED[table])"),
    ("check", "', '.join(keys)"),
    ("check", "case"),
    ("check", "column"),
    ("check", "columns"),
    ("check", "table"),
    ("check", "table.rstrip(', ') or limit"),
    ("check", "tests"),
    ("check_schema", "each"),
    ("check_words", "name"),
    ("check_words", "part"),
    ("check_words", "table"),
    ("db", "table"),
    ("forget", "agent"),
    ("forget", "concerned"),
    ("forget", "condition"),
    ("forget", "empty"),
    ("forget", "evidence"),
    ("forget", "last"),
    ("forget", "name"),
    ("forget", "of_empty"),
    ("forget", "one"),
    ("forget", "other"),
    ("forget", "star"),
    ("forget", "table"),
    ("forget_text", "', '.join(MESSAGE_COLUMNS)"),
    ("hashes", "', '.join(columns)"),
    ("hashes", "table"),
    ("messages", "', '.join(MESSAGE_COLUMNS)"),
    ("metrics", "coded"),
    ("metrics", "lengths"),
    ("metrics", "name"),
    ("metrics", "of_agent"),
    ("metrics", "open_pairs"),
    ("metrics", "order"),
    ("metrics", "own"),
    ("metrics", "what"),
    ("reindex", "int(up_to)"),
    ("repair", "columns"),
    ("repair", "marks"),
    ("repair", "table"),
    ("rival", "dim"),
    ("runs", "dropped"),
    ("schema", "column"),
    ("search", "before"),
    ("search", "behind"),
    ("search", "columns"),
    ("search", "kept"),
    ("search", "members"),
    ("search", "only"),
    ("search", "winners_"),
    ("secrets", "columns"),
    ("secrets", "row"),
    ("spending", "_OF_BATCH[group]"),
    ("spending", "_OF_CALL[group]"),
    ("spending", "order"),
    ("vectors", "columns"),
    ("vectors", "vectors"),
}
SQL = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|PRAGMA|CREATE|ALTER|DROP|WHERE|JOIN|VALUES|ORDER BY)\b|\bIN \(|= '")


def written_into(node):
    """The expressions that an f-string, a `%` or a `format` writes into a text that looks like SQL."""
    if isinstance(node, ast.JoinedStr):
        text = "".join(part.value for part in node.values if isinstance(part, ast.Constant))
        if SQL.search(text):
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    is_number = part.format_spec is not None and ast.unparse(part.format_spec) == "f'd'"
                    yield "" if is_number else ast.unparse(part.value)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and SQL.search(ast.unparse(node.left)):
        yield ast.unparse(node.right)


@pytest.mark.parametrize("path", sorted((ROOT / "store").rglob("*.py")), ids=room)
def test_no_value_is_written_into_sql(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for found in written_into(node):
            is_constant = not found or found.replace("_", "").isupper() or found.startswith(("quoted(", "literal("))
            assert is_constant or (path.stem, found) in PARTS or path.stem == "foreign", f"{path.stem}: {found}"
