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
from memcli.store import catalogue

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RULES = [f"rules {each}" for each in "add list show edit test enable disable remove import export coverage".split()]
MODELS = [f"model {each}" for each in "pull import list info use remove distill".split()]
MAIN = "ingest search dedup stats reindex check backup export import forget formats profiles".split()
COST = [f"cost {each}" for each in "estimate scenario report".split()]
_BENCH = ["bench", *(f"bench {each}" for each in "ingest embed quality dedup scan search parallel scale".split())]
COMMANDS = (*MAIN, *COST, "config show", *_BENCH, *RULES, *MODELS)
TABLES = {name: info.row for name, info in catalogue.TABLES.items()}


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


def blocks(text):
    """Yield (heading, language, lines) of every code block that is not generated."""
    text = re.sub(r"<!-- begin (.*?) -->.*?<!-- end \1 -->", "", text, flags=re.DOTALL)
    heading, inside, language, lines = "", False, "", []
    for line in text.split("\n"):
        if line.startswith("```"):
            if inside:
                yield heading, language, lines
            inside, language, lines = not inside, line[3:], []
        elif inside:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")


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
