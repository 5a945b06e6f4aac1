"""`memcli model pull` against a hub on loopback: what is fetched, resumed, checked, cached and refused."""

import json
import shutil
import signal
from pathlib import Path

import onnx
import pytest
from support_cli import Home, Nursery, finish, wait_for
from support_hub import COMMIT, Hub, checksum
from support_models import bag_model, layout, tokenizer, transformer

NAME = "acme/small"
GRAPH = "onnx/model.onnx"
# Large enough for the hub to keep it apart, and for memcli to resume it.
ROWS = 20_000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = layout(tmp_path_factory.mktemp("hub") / "small", transformer(rows=ROWS))
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return found | {"pytorch_model.bin": b"\x80\x04" * 400_000, "evil.py": b"raise SystemExit", "README.md": b"# small"}


@pytest.fixture
def hub(files):
    with Hub({NAME: dict(files)}) as running:
        yield running


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture
def home(tmp_path, hub, nursery):
    made = Home(tmp_path / "home", nursery=nursery)
    for name in [name for name in made.env if name.startswith("HF_") or name.lower().endswith("_proxy")]:
        del made.env[name]
    made.env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    return made


def installed(home):
    folder = home.data / "models"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_model_is_fetched_once_with_only_the_files_that_it_needs_and_then_works(home, hub):
    done = home.run("model", "pull", NAME, "--json")
    assert done.code == 0, done.err
    document = done.json
    assert (document["name"], document["dim"], document["new"], document["warnings"]) == (NAME, 32, True, [])
    fetched = {path.partition("/resolve/")[2].partition("/")[2] for how, path, _ in hub.requests if how == "GET"} - {""}
    wanted = {"modules.json", "config.json", "sentence_bert_config.json", "1_Pooling/config.json", "tokenizer.json"}
    assert fetched == wanted | {GRAPH}
    card = home.run("model", "info", NAME, "--json").json
    assert (card["source"], card["commit"], card["licence"], card["file"]) == (NAME, COMMIT, "apache-2.0", GRAPH)

    hub.requests.clear()
    again = home.run("model", "pull", NAME)
    assert again.code == 0
    assert "was here already" in again.out
    assert not hub.asked("GET", GRAPH)

    hub.requests.clear()
    offline = home.run("model", "pull", NAME, env={"HF_HUB_OFFLINE": "1"})
    assert offline.code == 0, offline.err
    assert not hub.requests


def test_offline_installs_from_the_cache_and_names_what_is_not_there(home, hub, tmp_path):
    assert home.run("model", "pull", NAME).code == 0
    hub.requests.clear()
    other = Home(tmp_path / "other", nursery=home.nursery)
    other.env |= {name: home.env[name] for name in ("HF_ENDPOINT", "HF_HOME", "NO_PROXY")} | {"HF_HUB_OFFLINE": "1"}
    assert other.run("model", "pull", NAME).code == 0
    assert installed(other) == installed(home)
    missing = other.run("model", "pull", "acme/other")
    assert missing.code == 7
    assert "not in the cache" in missing.err
    assert not hub.requests
    blob = next(path for path in (tmp_path / "hf").rglob("*") if path.is_file() and path.stat().st_size > 1_000_000)
    blob.write_bytes(blob.read_bytes()[:-4] + b"abcd")
    damaged = other.run("model", "pull", NAME)
    assert damaged.code == 8
    assert "checksum" in damaged.err


def test_a_dry_run_lists_what_would_be_fetched_and_fetches_nothing(home, hub):
    done = home.run("model", "pull", NAME, "--dry-run", "--json")
    assert done.code == 0
    assert done.json["files"][GRAPH] == len(hub.repos[NAME][GRAPH])
    assert [how for how, _, _ in hub.requests] == ["GET"]
    assert not installed(home)


def test_a_download_that_keeps_breaking_off_is_code_8_installs_nothing_and_goes_on_with_the_next_call(home, hub):
    hub.cut = {GRAPH: 300_000}
    broken = home.run("model", "pull", NAME)
    assert broken.code == 8
    assert "broke off after 1,200,000 of" in broken.err
    assert "run it again" in broken.err
    assert not installed(home)
    hub.cut = {}
    assert home.run("model", "pull", NAME).code == 0
    assert hub.asked("GET", GRAPH) == [None, *(f"bytes={arrived}-" for arrived in range(300_000, 1_500_000, 300_000))]
    assert len(installed(home)) == 1


def test_what_passes_by_itself_is_tried_again_within_one_call(home, hub):
    hub.failing = [["GET", "revision/main", 2], ["HEAD", GRAPH, 1], ["HEAD", "config.json", 3], ["GET", GRAPH, 1]]
    hub.cut, hub.once = {GRAPH: 900_000}, {GRAPH}
    done = home.run("model", "pull", NAME)
    assert done.code == 0, done.err
    assert [times for _, _, times in hub.failing] == [0, 0, 0, 0]
    assert hub.asked("GET", GRAPH) == [None, None, "bytes=900000-"]
    assert "attempt 2 of 4 in 0 s" in done.err
    assert f"{GRAPH}: the download broke off after 900,000 of" in " ".join(done.err.split())
    assert len(installed(home)) == 1


