"""Classifiers: training, files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nearfar.data import Subset
from nearfar.defense import (
    load_classifier,
    predict_classes,
    save_classifier,
    train_classifier,
)
from nearfar.errors import NearfarError

SHAPE = (1, 8, 8)


def test_classifier_learns_and_loads(classifier, clean, tmp_path):
    pixels, labels = clean
    assert float((predict_classes(classifier, pixels) == labels).double().mean()) > 0.9
    save_classifier(tmp_path / "it.safetensors", classifier)
    again = load_classifier(tmp_path / "it.safetensors")
    assert torch.equal(again(pixels), classifier(pixels))


def test_train_classifier_depends_only_on_seed(learned):
    some = Subset(learned, np.arange(60))
    torch.manual_seed(5)
    one = train_classifier("substitute", some, epochs=1, seed=3, device="cpu")
    torch.manual_seed(6)
    two = train_classifier("substitute", some, epochs=1, seed=3, device="cpu")
    other = train_classifier("substitute", some, epochs=1, seed=4, device="cpu")
    weights = [model.layers[0].weight for model in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", None])
def test_load_classifier_raises_for_other_files(tmp_path, content):
    path = tmp_path / "it.safetensors"
    if content is None:
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(NearfarError, match=r"it\.safetensors"):
        load_classifier(path)


def test_load_classifier_allocates_nothing_for_claimed_sizes(classifier, tmp_path):
    save_classifier(tmp_path / "a.safetensors", classifier)
    about = {
        "architecture": "target",
        "shape": "[1, 100000, 100000]",
        "classes": "10",
    }
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        about["kind"] = file.metadata()["kind"]
    save_file(classifier.state_dict(), tmp_path / "b.safetensors", metadata=about)
    with pytest.raises(NearfarError, match="is damaged"):
        load_classifier(tmp_path / "b.safetensors")
