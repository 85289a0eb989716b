"""transformers networks load whole, with their own preprocessing, or not at all."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image

from services.embedding.transformers_backbone import load_backbone
from shared.errors import ErrorKind, PermanentError


@pytest.fixture
def folder(vit_folder, tmp_path):
    """A copy of the small ViT's folder, to be changed."""
    return shutil.copytree(vit_folder, tmp_path / "vit")


def class_token_embedder(folder):
    backbone = load_backbone("net", folder, "ViTModel", unused=("pooler.",))
    return backbone.embedder(lambda pixel_values: backbone.network(pixel_values).last_hidden_state[:, 0],
                             pooling="class token", device="cpu")  # fmt: skip


def change_weights(folder, change):
    state = safetensors.torch.load_file(folder / "model.safetensors")
    change(state)
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})


def refusal(folder, **options) -> str:
    with pytest.raises(PermanentError) as caught:
        load_backbone("net", folder, "ViTModel", **options)
    assert caught.value.kind is ErrorKind.WEIGHTS_MISSING
    return caught.value.message


def test_the_vector_is_that_of_the_library_called_by_hand(vit_folder, picture):
    network = transformers.ViTModel.from_pretrained(vit_folder, add_pooling_layer=False).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(vit_folder)
    pixels = processor(images=Image.fromarray(picture), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = network(pixels).last_hidden_state[:, 0].numpy()
    assert np.abs(class_token_embedder(vit_folder).embed_batch([picture]) - expected).max() <= 1e-4


def test_a_weight_made_up_by_the_library_is_refused_unless_it_is_unused(vit_folder):
    load_backbone("net", vit_folder, "ViTModel", unused=("pooler.",))
    assert "pooler.dense.bias" in refusal(vit_folder)


def test_an_absent_weight_in_the_middle_is_refused(folder):
    change_weights(folder, lambda state: state.pop("layernorm.weight"))
    assert "layernorm.weight" in refusal(folder, unused=("pooler.",))


def test_a_weight_of_another_shape_is_refused(folder):
    change_weights(folder, lambda state: state.update({"layernorm.weight": torch.ones(31)}))
    refusal(folder, unused=("pooler.",))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_an_absent_or_damaged_file_is_refused(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    assert str(folder) in refusal(folder, unused=("pooler.",))
    (folder / name).unlink()
    assert str(folder) in refusal(folder, unused=("pooler.",))


def test_code_that_comes_with_the_weights_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoModel": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('was run')")
    with pytest.raises(PermanentError, match="cannot be used"):
        load_backbone("net", folder, "AutoModel")


def test_the_fingerprint_is_of_weights_pooling_and_preprocessing_not_of_the_unused_or_of_software(folder):
    original = class_token_embedder(folder).fingerprint
    assert class_token_embedder(folder).fingerprint == original  # the made-up pooler is another one each time

    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "transformers_version": "99"}))
    assert class_token_embedder(folder).fingerprint == original
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "resample": 0}))
    resampled = class_token_embedder(folder).fingerprint
    change_weights(folder, lambda state: state["layernorm.bias"].add_(0.1))
    assert len({original, resampled, class_token_embedder(folder).fingerprint}) == 3


def test_the_libraries_reports_and_progress_bars_are_not_shown_and_its_settings_left_as_they_were(vit_folder, capfd):
    verbosity = transformers.utils.logging.get_verbosity()
    load_backbone("net", vit_folder, "ViTModel", unused=("pooler.",))
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.get_verbosity() == verbosity
    assert transformers.utils.logging.is_progress_bar_enabled()
