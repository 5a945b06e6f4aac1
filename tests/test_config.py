from __future__ import annotations

import dataclasses
from pathlib import Path

import platformdirs
import pytest

from memcli.config import PROFILES, Config, data_dir, load, profile
from memcli.errors import UsageError


@pytest.fixture(autouse=True)
def no_user_config(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda *_a, **_k: str(tmp_path / "userconfig"))


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "memcli.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_source_every_value_is_the_default(tmp_path):
    config, origins = load({}, None, {}, tmp_path)
    assert config == Config()
    assert config.db == Path(platformdirs.user_data_dir("memcli", appauthor=False)) / "memory.db"
    assert (config.batch_size, config.embed_batch_size, config.max_memory) == (1024, 64, 1_000_000_000)
    assert (config.profile, config.roles, config.extract) == ("local", ("user", "assistant"), None)
    assert set(origins) == {item.name for item in dataclasses.fields(Config)}
    assert set(origins.values()) == {"default"}


def test_flags_win_over_environment_over_file_over_default_and_the_origin_is_told(tmp_path):
    path = write(tmp_path, 'agent = "file"\nprofile = "balanced"\nbatch_size = 7\nwait = 5\n')
    environ = {"MEMCLI_PROFILE": "therapy", "MEMCLI_BATCH_SIZE": "64", "HOME": "/x"}
    config, origins = load({"batch_size": 1, "agent": None}, None, environ, tmp_path)
    assert (config.agent, config.profile, config.batch_size, config.wait) == ("file", "therapy", 1, 5.0)
    assert origins["agent"] == f"file {path}"
    assert origins["profile"] == "environment MEMCLI_PROFILE"
    assert origins["batch_size"] == "flag --batch-size"
    assert origins["roles"] == "default"


def test_a_flag_that_is_false_is_named_as_the_user_wrote_it(tmp_path):
    config, origins = load({"starter_rules": False}, None, {}, tmp_path)
    assert config.starter_rules is False
    assert origins["starter_rules"] == "flag --no-starter-rules"


def test_the_file_is_the_option_else_the_variable_else_here_else_the_users_folder(tmp_path):
    user = write(tmp_path / "userconfig", 'agent = "user"')
    assert load({}, None, {}, tmp_path)[0].agent == "user"
    write(tmp_path, 'agent = "here"')
    assert load({}, None, {}, tmp_path)[0].agent == "here"
    write(tmp_path / "env", 'agent = "variable"')
    environ = {"MEMCLI_CONFIG": "env/memcli.toml"}
    assert load({}, None, environ, tmp_path)[0].agent == "variable"
    assert load({}, user, environ, tmp_path)[0].agent == "user"


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_file_that_was_asked_for_must_be_there(tmp_path, how):
    missing = tmp_path / "missing.toml"
    with pytest.raises(UsageError, match=r"missing\.toml"):
        load(
            {},
            missing if how == "option" else None,
            {"MEMCLI_CONFIG": str(missing)} if how == "variable" else {},
            tmp_path,
        )


def test_a_relative_database_of_the_file_is_beside_it_and_one_of_a_flag_is_here(tmp_path):
    path = write(tmp_path / "etc", 'db = "m.db"')
    assert load({}, path, {}, tmp_path)[0].db == tmp_path / "etc" / "m.db"
    assert load({"db": Path("m.db")}, path, {}, tmp_path)[0].db == tmp_path / "m.db"
    assert load({}, path, {"MEMCLI_DB": "m.db"}, tmp_path)[0].db == tmp_path / "m.db"
    assert load({"db": "~/m.db"}, path, {}, tmp_path)[0].db == Path("~/m.db").expanduser()


def test_an_unknown_key_is_an_error_with_file_line_and_nearest_key(tmp_path):
    path = write(tmp_path, '# mine\nagent = "a"\nbatchsize = 3\n')
    with pytest.raises(UsageError) as caught:
        load({}, None, {}, tmp_path)
    assert f"{path}:3: batchsize" in caught.value.message
    assert '"batch_size"' in caught.value.hint


