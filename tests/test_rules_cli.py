"""`memcli rules` as its users meet it."""

from __future__ import annotations

import json
import re
import sqlite3
import tomllib
from contextlib import closing

import pytest
from support_cli import ESCAPE_CODES, FIXTURES, UNSAFE, Home, write_jsonl

from memcli.store.db import run_lock

COMMANDS = ("add", "list", "show", "edit", "test", "coverage", "enable", "disable", "remove", "import", "export")
CHAT = [
    ("user", "My kettle broke again, so I prefer the old pan for tea."),
    ("assistant", "The kettle is under guarantee until May."),
    ("user", "ok"),
    ("user", f"Key sk-ant-{'a1' * 20} is for the kettle shop."),
    ("assistant", "Pans are in the second drawer. The other kettle is there too."),
]


@pytest.fixture
def chat(tmp_path):
    records = [{"id": str(n), "session_id": "s", "role": r, "content": text} for n, (r, text) in enumerate(CHAT)]
    return write_jsonl(tmp_path / "chat.jsonl", records)


def add(home, *arguments):
    """Add a rule; it as JSON."""
    done = home.run("rules", "add", *arguments, "--json")
    assert done.code == 0, done.err
    return done.json["added"][0]


def listed(home, *arguments):
    return {rule["name"]: rule for rule in home.run("rules", "list", "--json", *arguments).json}


def refused(done, code, *says):
    assert (done.code, done.out) == (code, ""), done.err
    for text in says:
        assert text in done.err, done.err
    assert "unexpected fault" not in done.err


def made_by(home, name):
    sql = "SELECT content FROM active_memories WHERE extraction_method = ? ORDER BY memory_id"
    return [text for (text,) in home.rows(sql, f"rules:{name}")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(home, command):
    done = home.run("rules", command, "--help")
    assert done.code == 0
    assert f"Example: memcli rules {command}" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


# --- add, list, show --------------------------------------------------------------------------------------------------


def test_an_added_rule_is_listed_shown_and_used(home, chat):
    rule = add(home, "kettle*", "--simple", "--name", "k", "--type", "episodic", "--importance", "0.9",
               "--keywords", "kitchen, tea", "--keep", "sentence", "--roles", "assistant")  # fmt: skip
    assert re.fullmatch("[0-9a-f]{6}", rule["id"])
    expected = {"name": "k", "pattern": "kettle*", "kind": "simple", "type": "episodic", "importance": 0.9}
    expected |= {"keywords": ["kitchen", "tea"], "roles": "assistant", "agent": None, "active": True, "starter": False}
    assert expected.items() <= rule.items()
    assert listed(home)["k"] == home.run("rules", "show", "k", "--json").json == {**rule, "problem": None}
    assert home.run("rules", "show", rule["id"]).out.count("kettle*") == 1
    assert home.run("ingest", chat).code == 0
    assert made_by(home, "k") == ["The kettle is under guarantee until May.", "The other kettle is there too."]
    sql = "SELECT DISTINCT importance, keywords FROM memories WHERE extraction_method = 'rules:k'"
    assert home.rows(sql) == [(0.9, '["kitchen", "tea"]')]


def test_a_merge_unites_the_keywords_of_its_members(home, tmp_path):
    add(home, "kettle", "--name", "k", "--keywords", "tea,kitchen", "--roles", "user")
    add(home, "kettle", "--name", "t", "--keywords", "tool,tea", "--roles", "assistant")
    said = "The kettle stands on the blue shelf."
    chat = [{"role": role, "content": said, "session_id": role} for role in ("user", "assistant")]
    home.run("ingest", write_jsonl(tmp_path / "chat.jsonl", chat))
    (hit,) = home.run("search", "kettle", "--json").json[0]["hits"]
    assert (hit["content"], hit["keywords"]) == (said, ["tea", "kitchen", "tool"])


def test_the_starter_rules_are_listed_and_marked(home):
    add(home, "kettle")
    rules = listed(home)
    assert rules["decision"]["starter"]
    assert not rules["kettle"]["starter"]
    own, _, built_in = home.run("rules", "list").out.partition("starter rules")
    assert "kettle" in own
    assert re.search(r"^starter-decision +decision +semantic +0.8 +all$", built_in, re.MULTILINE)


def test_the_same_rule_gets_the_same_id_everywhere(home, tmp_path):
    first = add(home, "kettle", "--name", "k")["id"]
    assert add(home, "pan", "--name", "k", "--db", tmp_path / "other.db")["id"] == first
    assert add(home, "pan", "--name", "k", "--agent", "anna")["id"] != first


def test_a_refused_pattern_is_shown_with_its_place_and_nothing_is_made(home):
    done = home.run("rules", "add", r"foo(?=bar)\d")
    refused(done, 2, "look-ahead")
    pattern, caret = done.err.splitlines()[1:3]
    assert pattern[caret.index("^") :].startswith("(?=")
    assert not home.db.exists()
    refused(home.run("rules", "add", r"\pL{100}"), 2, "too large", "10,000")
    assert not home.db.exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--type", "fact"], "type must be one of semantic, episodic, procedural"),
        (["--importance", "2"], "importance must be a number from 0 to 1"),
        (["--importance", "nan"], "importance"),
        (["--keep", "word"], "keep must be one of match, sentence, message"),
        (["--roles", "system"], "roles must be one of user, assistant, both"),
        (["--name", "a\nb"], "name must be"),
        (["--name", "decision"], "built-in rule of the name decision"),
    ],
)
def test_a_wrong_value_is_refused(home, flags, says):
    refused(home.run("rules", "add", "kettle", *flags), 2, says)


