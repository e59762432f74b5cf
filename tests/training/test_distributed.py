"""Several processes learn what one does."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import nearfar.__main__
from nearfar import runs
from trainings import TORCHRUN, assert_same_weights, weights


@pytest.mark.parametrize("bank", ["memory", "disk"])
def test_two_processes_learn_what_one_does(tmp_path, digits, bank):
    data = tmp_path / "digits.npy"
    np.save(data, digits[:301])
    options = f"--pretrain-epochs 2 --epochs 3 --batch-size 4 --bank {bank} --device cpu".split()
    options += ["--accumulate", "3"] if bank == "disk" else []
    train_it = ["-m", "nearfar", "train", str(data), *options, "--out"]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([sys.executable, *train_it, one], check=True, capture_output=True)
    subprocess.run([*TORCHRUN, *train_it, two], check=True, capture_output=True)
    for alone, together in zip(runs.read_log(one), runs.read_log(two), strict=True):
        for term in ("loss", "own", "near", "far", "pixel"):
            if term in alone:
                assert together[term] == pytest.approx(alone[term], rel=1e-3), (term, alone)
    a, b = weights(one), weights(two)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-3)
    embeddings = (runs.read_run(run).embeddings for run in (one, two))
    np.testing.assert_allclose(*embeddings, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_two_processes_train_a_backbone_with_another_reference(tmp_path):
    from torchvision.models import resnet18

    pixels = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    torch.manual_seed(0)
    save_file(resnet18().state_dict(), tmp_path / "resnet18.safetensors")
    options = (
        "--backbone alexnet --widths 32 --embedding-size 16 --pretrain-epochs 1 --epochs 2 "
        "--batch-size 8 --accumulate 2 --bank disk --clusters 3 --device cpu "
        "--reference timm:resnet18"
    ).split()
    weights_of_another = ["--reference-weights", tmp_path / "resnet18.safetensors"]
    train_it = ["-m", "nearfar", "train", tmp_path / "images.npy", *options, *weights_of_another]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([sys.executable, *train_it, "--out", one], check=True, capture_output=True)
    subprocess.run([*TORCHRUN, *train_it, "--out", two], check=True, capture_output=True)
    for alone, together in zip(runs.read_log(one), runs.read_log(two), strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-3)
    alone, together = (np.asarray(runs.read_run(run).embeddings) for run in (one, two))
    # Adam makes a whole step of a gradient near zero, whichever sign rounding gives it.
    assert np.linalg.norm(together - alone) < 0.1 * np.linalg.norm(alone)


@pytest.mark.slow
def test_fabric_run_starts_processes_too(tmp_path, digits):
    pytest.importorskip("click")
    np.save(tmp_path / "digits.npy", digits[:301])
    fabric = [sys.executable, "-c", "from lightning_fabric.cli import _main; _main()", "run"]
    processes = ["--devices", "2", "--accelerator", "cpu", "--", nearfar.__main__.__file__]
    options = "--pretrain-epochs 1 --epochs 1 --precision bf16".split()
    train_it = ["train", tmp_path / "digits.npy", "--out", tmp_path / "run", *options]
    done = subprocess.run([*fabric, *processes, *train_it], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Starting with 2 processes" in done.stderr
    assert runs.is_finished(tmp_path / "run")


NORMALIZING = """
import sys
import numpy as np
import torch
from torch import nn
from safetensors.torch import save_file
from nearfar import recipe, train
from nearfar.data import ArrayImages, to_unit
from nearfar.models import Autoencoder
from nearfar.training.objectives.reference_bank import ReferenceBank

data, out = sys.argv[1:]
images = ArrayImages(np.load(data)[:, None])
pixels = to_unit(images.batch(range(len(images))))
banks = {}
make_bank = ReferenceBank._make_bank

def spy(self):
    bank = make_bank(self)
    banks[f"bank {len(banks)}"] = bank.clone()
    banks[f"bank {len(banks)}"] = self.reference(pixels).detach()
    return bank

ReferenceBank._make_bank = spy
encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.BatchNorm1d(9), nn.ReLU())
decoder = nn.Sequential(nn.Linear(9, 64), nn.Unflatten(1, (1, 8, 8)))
config = recipe(
    "paper", network=Autoencoder(encoder, decoder), pretrain_epochs=2, epochs=2,
    refresh_reference_every=1, batch_size=16, clusters=3, device="cpu",
)
run = train(images, config)
kept = run.network.state_dict() | run.initial.state_dict(prefix="initial.")
with torch.no_grad():
    kept["embeddings again"] = run.network.encoder(pixels)
tensors = kept | banks | {"embeddings": torch.from_numpy(run.embeddings)}
save_file(tensors, f"{out}-{torch.distributed.get_rank()}")
"""


def test_batch_normalization_in_two_processes(tmp_path, digits):
    """Each sees other images: network, banks and embeddings are nevertheless of one network."""
    np.save(tmp_path / "digits.npy", digits[:101])
    (tmp_path / "script.py").write_text(NORMALIZING)
    arguments = [tmp_path / "script.py", tmp_path / "digits.npy", tmp_path / "rank"]
    subprocess.run([*TORCHRUN, *arguments], check=True, capture_output=True)
    first, second = (load_file(tmp_path / f"rank-{rank}") for rank in (0, 1))
    assert_same_weights(first, second)
    assert first["encoder.2.running_mean"].abs().max() > 0
    torch.testing.assert_close(first["embeddings"], first["embeddings again"])
    for made in (0, 2):
        torch.testing.assert_close(first[f"bank {made}"], first[f"bank {made + 1}"])


CONTRASTING = """
import sys
from pathlib import Path
import numpy as np
from torch import nn
from nearfar import configure, recipe, train
from nearfar.data import ArrayImages
from nearfar.training.objectives import contrastive

data, out = map(Path, sys.argv[1:])
contrastive.PROJECTION_SIZE = 6
contrastive.projection_head = lambda size: nn.Linear(size, 6)  # without batch normalization
config = recipe(
    "paper", objective="contrastive", augmentation="none", identity_prob=0, neighbor_prob=0,
    neighbors=2, refresh_neighbors_every=1, clusters=5, far_share=0.6, pixel_weight=1,
    pretrain_epochs=0, epochs=3, batch_size=9, lr=1e-3, device="cpu",
)
images = ArrayImages(np.load(data)[:, None])
train(images, config, folder=out)
train(images, configure({"accumulate": 3, "epochs": 1}, base=config))
"""


def test_two_processes_contrast_the_embeddings_of_the_whole_batch(tmp_path, digits):
    """Batches of nine are shared unevenly, and five and four images are seen in three parts."""
    np.save(tmp_path / "digits.npy", digits[:90])
    (tmp_path / "script.py").write_text(CONTRASTING)
    arguments = [tmp_path / "script.py", tmp_path / "digits.npy"]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([sys.executable, *arguments, one], check=True, capture_output=True)
    subprocess.run([*TORCHRUN, *arguments, two], check=True, capture_output=True, timeout=60)
    for alone, together in zip(runs.read_log(one), runs.read_log(two), strict=True):
        for term in ("loss", "contrastive", "pixel"):
            assert together[term] == pytest.approx(alone[term], rel=1e-4), (term, alone)
    a, b = weights(one), weights(two)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)
