"""The parts of README.md that are generated: tables from the code, help texts, and the real output of examples.

`python tests/support_readme.py` writes them anew; tests/test_readme.py fails when they are out of date.
"""

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from memcli.config import PROFILES
from memcli.errors import EXIT_CODES
from memcli.readers import FORMATS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RULES = [f"rules {each}" for each in "add list show edit test enable disable remove import export coverage".split()]
MODELS = [f"model {each}" for each in "pull import list info use remove distill".split()]
MAIN = ("ingest", "search", "dedup", "stats", "reindex", "export", "import", "formats", "profiles")
COST = [f"cost {each}" for each in "estimate scenario report".split()]
_BENCH = ["bench", *(f"bench {each}" for each in "ingest embed quality dedup scan search parallel scale".split())]
COMMANDS = (*MAIN, *COST, "config show", *_BENCH, *RULES, *MODELS)
TABLES = {
    "runs": "invocation of a command that wrote; every other row leads back to one",
    "batches": "committed batch: messages in, kept, filtered, memories, time per stage",
    "files": "transcript: how far it was read, and hashes that prove it is still that file",
    "rejected_lines": "line that could not be read: where, why, its redacted first bytes",
    "sessions": "conversation of an agent",
    "session_tags": "environment tag of a session: project, branch, tool, model",
    "messages": "message: role, redacted text, where it stands in its file, why it was dropped if it was",
    "message_records": "transcript record that a message was put together from",
    "message_occurrences": "message without an id: how often it was seen in a file",
    "pending_messages": "message that waits for its window",
    "windows": "window: its messages, what it cost, what came of it",
    "window_tiers": "extraction tier that saw a window, with its version and state",
    "memories": "extracted statement; never changed, never deleted by dedup",
    "provenance": "source of a memory: message and character span",
    "memory_tags": "environment tag of a memory's source session, with its relevance",
    "merges": "link from a duplicate to the memory it went into, with the evidence",
    "review_pairs": "pair of similar memories whose evidence disagrees",
    "dedup_watermarks": "scope, model, threshold and gate version: up to which memory `dedup` has compared",
    "rules": "rule of the user: pattern, what it keeps, for which agent and roles",
    "model_calls": "request to a model of an extraction tier: tokens, cost, what came of it; for which window",
    "model_answers": "accepted answer of a model: the same question costs nothing again",
    "rejected_statements": "reason for which statements of a model about a window were rejected, with their number",
    "memory_links": "link between two memories that a model saw",
    "boot_lines": "hash of a sentence that a system prompt or a boot file told an agent",
    "disabled_starter_rules": "built-in rule that is switched off",
    "segments": "block of the vector matrix: memory ids, float32 vectors, int8 codes, merge keys, checksum",
    "search_cache": "answer of a search, or vector of a query, for the next one who asks the same",
    "search_cache_use": "kind of cached thing: how many there are, how often they helped",
    "compressions": "compression of the vectors (`reindex --compress`): of which model, and the basis of a PCA",
    "memories_fts": "keyword index entry (FTS5)",
    "meta": "setting of the database: embedding model, corpus generation",
}


def profiles():
    rows = [
        "| profile | window | closes after | at least | rate | min. characters | filter | tiers |",
        "| --- " * 8 + "|",
    ]
    for each in PROFILES.values():
        cells = (
            each.name,
            each.max_messages,
            f"{each.timeout_minutes} min",
            each.min_messages,
            each.rate,
            each.min_chars,
            each.filters,
            ", ".join(each.tiers),
        )
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def formats():
    rows = [f"| `{each.name}` | {each.agent} | {each.where} | {', '.join(each.suffixes)} |" for each in FORMATS]
    return "\n".join(["| format | agent | where | files |", "| --- | --- | --- | --- |", *rows])


def tables():
    return "\n".join(
        ["| table | one row per |", "| --- | --- |", *(f"| `{n}` | {what} |" for n, what in TABLES.items())]
    )


def exit_codes():
    return "\n".join(["| code | meaning |", "| --- | --- |", *(f"| {n} | {what} |" for n, what in EXIT_CODES.items())])


def commands():
    blocks = []
    for command in COMMANDS:
        text = run([sys.executable, "-m", "memcli", *command.split(), "--help"], Path.cwd())
        text = text.replace("python -m memcli", "memcli")
        blocks.append(f"```\n$ memcli {command} --help\n{text.strip()}\n```")
    return "\n\n".join(blocks)


GENERATED = {"profiles": profiles, "formats": formats, "tables": tables, "exit codes": exit_codes, "commands": commands}


def run(command, folder):
    """Run a command as on a terminal of 80 columns without colours; give its stdout."""
    parent, child = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MEMCLI_")}
    environment |= {
        "COLUMNS": "80",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "MEMCLI_DB": "memory.db",
        "MEMCLI_DATA_DIR": "data",
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=child, stderr=subprocess.DEVNULL)
    os.close(child)
    output = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    os.close(parent)
    process.wait()
    return "\n".join(line.rstrip() for line in output.decode().replace("\r\n", "\n").split("\n"))


def examples(text, heading):
    """Run the commands of a section's code blocks in order, in a folder with the fixtures, and put their output in."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "fixtures", folder / "fixtures")

        def executed(match):
            output = run(["sh", "-c", match[1]], folder)
            return f"```\n$ {match[1]}\n{output.replace(f'{folder.resolve()}/', '').strip()}\n```"

        head, begin, rest = text.partition(f"## {heading}\n")
        middle, end, tail = rest.partition("\n## ")
        middle = re.sub(r"```\n\$ (.*)\n(?:[^`]*)```", executed, middle)
    return head + begin + middle + end + tail


def rendered(text):
    for name, make in GENERATED.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        content = make()
        text = pattern.sub(lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text)
    return examples(examples(text, "A tour"), "Duplicates")


if __name__ == "__main__":
    README.write_text(rendered(README.read_text(encoding="utf-8")), encoding="utf-8")