def test_a_name_stands_for_one_rule_of_an_agent(home):
    rule = add(home, "kettle", "--name", "k")
    refused(home.run("rules", "add", "pan", "--name", "k"), 2, "the name k", f"memcli rules edit {rule['id']}")
    add(home, "pan", "--name", "k", "--agent", "anna")
    refused(home.run("rules", "show", "k"), 2, "2 rules have the name k")
    assert {rule["pattern"] for rule in home.run("rules", "list", "--json").json} >= {"kettle", "pan"}
    assert "pan" not in {rule["pattern"] for rule in home.run("rules", "list", "--agent", "bert", "--json").json}


def test_hostile_patterns_are_shown_as_text(home):
    add(home, "\x1b]0;gone\x07[red]kettle")
    for command in (["list"], ["show", "]0;gone [red]kettle"], ["add", "(\x1b[2J"], ["coverage"]):
        done = home.run("rules", *command)
        assert not UNSAFE.search(done.out + done.err)
    assert "[red]kettle" in home.run("rules", "list").out


@pytest.mark.parametrize("command", ["list", "coverage"])
def test_tables_fit_a_terminal_of_80_columns(home, chat, command):
    add(home, "kettle", "--name", "a name that is rather long, as names of rules go", "--agent", "claude-code")
    home.run("ingest", chat)
    done = home.on_terminal("rules", command)
    assert done.code == 0
    lines = re.sub("\x1b\\[[0-9;]*m", "", done.out).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("starter-preference ") or " starter-preference " in line for line in lines)


# --- edit, enable, disable, remove ------------------------------------------------------------------------------------


def test_an_edited_rule_keeps_its_id_and_what_was_not_named(home):
    rule = add(home, "kettle", "--name", "k", "--agent", "anna", "--importance", "0.9")
    done = home.run(
        "rules", "edit", "k", "--name", "pot", "--all-agents", "--case-sensitive", "--keywords", "", "--json"
    )
    changed = done.json["changed"][0]
    assert changed == {**rule, "name": "pot", "agent": None, "case_sensitive": True, "keywords": [], "problem": None}
    assert listed(home)["pot"] == changed
    assert home.run("rules", "edit", "pot", "--importance", "0.9", "--json").json["unchanged"][0]["name"] == "pot"


