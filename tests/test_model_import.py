"""Folders of others: what is read from them, and that nothing unsound is installed, not even half."""

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support_models import (
    DIM,
    LENGTH,
    MINILM,
    bag_model,
    installed,
    layout,
    minilm,
    model,
    numbers,
    static_model,
    tokenizer,
    transformer,
)

from memcli.embed.install import folder_files, install
from memcli.embed.layout import known_model
from memcli.embed.models import compute_model_id, load_card, write_calibration
from memcli.embed.onnx import OnnxEmbedder
from memcli.errors import DamagedError, UsageError


@pytest.fixture
def store(tmp_path):
    return tmp_path / "data" / "models"


def take(folder, store, wanted=None, **options):
    return install(folder.name, folder_files(folder), wanted, store, {"source": "here"}, **options)


def recipe(folder, store):
    return take(folder, store).files.recipe


def test_a_folder_of_sentence_transformers_becomes_a_working_model(tmp_path, store):
    done = take(layout(tmp_path / "small", transformer()), store)
    assert done.is_new
    assert not done.warnings
    assert done.files.folder == store / done.files.model_id
    assert (done.files.name, done.files.dim, done.files.max_tokens) == ("small", DIM, LENGTH)
    assert compute_model_id(done.files.folder) == done.files.model_id
    assert load_card(done.files.folder) == done.files
    modes = {path.name: path.stat().st_mode & 0o777 for path in done.files.folder.iterdir()}
    assert modes == {"model.onnx": 0o600, "tokenizer.json": 0o600, "card.json": 0o600}
    assert OnnxEmbedder(done.files).embed(["the soup"]).any()


def test_importing_twice_changes_nothing(tmp_path, store):
    folder = layout(tmp_path / "small", transformer())
    first, again = take(folder, store), take(folder, store)
    assert (first.is_new, again.is_new) == (True, False)
    assert first.files == again.files
    assert [path.name for path in store.iterdir()] == [first.files.model_id]


def test_importing_again_mends_a_damaged_model_and_keeps_its_calibration(tmp_path, store):
    folder = layout(tmp_path / "small", transformer())
    files = take(folder, store).files
    write_calibration(files.folder, {"threshold": 0.8, "model_id": files.model_id})
    graph = files.folder / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:100])
    assert take(folder, store, dry_run=True).is_new
    assert graph.stat().st_size == 100
    assert take(folder, store).is_new
    assert graph.read_bytes() == whole
    graph.unlink()
    assert take(folder, store).is_new
    assert OnnxEmbedder(files).embed(["the soup"]).any()
    assert load_card(files.folder).near_threshold == 0.8
    assert not take(folder, store).is_new
    assert [path.name for path in store.iterdir()] == [files.model_id]


def test_a_dry_run_checks_everything_and_leaves_nothing(tmp_path, store):
    assert take(layout(tmp_path / "small", transformer()), store, dry_run=True).is_new
    assert not store.exists()


@pytest.mark.parametrize(
    ("key", "pooling"), [("mean_tokens", "mean"), ("cls_token", "cls"), ("max_tokens", "max"), ("lasttoken", "last")]
)
def test_the_pooling_is_read(tmp_path, store, key, pooling):
    assert recipe(layout(tmp_path / "small", transformer(), pooling=key), store).pooling == pooling


def test_the_pooling_is_read_as_newer_releases_write_it(tmp_path, store):
    folder = layout(tmp_path / "small", transformer(), **{"1_Pooling/config": {"pooling_mode": "lasttoken"}})
    assert recipe(folder, store).pooling == "last"


def test_prompts_lower_case_and_padding_are_read(tmp_path, store):
    prompts = {"prompts": {"query": "q: ", "document": "d: ", "other": "x"}, "default_prompt_name": None}
    folder = layout(
        tmp_path / "small",
        transformer(),
        config_sentence_transformers=prompts,
        sentence_bert_config={"max_seq_length": 20, "do_lower_case": True},
        tokenizer_config={"pad_token": {"content": "[SEP]"}},
    )
    done = take(folder, store)
    assert (done.files.recipe.query_prompt, done.files.recipe.passage_prompt) == ("q: ", "d: ")
    assert done.files.recipe.lower_case
    assert done.files.recipe.pad_id == tokenizer().token_to_id("[SEP]")
    assert done.files.max_tokens == 20


