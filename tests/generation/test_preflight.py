"""What is missing is said in words before anything is painted."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures
from safetensors.numpy import save_file

from generation import services, weights
from generation.manifest import read_manifest
from generation.spec import Recipe, folder_revision
from tests.generation.studio import recipe

COMMIT = "c" * 40


@pytest.fixture
def checkpoint(tmp_path: Path, settings) -> Path:
    """A folder in SDXL's format, as far as it can be judged without torch."""
    folder = tmp_path / "checkpoints" / "random-sdxl"
    for part in ("unet", "vae", "text_encoder_2"):
        (folder / part).mkdir(parents=True)
        write_weights(folder / part / "model.safetensors", part)
    write_index(folder)
    settings.CHECKPOINT_DIRS = [tmp_path / "nowhere", tmp_path / "checkpoints"]
    return folder


def write_weights(file: Path, content: str) -> None:
    save_file({"weight": np.frombuffer(content.encode(), np.uint8)}, file)


def write_index(folder: Path, kind: str = "StableDiffusionXLPipeline") -> None:
    parts = {part: ["library", "Class"] for part in ("unet", "vae", "text_encoder_2")}
    index = {"_class_name": kind, "text_encoder": [None, None], **parts}
    (folder / "model_index.json").write_text(json.dumps(index))


def found(folder: Path, /, **changes: object) -> list[str]:
    changes = {"revision": folder_revision(folder)} | changes
    return services.preflight(recipe(**changes))


def test_nothing_is_missing_from_a_whole_checkpoint(checkpoint):
    assert found(checkpoint) == []
    assert found(checkpoint, checkpoint=str(checkpoint)) == []


def test_a_folder_that_is_not_there_is_named_with_where_it_was_looked_for(checkpoint):
    (problem,) = found(checkpoint, checkpoint="absent")
    assert problem.startswith("checkpoint absent: no such folder; looked in ")
    assert str(checkpoint.parent) in problem
    assert "nowhere" in problem
    folders = [checkpoint.parent, checkpoint.parent]
    (twice,) = weights.problems(recipe(checkpoint="absent"), folders)
    assert twice == f"checkpoint absent: no such folder; looked in {checkpoint.parent}"
    (absolute,) = found(checkpoint, checkpoint="/nowhere/absent")
    assert absolute == "checkpoint /nowhere/absent: no such folder"


def test_other_content_than_the_recipe_names_is_a_problem(checkpoint):
    expected = folder_revision(checkpoint)
    write_weights(checkpoint / "vae" / "model.safetensors", "another vae")
    (problem,) = found(checkpoint, revision=expected)
    assert "the files were changed, or these are others" in problem


def test_pickled_weights_do_not_count(checkpoint):
    (checkpoint / "unet" / "model.safetensors").rename(checkpoint / "unet" / "model.bin")
    (problem,) = found(checkpoint)
    assert "found none (pickled weights are not loaded)" in problem
    assert str(checkpoint / "unet") in problem


def test_a_variant_that_needs_naming_is_named(checkpoint):
    for part in ("unet", "vae", "text_encoder_2"):
        weights = checkpoint / part / "model.safetensors"
        weights.rename(weights.with_name("model.fp16.safetensors"))
    assert len(found(checkpoint)) == 3
    assert "found model.fp16.safetensors; set variant" in found(checkpoint)[0]
    assert found(checkpoint, variant="fp16") == []


def test_a_file_that_is_cut_short_is_named_even_where_its_hash_was_pinned(checkpoint):
    file = checkpoint / "unet" / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert found(checkpoint) == [
        f"checkpoint: {file}: expected {len(whole):,} bytes, found {len(whole) - 1:,}"
    ]


@pytest.mark.parametrize("header", [b'{"__metadata__": 5}', b"[" * 99_999, b"[]", b"{}x"])
def test_a_header_that_is_none_is_named(checkpoint, header):
    file = checkpoint / "unet" / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    assert found(checkpoint) == [
        f"checkpoint: {file} is no safetensors file: its header cannot be read"
    ]


@pytest.mark.parametrize("end", ['"x"', "null", "[4]", '{"a": 1}', "1e999", "Infinity", "NaN"])
def test_a_header_that_means_nothing_is_named(checkpoint, end):
    file = checkpoint / "unet" / "model.safetensors"
    header = b'{"weight": {"data_offsets": [0, %s]}}' % end.encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    assert found(checkpoint) == [
        f"checkpoint: {file} is no safetensors file: its header cannot be read"
    ]