def test_what_cannot_be_edited_is_refused(home):
    add(home, "kettle", "--name", "k")
    add(home, "pan", "--name", "p")
    refused(home.run("rules", "edit", "nobody", "--importance", "1"), 2, "nobody", "memcli rules list")
    refused(home.run("rules", "edit", "k"), 2, "nothing to change")
    refused(home.run("rules", "edit", "k", "--pattern", "(a"), 2, "missing )")
    refused(home.run("rules", "edit", "k", "--name", "p"), 2, "the name p")
    refused(home.run("rules", "edit", "starter-coping", "--importance", "1"), 2, "built-in", "disable starter-coping")
    refused(home.run("rules", "remove", "k", "starter-coping"), 2, "built-in", "disable starter-coping")
    refused(home.run("rules", "edit", "k", "--agent", "a", "--all-agents"), 2, "--all-agents")
    assert listed(home)["k"]["pattern"] == "kettle"


def test_a_disabled_rule_is_remembered_and_not_used(home, chat):
    add(home, "kettle", "--name", "k")
    done = home.run("rules", "disable", "k", "starter-preference", "--json")
    assert [rule["name"] for rule in done.json["disabled"]] == ["k", "preference"]
    assert not listed(home)["k"]["active"]
    assert not listed(home)["preference"]["active"]
    home.run("ingest", chat)
    assert made_by(home, "k") == made_by(home, "preference") == []
    assert home.run("rules", "enable", "preference", "k").code == 0
    home.run("ingest", "--reextract")
    assert len(made_by(home, "k")) == 3
    assert made_by(home, "preference") == ["My kettle broke again, so I prefer the old pan for tea."]
    assert home.run("rules", "enable", "k", "--json").json["unchanged"][0]["name"] == "k"


def test_starter_rules_can_be_disabled_before_the_first_ingest(home, chat):
    assert home.run("rules", "disable", "starter-preference").code == 0
    assert home.run("ingest", chat).code == 0
    assert made_by(home, "preference") == []


def test_memories_of_a_removed_rule_stay(home, chat):
    add(home, "kettle", "--name", "k")
    home.run("ingest", chat)
    before = made_by(home, "k")
    assert home.run("rules", "remove", "k").code == 0
    assert "k" not in listed(home)
    assert made_by(home, "k") == before != []


def test_what_was_done_is_recorded_as_runs(home):
    add(home, "kettle", "--name", "k")
    home.run("rules", "disable", "k")
    home.run("rules", "disable", "k")
    home.run("rules", "remove", "k")
    runs = home.rows("SELECT command, status FROM runs ORDER BY id")
    assert runs == [("rules add", "done"), ("rules disable", "done"), ("rules remove", "done")]


def test_a_dry_run_says_what_it_would_do_and_does_nothing(home):
    done = home.run("rules", "add", "kettle", "--dry-run")
    assert "added" in done.out
    assert "not touched" in done.out
    assert not home.db.exists()
    add(home, "kettle", "--name", "k")
    for command in (["edit", "k", "--name", "p"], ["disable", "k"], ["remove", "k"]):
        assert home.run("rules", *command, "--dry-run").code == 0
    assert listed(home)["k"]["active"]


def test_changes_wait_for_the_run_lock(home):
    add(home, "kettle", "--name", "k")
    with run_lock(home.db, 0, "ingest"):
        for command in (["add", "pan"], ["edit", "k", "--name", "p"], ["disable", "k"], ["remove", "k"]):
            refused(home.run("rules", *command), 5, "in use")
        assert home.run("rules", "list").code == 0


@pytest.mark.parametrize(
    "command", [["list"], ["show", "k"], ["edit", "k", "--name", "p"], ["remove", "k"], ["export"], ["coverage"],
                ["enable", "k"], ["test", "kettle"]], ids=" ".join
)  # fmt: skip
def test_without_a_database_there_is_nothing_to_look_at(home, command):
    refused(home.run("rules", *command), 4, "no database")
    assert not home.db.exists()