def test_a_default_prompt_holds_for_what_has_none_of_its_own(tmp_path, store):
    prompts = {"prompts": {"query": "q: ", "sts": "s: "}, "default_prompt_name": "sts"}
    found = recipe(layout(tmp_path / "small", transformer(), config_sentence_transformers=prompts), store)
    assert (found.query_prompt, found.passage_prompt) == ("q: ", "s: ")


@pytest.mark.parametrize(
    ("bert", "tokens", "config", "length"),
    [
        ({"max_seq_length": 60}, {"model_max_length": 50}, {"max_position_embeddings": 100}, 60),
        ({"max_seq_length": 512}, {}, {"max_position_embeddings": 100}, 100),
        ({}, {"model_max_length": 50}, {"max_position_embeddings": 100}, 50),
        ({}, {"model_max_length": 10**30}, {"max_position_embeddings": 66, "model_type": "xlm-roberta"}, 64),
    ],
)
def test_the_longest_text_is_read_from_where_it_stands(tmp_path, store, bert, tokens, config, length):
    folder = layout(
        tmp_path / "small", transformer(), sentence_bert_config=bert, tokenizer_config=tokens, config=config
    )
    assert take(folder, store).files.max_tokens == length


def test_what_the_files_leave_out_is_known_of_well_known_models(tmp_path, store):
    bare = {"modules": [], "1_Pooling/config": None, "sentence_bert_config": None}
    e5 = recipe(layout(tmp_path / "multilingual-e5-small", transformer(), **bare), store)
    assert (e5.query_prompt, e5.passage_prompt, e5.pooling) == ("query: ", "passage: ", "mean")
    bge = recipe(layout(tmp_path / "bge-small-en-v1.5", transformer(), **bare), store)
    assert bge.query_prompt == "Represent this sentence for searching relevant passages: "
    assert (bge.passage_prompt, bge.pooling) == ("", "cls")


def test_known_models_are_found_under_any_owner_and_others_are_not():
    assert known_model("intfloat/e5-base-v2") == known_model("acme/E5-base-v2")
    assert known_model("acme/e5-base-v2-tuned-by-me") == {}


def test_the_models_own_prompts_have_precedence_over_known_ones(tmp_path, store):
    prompts = {"prompts": {"query": "ask: ", "passage": "say: "}}
    found = recipe(layout(tmp_path / "e5-small", transformer(), config_sentence_transformers=prompts), store)
    assert (found.query_prompt, found.passage_prompt) == ("ask: ", "say: ")


def test_a_plain_transformer_is_pooled_by_the_mean_and_says_so(tmp_path, store):
    done = take(layout(tmp_path / "plain", transformer(), modules=(), **{"1_Pooling/config": None}), store)
    assert done.files.recipe.pooling == "mean"
    assert "the mean is taken" in done.warnings[0]


def test_a_model_with_further_modules_is_taken_by_the_sentence_output_of_its_graph(tmp_path, store):
    dense = [("sentence_transformers.models.Dense", "2_Dense")]
    graph = static_model(dim=DIM)
    graph.graph.output[0].name = graph.graph.node[-1].output[0] = "sentence_embedding"
    found = take(layout(tmp_path / "dense", graph, modules=dense), store)
    assert found.files.recipe.pooling == "in-graph"
    assert OnnxEmbedder(found.files).embed(["the soup"]).any()


def test_a_model2vec_folder_becomes_a_working_model(tmp_path, store):
    folder = layout(
        tmp_path / "potion",
        bag_model(),
        modules=[],
        config={"model_type": "model2vec", "hidden_dim": 16, "normalize": True},
        sentence_bert_config=None,
        **{"1_Pooling/config": None},
    )
    (folder / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}])
    )
    done = take(folder, store)
    assert (done.files.dim, done.files.recipe.skipped_id, done.files.recipe.special_tokens) == (16, 1, False)
    assert done.files.recipe.is_static
    embedder = OnnxEmbedder(done.files)
    texts = ["the soup needs more salt", "日本", "budget " * 50]
    assert (embedder.embed(texts) == np.concatenate([embedder.embed([text]) for text in texts])).all()


def test_a_folder_of_memclis_own_kind_is_taken_as_it_is(tmp_path, store):
    files = installed(tmp_path / "own", static_model(), dim=16, pooling="in-graph", special_tokens=False)
    done = take(files.folder, store)
    assert done.files.model_id == files.model_id
    assert done.files.name == "small"


