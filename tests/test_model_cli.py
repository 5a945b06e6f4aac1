"""`memcli model` and `--model` as their users meet them, and a database that keeps the model it was made with."""

import json
import re
import shutil

import pytest
from support_cli import Home, Nursery, write_jsonl
from support_models import DIM, carded, installed, layout, static_model, tokenizer, transformer

from memcli.embed.models import default_model

CHAT = [
    {"id": "1", "session_id": "s", "role": "user", "content": "The deploy key lives in the vault.", "ts": "2026-03-01"},
    {"id": "2", "session_id": "s", "role": "user", "content": "The soup needs more salt, always.", "ts": "2026-03-02"},
]
MORE = {"id": "3", "session_id": "s", "role": "user", "content": "We retry five times and stop.", "ts": "2026-03-03"}
# Becomes memcli with another packaged model, as an older or newer release would have it.
RELEASE = (
    "import sys, memcli.embed.models as models; from pathlib import Path; models._PACKAGED = Path(sys.argv.pop(1))\n"
    "from memcli.cli import main; main()"
)


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture
def home(nursery, tmp_path):
    made = Home(tmp_path / "home", nursery=nursery)
    write_jsonl(made.folder / "chat.jsonl", CHAT)
    return made


@pytest.fixture
def small(home):
    """The small transformer, imported."""
    done = home.run("model", "import", layout(home.folder / "small", transformer()), "--json")
    assert done.code == 0, done.err
    return done.json["model_id"]


@pytest.fixture
def older(tmp_path):
    """A small static model as the packaged one of an earlier release."""
    return installed(
        tmp_path / "release-1", static_model(), dim=16, pooling="in-graph", normalise="in-graph", special_tokens=False
    )


def dims(home):
    return [dim for (dim,) in home.rows("SELECT DISTINCT dim FROM segments")]


def model_ids(home):
    (stored,) = home.rows("SELECT value FROM meta WHERE key = 'model_id'")
    return {stored[0]} | {row[0] for row in home.rows("SELECT DISTINCT model_id FROM segments")}


def test_a_new_database_takes_the_named_model_and_refuses_another_from_then_on(home, small):
    assert home.run("ingest", "chat.jsonl", "--model", "small").code == 0
    assert model_ids(home) == {small}
    assert dims(home) == [DIM]
    assert home.run("ingest", "chat.jsonl").code == 0
    assert home.run("ingest", "chat.jsonl", "--model", small[:8]).code == 0
    refused = home.run("ingest", "chat.jsonl", "--model", "default")
    assert refused.code == 6
    assert "memcli reindex --model default" in refused.err
    assert home.run("search", "deploy key", "--json").json[0]["hits"][0]["content"] == CHAT[0]["content"]


def test_the_setting_and_the_choice_of_use_name_the_model_of_new_databases(home, small):
    assert home.run("model", "use", "small").code == 0
    assert home.run("ingest", "chat.jsonl").code == 0
    assert model_ids(home) == {small}
    other = {"MEMCLI_DB": str(home.folder / "other.db")}
    assert home.run("ingest", "chat.jsonl", env=other | {"MEMCLI_MODEL": "default"}).code == 0
    listed = home.run("model", "list", "--json", env=other).json
    used = {each["name"]: (each["new_databases"], each["this_database"]) for each in listed}
    assert used == {"small": (True, False), default_model().name: (False, True)}
    assert home.run("model", "use", "default", env={"MEMCLI_DB": str(home.folder / "none.db")}).code == 0
    assert home.run("model", "list", "--json").json[0]["new_databases"]


def test_use_is_about_new_databases_whatever_the_one_at_hand_is(home, small):
    assert home.run("ingest", "chat.jsonl").code == 0
    (before,) = model_ids(home)
    done = home.run("model", "use", "small")
    assert done.code == 0, done.err
    assert "memcli reindex --model small" in done.out
    assert model_ids(home) == {before}
    listed = home.run("model", "list", "--json").json[1]
    assert (listed["new_databases"], listed["this_database"]) == (True, False)
    assert home.run("ingest", "chat.jsonl").code == 0
    assert home.run("model", "use", "default").code == 0
    home.db.write_bytes(b"SQLite format 3\0" + bytes(4000))
    assert home.run("model", "use", "small", "--json").json["kept"] == str(home.db)
    home.db.unlink()
    assert home.run("ingest", "chat.jsonl").code == 0
    assert model_ids(home) == {small}