def split(folder: Path, index: str, shard: str) -> list[Path]:
    """A model in two files of two tensors each, and the index that says what is where."""
    for file in folder.glob("*.safetensors"):
        file.unlink()
    files = [folder / shard.format(n) for n in (1, 2)]
    held = {
        file: {f"{file.stem}.{part}": np.zeros(3, "float32") for part in "ab"} for file in files
    }
    for file, tensors in held.items():
        save_file(tensors, file)
    of = {name: file.name for file, tensors in held.items() for name in tensors}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": of}))
    return files


NAMES = {  # variant -> index, shards: as diffusers and transformers name them, and as they did
    "plain": ("", "m.safetensors.index.json", "m-{:05}-of-00002.safetensors"),
    "fp16": ("fp16", "m.safetensors.index.fp16.json", "m.fp16-{:05}-of-00002.safetensors"),
    "old": ("fp16", "m.safetensors.fp16.index.json", "m-{:05}-of-00002.fp16.safetensors"),
}


@pytest.mark.parametrize("names", NAMES)
def test_of_a_model_in_several_files_each_is_looked_for(checkpoint, names):
    variant, index, shard = NAMES[names]
    for part in ("vae", "text_encoder_2") if variant else ():
        file = checkpoint / part / "model.safetensors"
        file.rename(file.with_name(f"model.{variant}.safetensors"))
    first, second = split(checkpoint / "unet", index, shard)
    assert found(checkpoint, variant=variant) == []
    second.unlink()
    assert found(checkpoint, variant=variant) == [
        f"checkpoint: {second} is not there; {index} names it"
    ]
    (checkpoint / "unet" / index).unlink()
    (problem,) = found(checkpoint, variant=variant)
    wanted = f"*.safetensors.index.{variant}.json" if variant else "*.safetensors.index.json"
    assert problem.startswith(f"checkpoint: expected {wanted} in {first.parent}")


def test_a_shard_that_is_cut_short_or_lacks_a_tensor_is_named(checkpoint):
    first, second = split(checkpoint / "unet", *NAMES["plain"][1:])
    whole = first.read_bytes()
    first.write_bytes(whole[:-4])
    save_file({f"{second.stem}.a": np.zeros(3, "float32")}, second)
    assert found(checkpoint) == [
        f"checkpoint: {first}: expected {len(whole):,} bytes, found {len(whole) - 4:,}",
        f"checkpoint: {second}: no tensor {second.stem}.b; "
        "m.safetensors.index.json says it is there",
    ]
    first.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert f"checkpoint: {first} is no safetensors file" in found(checkpoint)[0]
    (first.parent / "m.safetensors.index.json").write_text("[]")
    assert 'cannot be read; expected "weight_map"' in found(checkpoint)[0]


@pytest.mark.parametrize("name", ["m\0.safetensors", "m\ud800.safetensors"])
def test_a_shard_whose_name_is_none_is_named(checkpoint, name):
    split(checkpoint / "unet", *NAMES["plain"][1:])
    index = checkpoint / "unet" / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": name}}))
    assert found(checkpoint) == [f"checkpoint: {index} names {name!r}, which is no file's name"]


def test_another_kind_of_pipeline_is_refused(checkpoint):
    write_index(checkpoint, "FluxPipeline")
    (problem,) = found(checkpoint)
    assert "holds a FluxPipeline, the family sdxl paints with" in problem


def test_a_folder_without_an_index_is_refused(checkpoint):
    (checkpoint / "model_index.json").unlink()
    (problem,) = found(checkpoint)
    assert "expected a folder in diffusers' own format" in problem


@pytest.mark.parametrize(
    "index", ["[]", "{", "{}", '{"_class_name": ["mine", "Mine"]}', "[" * 9999]
)
def test_an_index_that_names_no_pipeline_is_refused(checkpoint, index):
    (checkpoint / "model_index.json").write_text(index)
    for family in ("sdxl", "diffusers"):
        (problem,) = found(checkpoint, family=family)
        assert "cannot be read, or names no pipeline" in problem


def test_code_in_a_checkpoint_is_named_since_it_is_not_run(checkpoint):
    index = json.loads((checkpoint / "model_index.json").read_text())
    index |= {"unet": ["mine", "Net"], "tile": [1, 2, 3]}
    (checkpoint / "model_index.json").write_text(json.dumps(index))
    (checkpoint / "unet" / "mine.py").write_text("class Net: ...")
    assert found(checkpoint) == [
        f"checkpoint: {checkpoint}/unet/mine.py: code of a checkpoint's own is not run"
    ]