def test_weights_in_a_file_beside_the_graph_belong_to_the_model(tmp_path, store):
    folder = layout(tmp_path / "large", transformer())
    path = folder / "onnx" / "model.onnx"
    onnx.save_model(transformer(), path, save_as_external_data=True, location="model.onnx_data", size_threshold=64)
    done = take(folder, store)
    assert done.files.data_files == ("model.onnx_data",)
    assert (done.files.folder / "model.onnx_data").is_file()
    inside = take(layout(tmp_path / "small", transformer()), store)
    text = ["the soup needs more salt"]
    assert (OnnxEmbedder(done.files).embed(text) == OnnxEmbedder(inside.files).embed(text)).all()
    data = done.files.folder / "model.onnx_data"
    data.write_bytes(data.read_bytes()[:-4] + b"abcd")
    with pytest.raises(DamagedError, match="its content is model"):
        OnnxEmbedder(done.files)


def test_another_graph_is_taken_by_its_name_and_told_apart_by_it(tmp_path, store):
    folder = layout(tmp_path / "small", transformer())
    shutil.copyfile(folder / "onnx" / "model.onnx", folder / "onnx" / "model_O2.onnx")
    assert take(folder, store, "onnx/model_O2.onnx").files.name == "small:model_O2"


def test_a_dynamically_quantised_graph_must_be_asked_for_and_is_warned_of(tmp_path, store):
    minilm("model_qint8.onnx")
    folder = tmp_path / "quantised"
    shutil.copytree(MINILM, folder, ignore=shutil.ignore_patterns("model.onnx"))
    (folder / "onnx" / "model_qint8.onnx").rename(folder / "onnx" / "model.onnx")
    with pytest.raises(UsageError, match="quantised by the batch at hand") as caught:
        take(folder, store)
    assert "--file onnx/model.onnx" in caught.value.hint
    assert not list(store.iterdir())
    done = take(folder, store, "onnx/model.onnx")
    assert "cosine 0.9" in done.warnings[0]


# --- what is refused -------------------------------------------------------------------------------------------------


def external(location):
    def change(folder):
        graph = transformer()
        tensor = graph.graph.initializer[0]
        del tensor.external_data[:]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location.format(outside=folder.parent / "secret")
        (folder.parent / "secret").write_bytes(bytes(1 << 20))
        (folder / "onnx" / "model.onnx").write_bytes(graph.SerializeToString())

    return change