# --- test and coverage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False])
def test_a_pattern_is_tried_on_messages_as_ingest_sees_them(home, chat, stored):
    if stored:
        home.run("ingest", chat)
    found = home.run("rules", "test", "kettle", *([] if stored else [chat]), "--json", "--first", "2").json
    assert (found["messages"], found["messages_hit"], found["statements"]) == (4, 4, 4)
    assert found["microseconds_per_message"] > 0
    assert [(each["before"], each["match"]) for each in found["examples"]] == [("My ", "kettle"), ("The ", "kettle")]
    shown = home.run("rules", "test", "kettle", *([] if stored else [chat])).out
    assert "My «kettle» broke again" in shown
    assert "sk-ant" not in shown
    assert "redacted" in shown
    assert "4 of 4 messages (100.0%)" in shown
    assert home.db.exists() == stored


def test_a_trial_honours_what_the_rule_would_be(home, chat):
    def trial(*flags):
        return home.run("rules", "test", *flags, chat, "--json").json

    assert trial("KETTLE", "--case-sensitive")["messages_hit"] == 0
    assert (trial("kettle", "--roles", "user")["messages"], trial("kettle", "--roles", "user")["messages_hit"]) == (
        2,
        2,
    )
    assert trial("pan* * drawer", "--simple", "--keep", "match")["examples"][0]["kept"] == [
        "Pans are in the second drawer"
    ]
    assert trial("drawer", "--keep", "message")["examples"][0]["kept"] == [CHAT[-1][1]]
    refused(home.run("rules", "test", "(a", chat), 2, "missing )")
    refused(home.run("rules", "test", "a", "nowhere.jsonl"), 2, "nowhere.jsonl")


def test_coverage_counts_what_the_rules_hit(home, chat):
    kettle = add(home, "kettle", "--name", "k")["id"]
    pan = add(home, "pan*", "--simple", "--name", "p", "--roles", "assistant")["id"]
    never = add(home, "cellar", "--name", "c")["id"]
    other = add(home, "kettle", "--name", "o", "--agent", "anna")["id"]
    home.run("ingest", chat)
    found = home.run("rules", "coverage", "--json").json
    assert (found["messages"], found["messages_hit"]) == (4, 4)
    rules = {rule["id"]: rule for rule in found["rules"]}
    assert {key: rules[kettle][key] for key in ("messages", "hits", "share")} == {"messages": 4, "hits": 4, "share": 1}
    assert {key: rules[pan][key] for key in ("messages", "hits", "share")} == {"messages": 2, "hits": 1, "share": 0.5}
    assert (rules[never]["hits"], rules[other]["messages"]) == (0, 0)
    assert {never, other, "starter-coping"} <= set(found["never"])
    assert all(rule["microseconds_per_message"] > 0 for rule in rules.values() if rule["messages"])
    (pair,) = (each for each in found["overlaps"] if set(each["ids"]) == {kettle, pan})
    assert (pair["messages"], pair["share"]) == (1, 1.0)
    assert [rule["hits"] for rule in found["rules"]] == sorted((rule["hits"] for rule in found["rules"]), reverse=True)
    assert f"c ({never})" in home.run("rules", "coverage").out.partition("never:")[2]
    assert home.run("rules", "coverage", "--agent", "anna", "--json").json["messages"] == 0


def test_coverage_of_an_agent_that_nobody_knows_names_those_there_are(home, chat):
    home.run("ingest", chat, "--agent", "ada")
    add(home, "kettle", "--agent", "anna")
    refused(home.run("rules", "coverage", "--agent", "adda"), 2, "no such agent: adda", "agents: ada, anna")