def test_an_unknown_profile_key_is_found_in_its_own_table(tmp_path):
    path = write(tmp_path, "[profiles.a]\nrate = 0.5\n[profiles.b]\nrates = 0.5\n")
    with pytest.raises(UsageError) as caught:
        load({}, None, {}, tmp_path)
    assert f"{path}:4: profiles.b.rates" in caught.value.message
    assert '"rate"' in caught.value.hint


@pytest.mark.parametrize(
    ("variable", "nearest"), [("MEMCLI_PROFLE", "MEMCLI_PROFILE"), ("MEMCLI_db", "MEMCLI_DB"), ("MEMCLI_", "MEMCLI_DB")]
)
def test_an_unknown_variable_is_an_error_with_the_nearest_one(tmp_path, variable, nearest):
    with pytest.raises(UsageError) as caught:
        load({}, None, {variable: "x"}, tmp_path)
    assert variable in caught.value.message
    assert nearest in caught.value.hint


def test_variables_that_are_no_settings_and_empty_ones_are_left_alone(tmp_path):
    path = write(tmp_path / "c", 'agent = "a"')
    environ = {"MEMCLI_CONFIG": str(path), "MEMCLI_DATA_DIR": "/d", "MEMCLI_BATCH_SIZE": "", "XMEMCLI_Y": "1"}
    config, origins = load({}, None, environ, tmp_path)
    assert config.batch_size == 1024
    assert origins["batch_size"] == "default"


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("batch_size = true", "whole number"),
        ("batch_size = 0", "from 1"),
        ("batch_size = 1.5", "whole number"),
        (f"batch_size = {'9' * 400}", "whole number"),
        ('roles = ["user", "robot"]', "user, assistant, system, tool"),
        ("roles = []", "one or more of"),
        ("extract = 'rules,magic'", "rules, verbatim, small, premium"),
        ("rate_applies_to = 'none'", "paid, all"),
        ("near_threshold = 1.2", "from 0 to 1"),
        ("near_threshold = nan", "from 0 to 1"),
        ("wait = inf", "number"),
        ("wait = -1", "from 0"),
        ("starter_rules = 'perhaps'", "true or false"),
        ("starter_rules = 1", "true or false"),
        ("max_memory = '12 parsecs'", "500MB"),
        ("max_memory = '10 kB'", "at least 1 MB"),
        ("agent = ''", "not empty"),
        ("agent = 3", "a text"),
        ("db = 3", "a path"),
        ("profiles = 3", "[profiles.NAME]"),
        ("[profiles.x]\nrate = 2", "from 0 to 1"),
        ("[profiles.x]\nfilters = 'some'", "strict, emotions, everything, none"),
        ("[profiles.x]\nmax_messages = 3", "min_messages (5) must not be above"),
        ("agent = [", "not valid TOML"),
    ],
)
def test_a_wrong_value_says_what_where_and_what_is_allowed(tmp_path, line, allowed):
    path = write(tmp_path, line)
    with pytest.raises(UsageError) as caught:
        load({}, None, {}, tmp_path)
    assert str(path) in caught.value.message
    assert allowed in caught.value.message


def test_a_wrong_variable_or_flag_names_itself(tmp_path):
    with pytest.raises(UsageError, match="MEMCLI_BATCH_SIZE must be a whole number from 1 to 1000000, not 'many'"):
        load({}, None, {"MEMCLI_BATCH_SIZE": "many"}, tmp_path)
    with pytest.raises(UsageError, match="--near-threshold must be a number from 0 to 1, not 'high'"):
        load({"near_threshold": "high"}, None, {}, tmp_path)


def test_a_file_that_is_no_text_is_an_error_not_a_trace(tmp_path):
    path = tmp_path / "memcli.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        load({}, path, {}, tmp_path)


def test_a_byte_order_mark_does_not_hurt(tmp_path):
    path = tmp_path / "memcli.toml"
    path.write_bytes(b'\xef\xbb\xbfagent = "a"\r\n')
    assert load({}, path, {}, tmp_path)[0].agent == "a"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500MB", 500_000_000),
        ("1GB", 10**9),
        ("1.5 gb", 1_500_000_000),
        ("1GiB", 2**30),
        ("2000000", 2_000_000),
        ("64M", 64_000_000),
    ],
)
def test_sizes_are_read_with_their_units(tmp_path, text, size):
    assert load({"max_memory": text}, None, {}, tmp_path)[0].max_memory == size


