"""Who configures no model opens no socket, needs no client, and pays nothing."""

import pytest
from support_chat import Chat, configure, talk
from support_cli import FIXTURES, write_jsonl

# Sockets are told apart from the start, whatever opens them.
WATCHED = """
import sys
opened = []
sys.addaudithook(lambda name, args: opened.append(name) if name.startswith("socket.") and name != "socket.gethostname"
    else None)
import atexit
atexit.register(lambda: print("sockets:", opened, "client:", "openai" in sys.modules, file=sys.stderr))
from memcli.cli import main
main()
"""
WITHOUT = "import sys; sys.modules['openai'] = None\nfrom memcli.cli import main\nmain()"


@pytest.mark.parametrize("profile", ["local", "comprehensive"])
def test_without_a_model_no_socket_is_opened_whatever_the_profile(home, profile):
    done = home.python(WATCHED, "ingest", FIXTURES, "--profile", profile, "--flush")
    assert done.code == 0, done.err
    assert "sockets: [] client: False" in done.err
    told = "profile comprehensive: small and premium left out, no model is configured"
    assert (told in done.err) == (profile == "comprehensive")


def test_the_watch_sees_sockets_where_a_model_is_asked(home, tmp_path):
    with Chat() as chat:
        configure(home, chat.url, "small")
        done = home.python(WATCHED, "ingest", write_jsonl(tmp_path / "chat.jsonl", talk(20)))
    assert done.code == 0, done.err
    assert "socket.connect" in done.err
    assert "client: True" in done.err


def test_a_configured_model_that_the_profile_does_not_want_is_left_alone(home, tmp_path):
    transcript = write_jsonl(tmp_path / "chat.jsonl", talk(40))
    with Chat() as chat:
        configure(home, chat.url, "small", "premium")
        for flags in (("--profile", "local"), ("--extract", "rules,verbatim")):
            done = home.python(WATCHED, "ingest", transcript, *flags)
            assert "sockets: [] client: False" in done.err
        assert chat.requests == []


def test_without_the_client_everything_but_the_models_works_and_it_says_what_to_install(home, tmp_path):
    transcript = write_jsonl(tmp_path / "chat.jsonl", talk(40))
    done = home.python(WITHOUT, "ingest", transcript)
    assert done.code == 0, done.err
    configure(home, "http://127.0.0.1:9/v1", "small")
    done = home.python(WITHOUT, "ingest", transcript)
    assert done.code == 2
    assert 'pip install "memcli[llm]"' in done.err
    assert "Traceback" not in done.err
    assert home.python(WITHOUT, "ingest", transcript, "--dry-run").code == 0
    assert home.python(WITHOUT, "ingest", transcript, "--extract", "rules").code == 0


def test_a_tier_that_is_asked_for_and_has_no_model_is_an_error_that_says_what_to_set(home, tmp_path):
    transcript = write_jsonl(tmp_path / "chat.jsonl", talk(40))
    done = home.run("ingest", transcript, "--extract", "rules,premium")
    assert done.code == 2
    assert "set model in [tiers.premium] of memcli.toml" in done.err
    assert not home.db.exists()


def test_no_table_of_the_models_holds_anything_then(home):
    assert home.run("ingest", FIXTURES).code == 0
    for table in ("model_calls", "model_answers", "rejected_statements", "memory_links", "boot_lines"):
        assert home.rows(f"SELECT count(*) FROM {table}") == [(0,)]