def test_on_a_terminal_long_trials_and_coverage_show_how_far_they_are(home, chat):
    home.run("ingest", chat)
    for command in [("test", "kettle"), ("test", "kettle", chat), ("coverage",)]:
        assert re.search(r"trying\s.*/4 messages", ESCAPE_CODES.sub("", home.on_terminal("rules", *command).out))
        assert "trying" not in home.on_terminal("rules", *command, "--quiet").out


# --- import and export ------------------------------------------------------------------------------------------------


def filled(home):
    add(
        home,
        r"\bkettle's?\b",
        "--name",
        'the "kettle"',
        "--importance",
        "0.9",
        "--keywords",
        "tea,é",
        "--keep",
        "match",
    )
    add(home, "pan*", "--simple", "--name", "p", "--agent", "anna", "--case-sensitive")
    add(home, "drawer", "--name", "d", "--roles", "user")
    home.run("rules", "disable", "d", "starter-preference")
    return home


def test_an_exported_file_keeps_the_rights_that_it_had(home, tmp_path):
    file = tmp_path / "rules.json"
    assert home.run("ingest", write_jsonl(tmp_path / "chat.jsonl", []), "--flush").code == 0
    for mode in (0o600, 0o640):
        assert home.run("rules", "export", file).code == 0
        assert file.stat().st_mode & 0o777 == mode
        file.chmod(0o640)


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_rules_travel_through_a_file_and_do_the_same_there(home, tmp_path, data, nursery, chat, suffix):
    file = tmp_path / f"rules.{suffix}"
    assert filled(home).run("rules", "export", file).code == 0
    (json.loads if suffix == "json" else tomllib.loads)(file.read_text(encoding="utf-8"))
    other = Home(tmp_path / "other", data, nursery)
    done = other.run("rules", "import", file, "--json").json
    assert (len(done["added"]), len(done["disabled"])) == (3, 1)
    assert other.run("rules", "list", "--json").json == home.run("rules", "list", "--json").json
    for each in (home, other):
        assert each.run("ingest", chat).code == 0
    memories = "SELECT type, content, importance, extraction_method FROM active_memories ORDER BY memory_id"
    assert home.rows(memories) == other.rows(memories)
    versions = "SELECT window_id, tier, version FROM window_tiers ORDER BY 1, 2"
    assert home.rows(versions) == other.rows(versions)


def test_importing_again_changes_nothing(home, tmp_path):
    file = tmp_path / "rules.toml"
    filled(home).run("rules", "export", file)
    before = home.rows("SELECT * FROM rules"), home.rows("SELECT count(*) FROM runs")
    done = home.run("rules", "import", file, "--json").json
    assert (len(done["unchanged"]), done["run_id"]) == (3, None)
    assert (home.rows("SELECT * FROM rules"), home.rows("SELECT count(*) FROM runs")) == before


def test_a_rule_is_known_by_its_id_and_without_one_by_agent_and_name(home, tmp_path):
    rule = add(home, "kettle", "--name", "k")
    file = tmp_path / "rules.json"
    file.write_text(json.dumps([{"name": "k", "pattern": "pan"}, {"name": "k", "pattern": "cup", "agent": "anna"}]))
    done = home.run("rules", "import", file, "--json").json
    assert [each["id"] for each in done["changed"]] == [rule["id"]]
    assert [each["agent"] for each in done["added"]] == ["anna"]
    file.write_text(json.dumps([{"id": rule["id"], "name": "kettle", "pattern": "pot"}]))
    assert home.run("rules", "import", file).code == 0
    assert (listed(home)["kettle"]["pattern"], listed(home)["kettle"]["id"]) == ("pot", rule["id"])