def in_a_branch(folder):
    """External data in a graph inside of a node."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [4])],
        [tensor],
    )
    graph = transformer()
    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    graph.graph.node.extend([yes, helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch)])
    (folder / "onnx" / "model.onnx").write_bytes(graph.SerializeToString())


def custom(folder):
    graph = transformer()
    graph.graph.node.append(helper.make_node("Steal", ["input_ids"], ["loot"], domain="com.evil"))
    graph.opset_import.append(helper.make_opsetid("com.evil", 1))
    (folder / "onnx" / "model.onnx").write_bytes(graph.SerializeToString())


def truncated(folder):
    path = folder / "onnx" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1000])


def written(name, content):
    def change(folder):
        (folder / name).write_bytes(content)

    return change


def linked(name):
    def change(folder):
        outside = folder.parent / "outside"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return change


def without(name):
    def change(folder):
        (folder / name).unlink()

    return change


def graph_of(make):
    def change(folder):
        (folder / "onnx" / "model.onnx").write_bytes(make().SerializeToString())

    return change


def renamed(old, new):
    def change(folder):
        path = folder / "onnx" / "model.onnx"
        path.write_bytes(path.read_bytes().replace(old, new))

    return change


def too_few_rows():
    return transformer(rows=tokenizer().get_vocab_size() - 1)


def one_wide():
    weights = {"w": numbers(5, DIM)}
    return model(
        [helper.make_node("Identity", ["w"], ["last_hidden_state"])], (), {"last_hidden_state": [DIM]}, weights
    )


def not_finite():
    graph = transformer()
    (table,) = (each for each in graph.graph.initializer if each.name == "o")
    table.raw_data = np.full((DIM, DIM), np.nan, np.float32).tobytes()
    return graph


REFUSED = {
    "external data by an absolute path": (external("{outside}"), "does not lie beside it"),
    "external data above the folder": (external("../secret"), "does not lie beside it"),
    "external data in the folder's parent": (external("../tokenizer.json"), "does not lie beside it"),
    "external data that is missing": (external("gone.bin"), "does not lie beside it"),
    "external data in a nested graph": (in_a_branch, "does not lie beside it"),
    "custom operators": (custom, "com.evil.Steal"),
    "a graph that ends early": (truncated, "ends too early"),
    "an empty graph": (written("onnx/model.onnx", b""), "not an ONNX file"),
    "no graph at all": (written("onnx/model.onnx", b"\x80\x04pickled" * 50), "not an ONNX file"),
    "a page of the hub instead": (written("onnx/model.onnx", b"<!DOCTYPE html><html></html>"), "not an ONNX file"),
    "wrong inputs": (renamed(b"attention_mask", b"attention_musk"), "are needed"),
    "wrong outputs": (graph_of(lambda: transformer(output="logits")), "logits"),
    "no inputs": (graph_of(one_wide), "are needed"),
    "a tokenizer larger than the table": (graph_of(too_few_rows), "its tokens go up to"),
    "numbers that are none": (graph_of(not_finite), "not finite"),
    "no tokenizer": (without("tokenizer.json"), "has no tokenizer.json"),
    "a tokenizer that is none": (written("tokenizer.json", b"{}"), "not a tokenizer"),
    "a tokenizer that is not JSON": (written("tokenizer.json", b"\x80\x04"), "tokenizer"),
    "modules that are no list": (written("modules.json", b"{}"), "modules.json"),
    "modules without types": (written("modules.json", b"[{}]"), "without type"),
    "a deep file": (written("config.json", b"[" * 100_000), "config.json"),
    "an unsupported pooling": (
        written("1_Pooling/config.json", b'{"pooling_mode_weightedmean_tokens": true}'),
        "weightedmean",
    ),
    "two poolings": (
        written("1_Pooling/config.json", b'{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}'),
        "is not supported",
    ),
    "a module that only weights tell": (
        written("modules.json", b'[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]'),
        "the module Dense",
    ),
    "prompts that are no texts": (
        written("config_sentence_transformers.json", b'{"prompts": {"query": 5}}'),
        "prompts",
    ),
    "a linked graph": (linked("onnx/model.onnx"), "a link that leads out"),
    "a linked tokenizer": (linked("tokenizer.json"), "a link that leads out"),
    "a linked folder": (linked("onnx"), "a link that leads out"),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_unsound_is_refused_with_code_8_and_leaves_nothing(tmp_path, store, change, said):
    folder = layout(tmp_path / "small", transformer())
    change(folder)
    with pytest.raises(DamagedError) as caught:
        take(folder, store)
    assert said in caught.value.message
    assert caught.value.exit_code == 8
    assert caught.value.hint
    assert ".model-" not in caught.value.message
    assert not store.exists() or not list(store.iterdir())


def test_code_and_pickles_of_a_folder_are_never_opened(tmp_path, store):
    folder = layout(
        tmp_path / "small",
        transformer(),
        config={"auto_map": {"AutoModel": "evil.py"}, "max_position_embeddings": LENGTH},
    )
    for name in ("evil.py", "pytorch_model.bin", "model.safetensors"):
        (folder / name).write_bytes(b"not to be read")
        (folder / name).chmod(0)
    assert take(folder, store).is_new


def test_a_graph_that_is_not_there_is_a_matter_of_usage_that_lists_the_others(tmp_path, store):
    folder = layout(tmp_path / "small", transformer(), file="onnx/model_O4.onnx")
    with pytest.raises(UsageError, match=r"none of onnx/model\.onnx") as caught:
        take(folder, store)
    assert "onnx/model_O4.onnx" in caught.value.hint
    with pytest.raises(UsageError, match=r"has no file x\.onnx"):
        take(folder, store, "x.onnx")
    with pytest.raises(UsageError, match="is no folder"):
        folder_files(tmp_path / "none")


def test_an_installed_model_that_was_tampered_with_is_not_loaded(tmp_path, store):
    files = take(layout(tmp_path / "small", transformer()), store).files
    path = files.folder / "model.onnx"
    external("../secret")(layout(tmp_path / "again", transformer()))
    path.write_bytes((tmp_path / "again" / "onnx" / "model.onnx").read_bytes())
    with pytest.raises(DamagedError, match="its content is model"):
        OnnxEmbedder(files)


def test_what_a_killed_import_left_is_swept_away_later(tmp_path, store):
    import os

    store.mkdir(parents=True)
    left, young = store / ".model-left", store / ".model-young"
    for path in (left, young):
        path.mkdir()
        (path / "model.onnx").write_bytes(b"half")
    os.utime(left, (0, 0))
    take(layout(tmp_path / "small", transformer()), store)
    assert not left.exists()
    assert young.exists()