def test_use_binds_a_database_without_memories(home, small):
    empty = {"MEMCLI_DB": str(home.folder / "empty.db")}
    write_jsonl(home.folder / "nothing.jsonl", [])
    assert home.run("ingest", "nothing.jsonl", env=empty).code == 0
    assert home.run("model", "use", "small", "--dry-run", env=empty).code == 0
    assert not home.run("model", "list", "--json", env=empty).json[1]["this_database"]
    assert home.run("model", "use", "small", "--json", env=empty).json["database"] == empty["MEMCLI_DB"]
    listed = home.run("model", "list", "--json", env=empty).json[1]
    assert (listed["model_id"], listed["this_database"], listed["new_databases"]) == (small, True, True)


def test_a_model_folder_without_its_graph_is_damaged_and_any_other_is_no_model(home, older):
    """The card tells them apart, whichever command is given the folder."""
    (older.folder / "model.onnx").unlink()
    other = home.folder / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text("{}")
    for command in (("model", "import"), ("model", "info"), ("model", "use"), ("ingest", "chat.jsonl", "--model")):
        done = home.run(*command, older.folder)
        assert (done.code, "model.onnx: the model file is missing" in done.err) == (8, True), (command, done.err)
        done = home.run(*command, other)
        assert (done.code, "ONNX file" in done.err) == (2, True), (command, done.err)


def test_remove_spares_what_is_in_use_and_what_came_with_memcli(home, small):
    packaged = home.run("model", "remove", "default")
    assert (packaged.code, "comes with memcli" in packaged.err) == (2, True)
    assert home.run("ingest", "chat.jsonl", "--model", "small").code == 0
    used = home.run("model", "remove", "small")
    assert (used.code, "memcli reindex --model default" in used.err) == (2, True)
    assert home.run("reindex", "--model", "default").code == 0
    none = {"MEMCLI_DB": str(home.folder / "none.db")}
    assert home.run("model", "use", "small", env=none).code == 0
    assert home.run("model", "remove", "small").code == 2
    assert home.run("model", "use", "default", env=none).code == 0
    assert home.run("model", "remove", "small", "--dry-run").code == 0
    assert (home.data / "models" / small).is_dir()
    assert home.run("model", "remove", "small").code == 0
    assert not (home.data / "models" / small).exists()
    assert [each["packaged"] for each in home.run("model", "list", "--json").json] == [True]


def test_a_name_means_default_an_installed_model_the_start_of_an_id_or_a_folder(home, small, older):
    for name in ("small", small, small[:4]):
        assert home.run("model", "info", name, "--json").json["model_id"] == small
    assert home.run("model", "info", "default", "--json").json["model_id"] == default_model().model_id
    assert home.run("model", "info", older.folder, "--json").json["model_id"] == older.model_id
    for name, said in (
        ("nothing", "there is no model nothing"),
        (small[:3], "there is no model"),
        (home.folder / "small", "memcli model import"),
        ("../../etc", "there is no model"),
        ("\x1b[31mred", "\\x1b[31mred"),
    ):
        done = home.run("model", "info", name)
        assert (done.code, said in done.err) == (2, True), done.err
    assert home.run("ingest", "chat.jsonl", "--model", older.folder).code == 0
    shutil.rmtree(older.folder)
    assert home.run("ingest", "chat.jsonl").code == 0
    assert home.run("search", "salt").code == 0


def test_two_models_of_one_name_are_told_apart_by_their_ids(home, small):
    layout(home.folder / "small", transformer(rows=tokenizer().get_vocab_size() + 1))
    other = home.run("model", "import", "small", "--json").json["model_id"]
    done = home.run("model", "info", "small")
    assert done.code == 2
    assert small in done.err
    assert other in done.err


def test_lists_and_cards_of_hostile_models_are_printed_harmlessly(home, older):
    card = json.loads((older.folder / "card.json").read_text()) | {
        "name": "\x1b[31m[red]evil[/]\u202e",
        "note": "\x9b2J",
    }
    (older.folder / "card.json").write_text(json.dumps(card))
    done = home.run("model", "import", older.folder)
    assert done.code == 0, done.err
    for command in (["model", "list"], ["model", "info", older.model_id], ["model", "list", "--json"]):
        out = home.run(*command).out
        assert not set(out) & set("\x1b\x9b\u202e")
    assert "\\x1b[31m[red]evil[/]\\u202e" in home.run("model", "list").out


