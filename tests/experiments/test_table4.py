"""Table 4 on two real clips of each kind, and what is said where the data are missing."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from nearfar.anomaly import ArrayClip, Grid, open_clips
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.experiments import caltech101, run
from nearfar.experiments.configs import AUTOENCODER
from nearfar.experiments.detectors import ABLATION_ROWS, ROWS, SPARSE
from nearfar.experiments.ped2 import FOLDER
from nearfar.experiments.principal import principal_autoencoder
from nearfar.experiments.rows import train_for
from nearfar.experiments.table4 import FOLDS, TABLE4, TABLE4_ABLATION, staged_split
from nearfar.experiments.two_autoencoders import Agreement
from nearfar.report.figures import clip_scores, roc_curves
from nearfar.training import train


@pytest.mark.slow
def test_table4(data_root, tmp_path):
    if not (data_root / FOLDER).is_dir():
        pytest.skip(f"no {data_root / FOLDER}")
    rows = (
        "two-autoencoders",
        "NRE-0.6-0.4-0-no-overlap",
        "NRE-0.6-0.4-0-bank",
        "NRE-0.6-0.4-0-2-frames-no-overlap",
        "tempo",
        "appearance",
        "tempo-appearance",
    )
    choices = {"data_root": data_root, "seeds": 1, "rows": rows, "quick": True}
    text = run(TABLE4, tmp_path / "out", **choices)
    for row in rows:
        assert f"| {row} |" in text
    written = json.loads((tmp_path / "out" / "table4.json").read_text())
    test = open_clips(data_root / FOLDER / "Test")[:2]
    for cell in written["cells"]:
        result = cell["result"]
        assert result["frames"] == sum(clip.total for clip in test) == 360
        assert all(np.isfinite(c["scores"]).all() for c in result["clips"].values())
        assert 0 <= result["eer"] <= 1
    assert (tmp_path / "out" / "table4.png").is_file()
    assert (tmp_path / "out" / "clips-tempo-appearance.png").is_file()
    assert run(TABLE4, tmp_path / "out", **choices) == text


@pytest.mark.slow
def test_ablation_of_tempo(data_root, tmp_path):
    if not (data_root / FOLDER).is_dir():
        pytest.skip(f"no {data_root / FOLDER}")
    rows = ("tempo", "place-unknown", "scores-by-row", "no-smoothing", "no-fast")
    run(TABLE4_ABLATION, tmp_path / "out", rows=rows, data_root=data_root, seeds=1, quick=True)
    written = json.loads((tmp_path / "out" / "table4-ablation.json").read_text())
    found = {cell["cell"]: cell["result"]["auc"] for cell in written["cells"]}
    assert set(found) == {f"{row}-seed-0" for row in rows}
    assert len(set(found.values())) == len(rows)


@pytest.mark.slow
def test_validation_reads_no_test_clips(data_root, tmp_path):
    for part in (FOLDER / "Train", caltech101.FOLDER):
        if not (data_root / part).is_dir():
            pytest.skip(f"no {data_root / part}")
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).symlink_to(data_root / part)
    choices = {"data_root": tmp_path, "seeds": 1, "quick": True}
    rows = ["autoencoder", "NRE-0.6-0.4-0"]
    text = run(TABLE4.validated(), tmp_path / "out", rows=rows, **choices)
    assert "(14.0)" not in text
    assert "published" not in text
    written = json.loads((tmp_path / "out" / "table4-validation.json").read_text())
    for cell in written["cells"]:
        result = cell["result"]
        # Held out is the last quarter of each of two clips; something comes in before its middle.
        assert (result["frames"], result["abnormal"]) == (30 + 37, 16 + 19)
        assert set(result["clips"]) == {"Train001-1", "Train002-1"}


def test_each_fold_holds_out_other_clips():
    normal = [ArrayClip(np.zeros((20, 240, 360), np.uint8)) for _ in range(3 * FOLDS)]
    # Light and dark bands tell a picture by its number in binary, below a light and a dark one.
    bands = np.array([[1, 0, *map(int, f"{number:05b}")] for number in range(6 * FOLDS)], np.uint8)
    pictures = np.broadcast_to(255 * bands.repeat(8, 1)[:, None, :, None], (len(bands), 1, 56, 56))
    splits = [staged_split(normal, ArrayImages(pictures), 2, fold) for fold in range(FOLDS)]
    for split in splits:
        held_out = {clip.clip for clip in split.test}
        assert len(split.test) == 2 * len(held_out)
        assert held_out | set(split.normal) == set(normal)
        assert not held_out & set(split.normal)
    staged = [clip for split in splits for clip in split.test]
    assert {clip.clip for clip in staged} == set(normal)
    assert len(staged) == 2 * len(normal)
    assert len({clip.trajectory for clip in staged}) == len(staged)
    seen = [np.asarray(clip.picture.resize((1, 7)), int)[:, 0] for clip in staged]
    assert len({tuple(shades > shades[:2].mean()) for shades in seen}) == len(staged)


def test_agreement_is_the_least_of_the_scores():
    grid = Grid((16, 16), 8, 8)
    low, high = np.ones(grid.shape, np.float32), np.full(grid.shape, 9, np.float32)

    def first(window, grid):
        return np.where(window[0, 0, 0], high, low)

    def second(window, grid):
        return 100 * np.where(window[0, 0, 1], high, low)

    normal = ArrayClip(np.zeros((3, 16, 16), np.uint8))
    scorers = [SimpleNamespace(score=first), SimpleNamespace(score=second)]
    both = Agreement(scorers, [normal], grid)
    scores = {}
    for one, other in ((0, 0), (1, 0), (0, 1), (1, 1)):
        window = np.zeros((1, 16, 16), np.uint8)
        window[0, 0, :2] = one, other
        scores[one, other] = both.score(window, grid)[0, 0]
    assert scores == {(0, 0): 1, (1, 0): 1, (0, 1): 1, (1, 1): 9}


def test_sparse_embeddings_are_less_active():
    rows, columns = np.random.default_rng(0).integers(0, 16, (2, 256, 1, 1, 1))
    ramp = np.arange(8)
    images = ArrayImages((rows * ramp[:, None] + columns * ramp).astype(np.uint8))
    embeddings = {}
    for name, config in {"plain": AUTOENCODER, "sparse": SPARSE.config}.items():
        config = train_for(config, 40, embedding_size=32, batch_size=32, device="cpu")
        embeddings[name] = np.abs(train(images, config).embeddings).mean()
    assert embeddings["sparse"] < 0.9 * embeddings["plain"]


def test_table4_names_missing_data_and_unknown_rows(tmp_path):
    with pytest.raises(NearfarError, match="does not exist"):
        run(TABLE4, tmp_path / "out", data_root=tmp_path)
    with pytest.raises(NearfarError, match="'MDT' is unknown"):
        run(TABLE4, tmp_path / "out", rows=["MDT"])


def test_every_row_of_the_ablation_differs_from_tempo():
    assert ABLATION_ROWS["tempo"] is ROWS["tempo"]
    assert len({repr(row) for row in ABLATION_ROWS.values()}) == len(ABLATION_ROWS)


def test_principal_components_leave_out_only_the_noise():
    generator = np.random.default_rng(0)
    axes = generator.normal(size=(3, 64)) * 15
    clean = 128 + generator.normal(size=(2000, 3)) @ axes
    noisy = np.clip(clean + generator.normal(size=clean.shape) * 4, 0, 255).round()
    images = ArrayImages(noisy.reshape(-1, 1, 8, 8).astype(np.uint8))
    network = principal_autoencoder(images, 1.1 * (4 / 255) ** 2)
    output = network(images.batch(range(2000)).float() / 255)
    assert output.embeddings.shape == (2000, 2 * 3)
    assert (output.embeddings >= 0).all()
    expected = PCA(3).fit(noisy / 255).inverse_transform(PCA(3).fit_transform(noisy / 255))
    found = output.reconstruction.detach().numpy().reshape(2000, 64)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_abnormal_spans_are_shaded_where_they_are():
    clips = {
        "a": {"scores": [0, 1, 2, 3, 4], "abnormal": [False, True, True, False, True]},
        "b": {"scores": [1, 2], "abnormal": [False, False]},
    }
    first, second, _ = clip_scores(clips).axes
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in first.patches]
    assert spans == [(0.5, 2.5), (3.5, 4.5)]
    assert not second.patches


def test_no_two_curves_look_alike():
    curve = np.array([0.0, 0.5, 1.0])
    *curves, _ = roc_curves(dict.fromkeys(ROWS, (curve, curve))).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in curves}) == len(ROWS)