@pytest.mark.parametrize(
    ("part", "library"),
    [("unet", "a" * 300), ("a" * 300, "diffusers"), ("scheduler" + "a" * 300, "diffusers")],
)
def test_a_name_too_long_for_any_file_is_told(checkpoint, part, library):
    index = json.loads((checkpoint / "model_index.json").read_text())
    (checkpoint / "model_index.json").write_text(json.dumps(index | {part: [library, "Net"]}))
    (problem,) = found(checkpoint)
    assert problem.startswith("checkpoint random-sdxl: cannot be looked into: [Errno 36] File name")


def test_parts_without_weights_are_looked_for_as_well(checkpoint):
    index = json.loads((checkpoint / "model_index.json").read_text())
    index |= {"scheduler": ["diffusers", "Euler"], "tokenizer_2": ["transformers", "T5Tokenizer"]}
    index |= {"tokenizer": [None, None], "safety_checker": ["library", "Checker"]}  # not loaded
    (checkpoint / "model_index.json").write_text(json.dumps(index))
    scheduler, tokenizer = (checkpoint / part for part in ("scheduler", "tokenizer_2"))
    expected = [
        f"checkpoint: expected a Euler's settings (*.json) in {scheduler}, found none",
        f"checkpoint: expected a T5Tokenizer's settings (*.json) in {tokenizer}, found none",
    ]
    assert found(checkpoint) == expected
    for folder, name in ((scheduler, "scheduler_config.json"), (tokenizer, "settings.json")):
        folder.mkdir()
        (folder / name).write_text("{}")
    assert found(checkpoint) == [
        "checkpoint: expected a T5Tokenizer's words (tokenizer.json or vocab.json or vocab.txt or "
        f"*.model) in {tokenizer}, found none"
    ]
    (tokenizer / "spiece.model").write_text("words")
    assert found(checkpoint) == []


def test_a_replaced_unet_is_looked_for_and_the_own_one_is_not(checkpoint, tmp_path):
    shutil.rmtree(checkpoint / "unet")
    other = tmp_path / "checkpoints" / "lcm"
    other.mkdir()
    write_weights(other / "model.safetensors", "unet")
    assert found(checkpoint, unet="lcm", unet_revision=folder_revision(other)) == []
    (problem,) = found(checkpoint, unet="gone", unet_revision=folder_revision(other))
    assert problem.startswith("unet gone: no such folder")


def test_hub_weights_that_are_not_here_come_with_the_line_that_fetches_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (problem,) = services.preflight(
        recipe(checkpoint="stabilityai/sdxl-turbo", revision=COMMIT, variant="fp16")
    )
    assert f"stabilityai/sdxl-turbo at {COMMIT} is not in this machine's hub cache" in problem
    assert f"hf download stabilityai/sdxl-turbo --revision {COMMIT}" in problem
    assert "--include '*.model' --include '*/*.fp16*.safetensors'" in problem


def test_the_line_that_fetches_a_lora_names_its_file_whatever_the_checkpoint_s_variant(
    checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (_, problem) = found(checkpoint, variant="fp16", lora="org/lora", lora_revision=COMMIT)[-2:]
    assert problem.startswith(f"lora org/lora at {COMMIT} is not in this machine's hub cache")
    assert problem.endswith("--include '*.model' --include 'pytorch_lora_weights.safetensors'")


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_hub_weights_are_looked_for_where_the_hub_s_own_tools_keep_them(
    checkpoint, tmp_path, monkeypatch, variable
):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    below = {"HF_HUB_CACHE": "", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}[variable]
    monkeypatch.setenv(variable, str(tmp_path / "cache"))
    place = tmp_path / "cache" / below / "models--org--name" / "snapshots" / COMMIT
    shutil.copytree(checkpoint, place)
    assert services.preflight(recipe(checkpoint="org/name", revision=COMMIT)) == []
    (place / "unet" / "model.safetensors").unlink()
    assert len(services.preflight(recipe(checkpoint="org/name", revision=COMMIT))) == 1


def test_an_imported_system_needs_its_folder_its_manifest_and_its_files(tmp_path, settings):
    settings.CHECKPOINT_DIRS = [tmp_path]
    theirs = tmp_path / "theirs"

    def missing(revision: str = "sha256:" + "0" * 64) -> list[str]:
        return services.preflight(Recipe(family="imported", checkpoint="theirs", revision=revision))

    assert "no such folder" in missing()[0]
    theirs.mkdir()
    assert "neither is there" in missing()[0]
    line = {"file_name": "a.png", "prompt": "a cat", "system": "one", "sample": 0}
    (theirs / "metadata.jsonl").write_text(json.dumps(line))
    assert "a.png is not there" in missing()[0]
    Pictures.new("RGB", (8, 8)).save(theirs / "a.png")
    assert "one is sha256:" in missing()[0]
    assert missing(read_manifest(theirs).revision("one")) == []
