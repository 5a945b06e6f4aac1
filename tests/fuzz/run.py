"""`make fuzz`: each target under atheris for SECONDS, from the fixtures on. A find stays as a file in .fuzz/TARGET.

Usage: python tests/fuzz/run.py [--seconds N] [TARGET ...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOUND = HERE.parents[1] / ".fuzz"
# A memory has at most 1,000 characters; files have any number.
_LONGEST = {"gates": 2000}
_USUAL = 20_000
_PATIENCE = 20


def main() -> int:
    """Run the targets one after another, each in a process of its own; 1 when any of them found something."""
    sys.path.insert(0, str(HERE))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", help="all of them where none is named")
    given = parser.parse_args()
    if given.one:
        _fuzz(given.one, given.seconds)
    from targets import TARGETS

    failed = []
    for name in given.targets or TARGETS:
        print(f"== {name}", flush=True)  # noqa: T201 - a script
        command = [sys.executable, __file__, "--seconds", str(given.seconds), "--one", name]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"found something: {', '.join(failed)}" if failed else "nothing was found")  # noqa: T201 - as above
    return 1 if failed else 0


def _fuzz(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["memcli"]):
        from targets import TARGETS, corpus

    folder = FOUND / name
    seeds = folder / "corpus"
    seeds.mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate(corpus(name)):
        (seeds / f"seed-{number}").write_bytes(raw)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_LONGEST.get(name, _USUAL)}",
        f"-timeout={_PATIENCE}",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(seeds)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