def test_lists_are_read_from_text_and_from_toml_and_name_each_tier_once(tmp_path):
    write(tmp_path, 'extract = ["rules", "verbatim"]')
    assert load({}, None, {}, tmp_path)[0].extract == ("rules", "verbatim")
    config, _ = load({"roles": " user , tool,user"}, None, {"MEMCLI_EXTRACT": "verbatim"}, tmp_path)
    assert (config.extract, config.roles) == (("verbatim",), ("user", "tool"))


@pytest.mark.parametrize(("word", "value"), [("1", True), ("no", False), ("OFF", False), ("true", True)])
def test_switches_are_read_from_the_environment(tmp_path, word, value):
    assert load({}, None, {"MEMCLI_STARTER_RULES": word}, tmp_path)[0].starter_rules is value


def test_the_profiles_are_those_of_the_table():
    table = {
        "local": (20, 0, 1, 1.0, 10, "rules,verbatim", "strict", None, None),
        "conservative": (20, 60, 5, 0.2, 50, "rules,small", "strict", 4, 25),
        "balanced": (20, 60, 5, 0.4, 30, "rules,small", "emotions", 8, 100),
        "comprehensive": (15, 30, 3, 0.6, 20, "rules,small,premium", "everything", 12, 160),
        "maximum": (10, 15, 2, 0.8, 10, "rules,small,premium", "none", 16, 200),
        "customer-support": (20, 60, 5, 0.3, 30, "rules,small", "strict", None, None),
        "therapy": (8, 30, 3, 0.6, 20, "rules,small,premium", "emotions", None, None),
        "education": (20, 60, 5, 0.5, 30, "rules,small", "strict", None, None),
        "research": (20, 60, 5, 0.8, 30, "rules,small", "strict", None, None),
        "casual-chat": (20, 60, 5, 0.2, 30, "rules,small", "strict", None, None),
        "business-intelligence": (20, 60, 5, 0.4, 30, "rules,small", "strict", None, None),
    }
    found = {
        p.name: (
            p.max_messages,
            p.timeout_minutes,
            p.min_messages,
            p.rate,
            p.min_chars,
            ",".join(p.tiers),
            p.filters,
            p.expected_memories,
            p.expected_tokens,
        )
        for p in PROFILES.values()
    }
    assert found == table


def test_an_unknown_profile_falls_back_to_a_rate_of_one_fifth_with_a_warning():
    found, warning = profile("thearpy")
    assert found == dataclasses.replace(PROFILES["casual-chat"], name="thearpy")
    assert found.rate == 0.2
    assert warning is not None
    assert "thearpy" in warning
    assert "therapy" in warning
    assert profile("therapy") == (PROFILES["therapy"], None)


def test_the_file_changes_profiles_on_the_base_of_their_own_or_the_fallbacks_values(tmp_path):
    path = write(
        tmp_path,
        'profile = "mine"\n[profiles.therapy]\nmax_messages = 9\ntimeout_minutes = 1.5\n'
        '[profiles.mine]\ntiers = ["verbatim"]\nfilters = "none"\nrate = 1\n',
    )
    config, origins = load({}, None, {}, tmp_path)
    therapy = dataclasses.replace(PROFILES["therapy"], max_messages=9, timeout_minutes=1.5)
    mine = dataclasses.replace(PROFILES["casual-chat"], name="mine", tiers=("verbatim",), filters="none", rate=1.0)
    assert profile("therapy", config.profiles) == (therapy, None)
    assert config.active_profile() == (mine, None)
    assert profile("local", config.profiles)[0] == PROFILES["local"]
    assert origins["profiles.therapy.max_messages"] == f"file {path}"
    assert origins["profiles"] == f"file {path}"


def test_the_data_folder_is_the_variables_else_the_users():
    assert data_dir({"MEMCLI_DATA_DIR": "/data/m"}) == Path("/data/m")
    assert data_dir({}) == Path(platformdirs.user_data_dir("memcli", appauthor=False))
