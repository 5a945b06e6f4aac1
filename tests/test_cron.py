"""The lines for cron and systemd as README.md has them, run with next to nothing in their environment."""

import configparser
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support_cli import FIXTURES, PATIENCE, ROOT, write_jsonl

from memcli.errors import EXIT_CODES

README = (ROOT / "README.md").read_text(encoding="utf-8")
# What the README has in the place of the user's own paths.
PROGRAM = "/usr/local/bin/memcli"
METRICS = "/var/lib/node_exporter/memcli.prom"
CRON_LINES = re.findall(r"(?m)^(?:[\d*/,-]+ +){5}(?=\S*memcli)(.*)$", README)
UNIT = re.search(r"(?m)^ExecStart=(.*)$", README)[1]
SUCCESS = {0, *map(int, re.search(r"(?m)^SuccessExitStatus=(.*)$", README)[1].split())}


@pytest.fixture
def home(tmp_path):
    """A home with transcripts where Claude Code puts them, one of them under a name that is not ASCII."""
    folder = tmp_path / "home of mira"
    projects = folder / ".claude" / "projects"
    shutil.copytree(FIXTURES / "claude-code", projects)
    said = {"role": "user", "content": "Die Grüße aus Köln kamen an."}
    record = {"type": "user", "uuid": "u1", "sessionId": "s1", "timestamp": "2026-03-01T00:00:00Z", "message": said}
    write_jsonl(projects / "-home-mira-grüße" / "größe.jsonl", [record])
    return folder


@pytest.fixture(scope="module")
def program():
    script = Path(sys.executable).with_name("memcli")
    found = str(script) if script.exists() else shutil.which("memcli")
    if found is None:
        pytest.skip("memcli is not installed")
    return found


def cron_command(line, program, home):
    """What cron makes of a line: an unescaped percent sign would be the end of the command."""
    command, *rest = re.split(r"(?<!\\)%", line)
    assert not rest, "the rest of the line would be its standard input"
    assert PROGRAM in command
    return command.replace("\\%", "%").replace(PROGRAM, shlex.quote(program)).replace(METRICS, f"'{home}/m.prom'")


def run(arguments, home, environ):
    """Run `arguments` under `env -i`, from the root of the file system as cron and systemd may do."""
    clean = ["env", "-i", f"HOME={home}", *environ, *arguments]
    return subprocess.run(clean, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)


def rows(home, sql):
    db = home / ".local" / "share" / "memcli" / "memory.db"
    with closing(sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)) as conn:
        return conn.execute(sql).fetchall()


def check_two_runs(home, once):
    """The first run takes everything, the second finds nothing; neither has anything to say that cron would mail."""
    for _ in range(2):
        done = once()
        assert (done.returncode, done.stderr.decode()) == (0, "")
        assert rows(home, "SELECT count(*) FROM files") == [(5,)]
        assert rows(home, "SELECT count(*) FROM runs") == [(1,)]
        assert rows(home, "SELECT text FROM messages WHERE text LIKE '%Köln%'") == [("Die Grüße aus Köln kamen an.",)]
        assert rows(home, "SELECT count(*) > 30 FROM active_memories") == [(1,)]


# Nothing but a home, and what cron sets, on a system without any locale.
ENVIRONS = [(), ("LOGNAME=mira", "SHELL=/bin/sh", "PATH=/usr/bin:/bin", "LC_ALL=POSIX")]
CASES = [(CRON_LINES[0], ENVIRONS[0]), (CRON_LINES[0], ENVIRONS[1]), (CRON_LINES[1], ENVIRONS[0])]


def test_the_readme_has_lines_for_cron():
    assert len(CRON_LINES) == 2
    assert all(PROGRAM in line and "/projects" in line for line in [*CRON_LINES, UNIT])


@pytest.mark.parametrize(("line", "environ"), CASES, ids=["ingest", "ingest-no-locale", "metrics"])
def test_a_cron_line_works_in_an_empty_environment(home, program, line, environ):
    command = cron_command(line, program, home)

    def once():
        done = run(["/bin/sh", "-c", command], home, environ)
        assert done.stdout == b""
        return done

    check_two_runs(home, once)
    if METRICS in line:
        assert "memcli_memories" in (home / "m.prom").read_text()


def test_the_systemd_unit_works_in_an_empty_environment(home, program):
    # systemd has no shell: it splits the line itself and puts the home in for %h.
    arguments = [part.replace("%h", str(home)) for part in shlex.split(UNIT.replace(PROGRAM, shlex.quote(program)))]
    assert not re.search("%[^h%]", UNIT)
    check_two_runs(home, lambda: run(arguments, home, ()))


@pytest.mark.parametrize("line", CRON_LINES, ids=["ingest", "metrics"])
def test_of_a_bad_line_cron_has_something_to_mail_and_the_rest_is_done(home, program, line):
    bad = home / ".claude" / "projects" / "-home-mira-grüße" / "größe.jsonl"
    with bad.open("a") as file:
        file.write("no JSON\n")
    done = run(["/bin/sh", "-c", cron_command(line, program, home)], home, ())
    assert done.stdout == b""
    assert f"{bad}:2: not JSON" in done.stderr.decode()
    assert rows(home, "SELECT count(*) > 30 FROM active_memories") == [(1,)]
    if METRICS in line:
        assert "memcli_rejected_lines 1\n" in (home / "m.prom").read_text()
    else:
        assert done.returncode in SUCCESS - {0}


def test_a_home_that_is_not_named_is_the_users_own(home, program):
    # Cron and systemd name it; without it the user's entry in the system's list of users decides.
    folder = home / ".claude" / "projects"
    line = cron_command(CRON_LINES[0], program, home).replace("~/.claude/projects", f"'{folder}'")
    env = {"MEMCLI_DB": str(home / "m.db"), "MEMCLI_DATA_DIR": str(home / "data")}
    done = subprocess.run(["/bin/sh", "-c", line], cwd="/", env=env, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert os.path.getsize(home / "m.db") > 0  # noqa: PTH202 - as short as it gets


def test_the_units_for_systemd_are_whole():
    (block,) = re.findall(r"(?s)```ini\n(.*?)```", README)
    units = dict(re.findall(r"(?s)# (memcli\.\w+)\n(.*?)(?=\n# |\Z)", block))
    assert list(units) == ["memcli.service", "memcli.timer"]
    read = {name: configparser.ConfigParser(strict=True, interpolation=None) for name in units}
    for name, text in units.items():
        read[name].read_string(text)
    service, timer = (each for each in read.values())
    assert service.sections() == ["Service"]
    assert service["Service"]["Type"] == "oneshot"
    # What a run says of its input, and an interruption, are no failures of the unit; the rest of the table is.
    assert {0, 3, 130} == SUCCESS <= EXIT_CODES.keys()
    assert timer.sections() == ["Timer", "Install"]
    assert dict(timer["Timer"]) == {"oncalendar": "hourly", "persistent": "true"}
    assert timer["Install"]["WantedBy"] == "timers.target"
    assert "systemctl --user enable --now memcli.timer" in README