def test_a_damaged_model_is_named_and_hides_no_other(home, small):
    (home.data / "models" / small / "card.json").write_text("{")
    done = home.run("model", "list", "--json")
    assert done.code == 0
    assert [each["packaged"] for each in done.json] == [True]
    assert "card.json" in done.err
    shutil.rmtree(home.data / "models" / small)
    (home.data / "models" / "chosen").write_text(small)
    assert home.run("ingest", "chat.jsonl").code == 8


def test_an_unsound_import_is_code_8(home):
    folder = layout(home.folder / "bad", transformer(rows=10))
    done = home.run("model", "import", folder)
    assert done.code == 8
    assert done.err.startswith("memcli: bad: tokenizer.json")
    assert "Traceback" not in done.err
    assert home.run("model", "import", home.folder / "none").code == 2


def test_a_table_of_eighty_columns_holds_the_list(home, small):
    assert home.run("ingest", "chat.jsonl", "--model", "small").code == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", home.on_terminal("model", "list").out).rstrip("\n").split("\n")
    assert max(map(len, lines)) <= 80
    assert any(small[:8] in line for line in lines)


@pytest.mark.parametrize("model", ["nonsense", "openai:small"])
def test_a_model_that_cannot_be_had_leaves_no_database_behind(home, model):
    home.env.pop("OPENAI_API_KEY", None)
    assert home.run("ingest", "chat.jsonl", "--model", model).code == 2
    assert not home.db.exists()


def test_a_choice_of_use_that_is_gone_leaves_no_database_behind(home, small):
    elsewhere = {"MEMCLI_DB": str(home.folder / "elsewhere.db")}
    assert home.run("model", "use", small, env=elsewhere).code == 0
    shutil.rmtree(home.data / "models" / small)
    done = home.run("ingest", "chat.jsonl")
    assert (done.code, "memcli model list" in done.err) == (8, True)
    assert not home.db.exists()


# --- a release with another default ----------------------------------------------------------------------------------


def test_a_database_keeps_the_older_default_through_cron_until_it_is_moved_on(home, older):
    first = home.python(RELEASE, older.folder, "ingest", "chat.jsonl")
    assert first.code == 0, first.err
    assert model_ids(home) == {older.model_id}
    shutil.rmtree(older.folder)  # the new release does not bring it along

    write_jsonl(home.folder / "chat.jsonl", [*CHAT, MORE])
    cron = home.run("ingest", "chat.jsonl", "--json")
    assert (cron.code, cron.err) == (0, "")
    assert (cron.json["messages"]["new"], cron.json["embedded"]) == (1, 1)
    assert model_ids(home) == {older.model_id}
    assert dims(home) == [16]
    assert home.run("search", "retry", "--json").json[0]["hits"][0]["content"] == MORE["content"]

    moved = home.run("reindex", "--model", "default", "--json").json
    assert (moved["memories"], moved["embedded"]) == (3, 3)
    assert model_ids(home) == {default_model().model_id}
    assert dims(home) == [256]
    assert home.run("ingest", "chat.jsonl").code == 0
    assert home.run("search", "retry", "--json").json[0]["hits"][0]["content"] == MORE["content"]


def test_a_database_whose_model_is_lost_says_so_and_can_still_be_moved_on(home, older):
    assert home.python(RELEASE, older.folder, "ingest", "chat.jsonl").code == 0
    shutil.rmtree(home.data / "models" / older.model_id)
    for command in (["ingest", "chat.jsonl"], ["search", "salt"]):
        lost = home.run(*command)
        assert lost.code == 6
        assert "memcli reindex --model default" in lost.err
    assert home.run("reindex", "--model", "default").code == 0
    assert home.run("search", "salt").code == 0


def test_a_card_of_a_newer_release_with_unknown_pooling_is_refused_and_not_guessed(home, small):
    folder = home.data / "models" / small
    card = json.loads((folder / "card.json").read_text())
    with pytest.raises(Exception, match="is not known"):
        carded(folder, **(card | {"pooling": "attention"}))
