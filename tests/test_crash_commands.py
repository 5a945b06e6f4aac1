"""Every command that writes is killed at every stage with a name and at random moments, or told to stop, and run again.

What the database says then, to the last row, vector and word, is what it says after a run that nothing disturbed. A
further command is a further line of `support_crash.COMMANDS`.
"""

import json
import random
import signal
import time
import zlib
from collections.abc import Iterator

import pytest
from support_chat import Chat
from support_crash import ALWAYS, COMMANDS, assert_as_whole, content_of, make_inputs

RANDOM_MOMENTS = 200
# So many kills in a row, before the run that is let go on to its end.
MOST_IN_A_ROW = 4
AROUND = {"begin", "commit", "committed"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, nursery):
    with Chat() as server:
        yield make_inputs(tmp_path_factory.mktemp("crash"), nursery, server)


class Harness:
    """One command: what it says undisturbed and which moments it passes, and that it says the same when killed."""

    def __init__(self, inputs, name):
        self.inputs, self.name, self.command = inputs, name, COMMANDS[name]
        self.words = inputs.words(self.command)
        self.draw = random.Random(zlib.crc32(name.encode()))  # noqa: S311 - moments, not secrets
        self.killed = self.runs = 0
        home = self._home("whole")
        began = time.monotonic()
        done = inputs.nursery.run(home, *self.words, trace=True)
        self.seconds = time.monotonic() - began
        assert done.code == 0, done.err
        self.passed = json.loads((home.folder / "trace").read_text())["named"]
        self.whole = content_of(self.made_by(home))

    def _home(self, name):
        return self.inputs.home(f"{self.name.replace(' ', '-')}-{name}", self.command)

    def made_by(self, home):
        """What the command was for: the database, or the file that it makes."""
        return home.folder / (self.command.makes or home.db.name)

    def compare(self, home, what):
        made = self.made_by(home)
        if made.suffix == ".db":
            home.db = made
            assert_as_whole(home, self.whole, what, settled=self.command.settles)
        else:
            assert content_of(made) == self.whole, what
        if self.command.wipes is not None:
            left = b"".join(path.read_bytes() for path in home.folder.glob("memory.db*"))
            told = [text for text in self.inputs.told if self.command.wipes.encode() in text]
            assert told
            assert not any(text in left for text in told), what

    def kill(self, what, moments):
        """Kill a run at each of the `moments` in turn, run it once more, and compare."""
        self.runs += 1
        home = self._home(str(self.runs))
        for moment in moments:
            done = self.inputs.nursery.run(home, *self.words, **moment)
            assert done.code in {-signal.SIGKILL, *self.command.ends}, (what, done)
            if done.code != -signal.SIGKILL:
                break
            self.killed += 1
        done = self.inputs.nursery.run(home, *self.words)
        assert done.code in self.command.ends, (what, done.err)
        self.compare(home, what)
        if self.runs == 1 and home.db.exists():
            checked = self.inputs.nursery.run(home, "check", "--db", home.db)
            assert checked.code == 0, (what, checked)
        for path in (*home.folder.glob("memory.db*"), home.db):
            path.unlink(missing_ok=True)

    def places(self) -> Iterator[tuple[str, int]]:
        """A moment of each name, and the first and the last of those around a commit."""
        for name in dict.fromkeys(self.passed):
            at = [number for number, each in enumerate(self.passed, 1) if each == name]
            around = (at[0], at[-1]) if name in AROUND else ()
            for number in dict.fromkeys((at[len(at) // 2], *around)):
                yield name, number

    def kill_at(self, places):
        for name, number in places:
            before = self.killed
            self.kill((name, number), [{"moment": f"KILL:named:{number}"}])
            assert self.killed > before, f"{self.name} does not pass {name} any more"

    def interrupt_at(self, places):
        """End it by a signal at each place. It says so, unless nothing was left to do, and is run again."""
        for name, number in places:
            self.runs += 1
            home, sent = self._home(str(self.runs)), self.draw.choice(("INT", "TERM", "HUP"))
            what = (sent, name, number)
            done = self.inputs.nursery.run(home, *self.words, moment=f"{sent}:named:{number}")
            assert done.code == 130 or (name, done.code) == ("unlock", 0), (what, done)
            assert done.code == 0 or f"interrupted (SIG{sent})" in done.err, (what, done)
            assert "Traceback" not in done.err, (what, done)
            again = self.inputs.nursery.run(home, *self.words)
            assert again.code in self.command.ends, (what, again)
            self.compare(home, what)

    def kill_at_random(self, count):
        """Kill it `count` times from outside, wherever it is. How long it takes depends on what else there is to do."""
        wanted, most = self.killed + count, 1 if self.command.once else MOST_IN_A_ROW
        for _ in range(3 * count):
            chain = [{"after": self.draw.uniform(0.001, self.seconds)} for _ in range(self.draw.randint(1, most))]
            before = self.killed
            self.kill(chain, chain)
            self.seconds *= 0.9 if self.killed == before else 1.02
            if self.killed >= wanted:
                return
        pytest.fail(f"of {3 * count} runs hardly any could be killed")


@pytest.fixture(params=COMMANDS)
def harness(request, inputs):
    return Harness(inputs, request.param)


def test_killed_around_a_commit_and_at_some_moment(harness):
    wanted = (set() if harness.command.makes else ALWAYS) | set(filter(None, harness.command.stages.split(",")))
    assert wanted <= set(harness.passed), "a stage has another name now, or is not passed"
    places = list(harness.places())
    commits = [place for place in places if place[0] in AROUND] or places
    harness.kill_at([harness.draw.choice(commits)])
    harness.kill_at_random(1)


@pytest.mark.torture
def test_killed_at_every_stage(harness):
    harness.kill_at(harness.places())


@pytest.mark.torture
def test_interrupted_at_every_stage(harness):
    harness.interrupt_at(harness.places())


@pytest.mark.torture
def test_killed_at_random_moments(harness):
    harness.kill("a second run that nothing disturbed", [])
    harness.kill_at_random(RANDOM_MOMENTS)