def test_a_hub_that_stays_overloaded_is_asked_four_times(home, hub):
    hub.failing = [["GET", "revision/main", 99]]
    done = home.run("model", "pull", NAME)
    assert done.code == 7
    assert "cannot be fetched" in done.err
    assert len(hub.requests) == 4
    hub.requests.clear()
    hub.refused = {NAME: 403}
    hub.failing = []
    assert home.run("model", "pull", NAME).code == 2
    assert len(hub.requests) == 1


def test_what_arrived_but_is_too_long_or_already_whole_does_no_harm(home, hub):
    right = hub.repos[NAME][GRAPH]
    partial = Path(home.env["HF_HOME"]) / "hub" / "models--acme--small" / "blobs" / f"{checksum(right)}.memcli"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(len(right) + 1))
    assert home.run("model", "pull", NAME).code == 0
    assert hub.asked("GET", GRAPH) == [None]
    shutil.rmtree(home.env["HF_HOME"])
    partial.parent.mkdir(parents=True)
    partial.write_bytes(right)
    done = home.run("model", "pull", NAME)
    assert done.code == 0, done.err
    assert "was here already" in done.out


def test_a_pull_that_is_interrupted_keeps_what_has_arrived(home, hub):
    hub.cut, hub.stalls = {GRAPH: 900_000}, True
    process = home.start("model", "pull", NAME)
    wait_for(hub.stalled.is_set, process)
    # What the hub has sent is on its way: it has arrived once it is in the file.
    blobs = home.env["HF_HOME"]
    wait_for(lambda: _arrived(blobs) == 900_000, process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130
    assert not installed(home)
    hub.cut = {}
    assert home.run("model", "pull", NAME).code == 0
    assert hub.asked("GET", GRAPH) == [None, "bytes=900000-"]


def _arrived(folder):
    return max((path.stat().st_size for path in Path(folder).rglob("*.memcli")), default=0)


def test_content_that_is_not_what_its_checksum_says_is_code_8_and_is_fetched_anew(home, hub):
    for file in ("config.json", GRAPH):
        hub.lies = {file: hub.repos[NAME][file][:-1] + b" "}
        wrong = home.run("model", "pull", NAME)
        assert wrong.code == 8
        assert f"{file}: the content does not have the checksum" in wrong.err
        assert not installed(home)
    hub.lies = {}
    assert home.run("model", "pull", NAME).code == 0
    assert hub.asked("GET", GRAPH)[-1] is None


def test_what_the_hub_does_not_have_or_give_is_said(home, hub):
    hub.repos["acme/torch"] = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    hub.repos["acme/unsafe"] = hub.repos[NAME] | {"tokenizer.json": b"{}"}
    hub.refused = {"acme/gated": 403, "acme/broken": 500, "acme/page": 200}
    for name, code, said in (
        ("acme/none", 2, "there is no model acme/none"),
        ("acme/gated", 2, "only for users with access"),
        ("acme/torch", 2, "there is no ONNX file at all"),
        ("acme/broken", 7, "cannot be fetched"),
        ("acme/page", 7, "does not answer as a hub does"),
        ("../../etc", 2, "no name of a model"),
        ("acme/unsafe", 8, "not a tokenizer"),
    ):
        done = home.run("model", "pull", name)
        assert (done.code, said in done.err) == (code, True), done.err
        assert not done.out
    gone = home.run("model", "pull", NAME, env={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert gone.code == 7
    assert "cannot be fetched from http://127.0.0.1:9" in gone.err
    assert not installed(home)


def test_a_named_file_is_taken_and_a_model2vec_model_too(home, hub):
    hub.repos[NAME]["onnx/model_O3.onnx"] = hub.repos[NAME][GRAPH]
    done = home.run("model", "pull", NAME, "--file", "onnx/model_O3.onnx", "--json")
    assert done.json["name"] == f"{NAME}:model_O3"
    assert not hub.asked("GET", GRAPH)
    hub.repos["acme/potion"] = {
        GRAPH: bag_model().SerializeToString(),
        "tokenizer.json": tokenizer(specials=False).to_str().encode(),
        "config.json": json.dumps({"model_type": "model2vec", "hidden_dim": 16, "normalize": True}).encode(),
    }
    assert home.run("model", "pull", "acme/potion", "--json").json["dim"] == 16


def test_weights_beside_the_graph_are_fetched_with_it(home, hub, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save_model(transformer(), path, save_as_external_data=True, location="model.onnx_data", size_threshold=64)
    for each in (path, tmp_path / "model.onnx_data"):
        hub.repos[NAME][f"onnx/{each.name}"] = each.read_bytes()
    done = home.run("model", "pull", NAME, "--json")
    assert done.code == 0, done.err
    assert (home.data / "models" / done.json["model_id"] / "model.onnx_data").is_file()
    del hub.repos[NAME]["onnx/model.onnx_data"]
    shutil.rmtree(home.data)
    missing = home.run("model", "pull", NAME)
    assert missing.code == 8
    assert "model.onnx_data" in missing.err
    assert not installed(home)


def test_no_word_of_it_to_anyone_but_the_endpoint(home, hub):
    """Telemetry would ask the endpoint for /api/telemetry."""
    assert home.run("model", "pull", NAME).code == 0
    assert all(path.startswith(("/api/models/", f"/{NAME}/", f"/cdn/{NAME}/")) for _, path, _ in hub.requests)
