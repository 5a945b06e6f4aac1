"""The house of the design: layers import downward only, and each heavy package has its rooms."""

import ast
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