def test_rules_may_exchange_their_names(home, tmp_path):
    one, other = add(home, "kettle", "--name", "a"), add(home, "pan", "--name", "b")
    file = tmp_path / "rules.json"
    rules = [{"id": one["id"], "name": "b", "pattern": "kettle"}, {"id": other["id"], "name": "a", "pattern": "pan"}]
    file.write_text(json.dumps(rules))
    assert home.run("rules", "import", file).code == 0
    assert (listed(home)["a"]["pattern"], listed(home)["b"]["pattern"]) == ("pan", "kettle")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"name": "good", "pattern": "x"}, {"name": "bad", "pattern": "(x"}]', 'rule "bad": RE2 refuses'),
        ('[{"name": "good", "pattern": "x"}, {"name": "bad", "pattern": "x", "keep": 3}]', "rule 2 (bad): keep"),
        ('[{"name": "good", "pattern": "x"}, {"name": "good", "pattern": "y"}]', 'two rules are "good"'),
        (
            '[{"name": "good", "pattern": "x"}, {"name": "decision", "pattern": "y"}]',
            "built-in rule of the name decision",
        ),
        ('{"disabled_starter_rules": ["starter-none"], "rules": [{"name": "good", "pattern": "x"}]}', "starter-none"),
        ("[", "not valid JSON"),
    ],
)
def test_of_a_file_with_a_bad_rule_none_is_taken(home, tmp_path, text, says):
    add(home, "kettle", "--name", "k")
    before = home.rows("SELECT * FROM rules")
    file = tmp_path / "rules.json"
    file.write_text(text)
    refused(home.run("rules", "import", file), 2, says, str(file) if "decision" not in says else "")
    assert home.rows("SELECT * FROM rules") == before


def test_rules_go_through_pipes(home, tmp_path):
    text = filled(home).run("rules", "export", "--format", "toml").out
    other = tmp_path / "other.db"
    assert home.run("rules", "import", "-", "--format", "toml", "--db", other, stdin=text).code == 0
    assert home.run("rules", "export", "--format", "toml", "--db", other).out == text
    refused(home.run("rules", "import", tmp_path / "none.json"), 2, "none.json")
    refused(home.run("rules", "export", tmp_path / "rules.yaml"), 2, "yaml", "--format")


# --- rules that are bad in the database -------------------------------------------------------------------------------


BAD = ["pattern = '(?=a)'", r"pattern = '\pL{200}'", "keywords = 'tea'", "name = char(7)", "importance = 'high'"]


@pytest.mark.parametrize("change", BAD)
def test_a_stored_bad_rule_is_a_warning_and_the_others_go_on(home, chat, change):
    bad = add(home, "pan", "--name", "p")["id"]
    add(home, "kettle", "--name", "k")
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute("PRAGMA ignore_check_constraints = ON")
        conn.execute(f"UPDATE rules SET {change} WHERE id = ?", (bad,))
        conn.commit()
    done = home.run("ingest", chat)
    assert done.code == 0
    assert bad in done.err
    assert "left out" in done.err
    assert len(made_by(home, "k")) == 3
    for command in (["list"], ["show", bad], ["coverage"], ["export"]):
        done = home.run("rules", *command)
        assert done.code == 0, done.err
        assert not UNSAFE.search(done.out + done.err)
    problems = {rule["id"]: rule["problem"] for rule in home.run("rules", "list", "--json").json}
    assert [key for key, problem in problems.items() if problem] == [bad]
    assert home.run("rules", "remove", bad).code == 0
    assert home.run("ingest", "--reextract").err == ""


def test_a_stored_bad_rule_can_be_mended(home, chat):
    bad = add(home, "pan", "--name", "p")["id"]
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute("UPDATE rules SET pattern = '(?=a)', keywords = 'tea'")
        conn.commit()
    refused(home.run("rules", "edit", bad, "--pattern", "pan"), 2, "keywords must be")
    assert home.run("rules", "edit", bad, "--pattern", "pan", "--keywords", "tea").code == 0
    assert home.run("ingest", chat).err == ""
    assert len(made_by(home, "p")) > 0


def test_all_fixtures_go_through_coverage(home):
    home.run("ingest", FIXTURES)
    found = home.run("rules", "coverage", "--json").json
    assert found["messages"] > 50
    assert sum(rule["hits"] for rule in found["rules"] if rule["starter"]) > 10
