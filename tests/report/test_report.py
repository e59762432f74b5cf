"""Report: figures of all kinds of input, and a safe, self-contained page."""

from __future__ import annotations

from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from nearfar.errors import NearfarError
from nearfar.evaluation import Evaluation, Score
from nearfar.report import Section, write_report
from nearfar.report.figures import (
    Dot,
    comparison_sheet,
    dot_plot,
    embedding_maps,
    neighbor_sheet,
    reconstruction_sheet,
    save_figure,
    training_curves,
)

RNG = np.random.default_rng(0)
HOSTILE = "\"'><script>alert(1)</script><img src=http://x/y onerror=z>&$title$"


def images(*shape: int) -> np.ndarray:
    return RNG.random(shape, dtype=np.float32) * 1.4 - 0.2


def drawn(figure: Figure) -> np.ndarray:
    """The pixels of a figure, after checking that they show something on white."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=50)
    pixels = np.asarray(Image.open(stream).convert("RGB"))
    assert pixels.std() > 1
    return pixels


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (20, 33)])
def test_reconstruction_sheet_shows_all_rows(channels: int, height: int, width: int) -> None:
    rows = images(3, 5, channels, height, width)
    figure = reconstruction_sheet(*rows)
    drawn(figure)
    shown = figure.axes[0].images
    assert [image.get_array().shape[:2] for image in shown] == [(height, width)] * 15
    expected = np.clip(rows[1, 2], 0, 1)
    expected = expected[0] if channels == 1 else np.moveaxis(expected, 0, -1)
    np.testing.assert_array_equal(shown[5 + 2].get_array(), expected)
    assert {"original", "autoencoder", "NRE"} <= set(texts(figure))
    other = reconstruction_sheet(*rows, initial="untrained", method="nearfar")
    assert {"original", "untrained", "nearfar"} <= set(texts(other))


def test_gray_keeps_its_brightness() -> None:
    half = np.full((4, 1, 8, 8), 0.5, np.float32)
    assert "untrained" in texts(reconstruction_sheet(half, half, half, initial="untrained"))
    pixels = drawn(reconstruction_sheet(half, half, half))
    assert tuple(pixels[pixels.shape[0] // 2, -10]) == (128, 128, 128)


@pytest.mark.parametrize("channels", [1, 3])
def test_neighbor_sheet(channels: int) -> None:
    figure = neighbor_sheet(
        images(2, channels, 9, 9), images(2, 4, channels, 9, 9), images(2, 3, channels, 9, 9)
    )
    drawn(figure)
    assert len(figure.axes[0].images) == 2 * (1 + 4 + 3)
    assert texts(figure)[:3] == ["query", "near", "far"]
    lefts = [image.get_extent()[0] for image in figure.axes[0].images[:8]]
    assert lefts == sorted(lefts)


def test_neighbor_sheet_names_its_images() -> None:
    names = [[f"{row}/image_{column:04}.jpg" for column in range(8)] for row in range(2)]
    names[1][7] = "1/a_much_longer_name.jpg"
    figure = neighbor_sheet(
        images(2, 3, 9, 9), images(2, 4, 3, 9, 9), images(2, 3, 3, 9, 9), names=names
    )
    drawn(figure)
    written = texts(figure)[3:]
    assert written[:8] == [f"image_{column:04}.jpg" for column in range(8)]
    assert written[-1] == "a_much_longer…"
    under = [image.get_extent()[2] for image in figure.axes[0].images]
    assert len({round(bottom, 3) for bottom in under}) == 2


TWO = images(2, 1, 8, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reconstruction_sheet(TWO, images(3, 1, 8, 8), TWO), "expected one shape"),
        (lambda: reconstruction_sheet(*images(3, 2, 4, 8, 8)), "1 or 3"),
        (lambda: reconstruction_sheet(*images(3, 0, 1, 8, 8)), "1 or 3"),
        (lambda: neighbor_sheet(TWO, TWO[:1, None], TWO[:, None]), "near images .* 2 queries"),
        (lambda: neighbor_sheet(TWO, TWO[:, None], TWO[:, None][:, :0]), "far images"),
        (lambda: embedding_maps(images(4, 2), images(4, 2), np.zeros(4, int)), "at least 5"),
        (lambda: embedding_maps(images(9, 2), images(8, 2), np.zeros(9, int)), "9 and 8"),
        (lambda: embedding_maps(images(9, 2), images(9, 2), np.zeros(8, int)), "8 labels for 9"),
        (lambda: training_curves([]), "log is empty"),
        (lambda: dot_plot({}), "nothing has been measured"),
        (lambda: dot_plot({"5-NN": []}), "nothing has been measured"),
    ],
)
def test_figures_refuse_unusable_input(make: Any, message: str) -> None:
    with pytest.raises(NearfarError, match=message):
        make()


def test_dots_show_each_seed_their_mean_and_the_paper() -> None:
    rows = [Dot("pixels", [0.9]), Dot("NRE", [0.91, 0.93, 0.95], paper=0.977)]
    figure = dot_plot({"L-SVM": rows, "R-SVM": rows, "5-NN": rows[:1]}, percent=True)
    drawn(figure)
    axes = figure.axes[0]
    shown = np.vstack(
        [dots.get_offsets().data for dots in axes.collections if len(dots.get_offsets())]
    )
    for place in ([0.9, 0], [0.91, 1], [0.95, 1], [0.93, 1], [0.977, 1]):
        assert np.isclose(shown, place).all(1).any(), place
    deviation = axes.containers[1].lines[2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(deviation, [0.91, 0.95])
    assert axes.yaxis_inverted()
    assert {"pixels", "NRE", "R-SVM", "the paper"} <= set(texts(figure))
    assert any(text.endswith("%") for text in texts(figure))
    assert not figure.axes[3].axison


def points(figure: Figure) -> list[np.ndarray]:
    """The colors of the dots of each map."""
    return [axes.collections[0].get_facecolors() for axes in figure.axes]


def test_maps_with_labels() -> None:
    labels = np.arange(60) % 3
    embeddings = np.eye(3, dtype=np.float32)[labels] * 9 + images(60, 3)
    figure = embedding_maps(images(60, 7), embeddings, labels, ["cat", "dog", "emu"])
    drawn(figure)
    before, after = points(figure)
    np.testing.assert_array_equal(before, after)
    assert sorted(np.unique(before, axis=0, return_counts=True)[1]) == [20, 20, 20]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "dog", "emu"]
    assert texts(figure).count("cat") == 3

    places = figure.axes[1].collections[0].get_offsets().data
    for color in np.unique(after, axis=0):
        mine = (after == color).all(1)
        own = np.linalg.norm(places[mine] - places[mine].mean(0), axis=1).max()
        others = np.linalg.norm(places[~mine] - places[mine].mean(0), axis=1).min()
        assert own < others


def test_legend_of_maps_has_a_title() -> None:
    labels = np.arange(50) % 2
    figure = embedding_maps(images(50, 7), images(50, 4), labels, legend="clusters of NRE")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["autoencoder", "NRE"]
    drawn(figure)
    assert figure.legends[0].get_title().get_text() == "clusters of NRE"


def test_colors_are_those_of_the_map_to_browse() -> None:
    labels = np.repeat([0, 1, 2], [10, 30, 20])
    figure = embedding_maps(images(60, 7), images(60, 4), labels, ["cat", "dog", "emu"])
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["cat", "dog", "emu"]
    colors = [to_hex(handle.get_facecolor()[0]) for handle in legend.legend_handles]
    assert colors == ["#bd1f01", "#3f90da", "#ffa90e"]


def test_long_legends_stay_in_the_figure() -> None:
    names = "Leopards Motorbikes airplanes bonsai chandelier dai ros sun tul watch".split()
    figure = embedding_maps(images(50, 7), images(50, 4), np.arange(50) % 10, names)
    drawn(figure)
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.width


def test_maps_of_many_classes_name_the_largest() -> None:
    labels = np.concatenate([np.arange(30), np.repeat([4, 17], 9)])
    figure = embedding_maps(images(48, 3), images(48, 3), labels)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == 12
    assert {"4", "17", "19 other classes"} <= set(legend)


def test_maps_are_of_at_most_2000_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.report.figures.maps.MAX_MAP_IMAGES", 30)
    figure = embedding_maps(images(99, 2), images(99, 2), np.arange(99) % 3)
    assert [len(axes.collections[0].get_offsets()) for axes in figure.axes] == [30, 30]


def test_maps_are_repeatable() -> None:
    embeddings = images(100, 2)
    first, again = (
        embedding_maps(embeddings, embeddings, np.arange(100) % 2, seed=1) for _ in range(2)
    )
    np.testing.assert_array_equal(drawn(first), drawn(again))


@pytest.mark.parametrize("size", [1, 2])
def test_maps_of_few_short_or_dead_embeddings(size: int) -> None:
    drawn(embedding_maps(images(6, size), np.zeros((6, size), np.float32), np.arange(6)))


def test_names_of_classes_are_not_markup() -> None:
    names = ["$\\frac{a$", "_hidden", f"{'long ' * 90}", "two\nlines"]
    figure = embedding_maps(images(40, 3), images(40, 3), np.arange(40) % 4, names)
    width = figure.get_figwidth()
    drawn(figure)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[1:] == ["_hidden", f"{'long ' * 4}lon…", "two lines"]
    assert figure.axes[0].get_position().width * width > 4


def test_names_of_rows_stay_in_the_margin() -> None:
    rows = {name: images(4, 3, 8, 8) for name in ("$^$", "crocodile_head", "x" * 40)}
    figure = comparison_sheet(rows)
    drawn(figure)
    left = min(each.get_window_extent().x0 for each in figure.axes[0].texts)
    assert left >= 0


def epoch(phase: str, number: int, **values: float | None) -> dict[str, Any]:
    nothing = {"own": None, "near": None, "far": None}
    measured = {"pixel": 0.1 / number, "dead_units": 3, "effective_rank": 20.5}
    return {"phase": phase, "epoch": number, "loss": 1.0, **nothing, **measured, **values}


PRETRAIN = [epoch("pretrain", i) for i in range(1, 6)]
RELATIONAL = [epoch("relational", i, own=0.1 / i, near=0.2 / i, far=0.7) for i in range(1, 4)]


@pytest.mark.parametrize(
    ("log", "panels"),
    [
        (PRETRAIN + RELATIONAL, 4),
        (PRETRAIN, 2),
        (RELATIONAL[:1], 4),
        (PRETRAIN + [record | {"far": None} for record in RELATIONAL], 3),
        (PRETRAIN + [record | {"near": None, "far": None} for record in RELATIONAL], 3),
        (PRETRAIN + [record | {"far": float("nan")} for record in RELATIONAL], 3),
        ([{"phase": "relational", "epoch": 1, "pixel": 0.1}], 1),
        (PRETRAIN * 30, 2),
        (PRETRAIN + [record | {"phase": "train"} for record in RELATIONAL], 4),
        ([epoch("train", 1, contrastive=2.6, distillation=0.7, knn_accuracy=0.9)], 5),
    ],
)
def test_training_curves(log: list[dict[str, Any]], panels: int) -> None:
    figure = training_curves(log)
    drawn(figure)
    assert len(figure.axes) == panels
    assert figure.axes[0].get_xlim() == (0.5, len(log) + 0.5)


def test_training_curves_put_the_phases_one_after_the_other() -> None:
    figure = training_curves(PRETRAIN + RELATIONAL)
    assert {"pre-training", "training"} <= set(texts(figure))
    near = next(
        line for axes in figure.axes for line in axes.lines if line.get_color() == "#009e73"
    )
    finite = np.isfinite(near.get_ydata())
    assert near.get_xdata()[finite].tolist() == [6, 7, 8]
    assert near.get_ydata()[finite].tolist() == [0.2, 0.1, 0.2 / 3]
    # Whatever PYTHONHASHSEED is, so that where lines cross the same one is above.
    assert [line.get_color() for line in figure.axes[1].lines] == ["#0072b2", "#009e73"]
    assert [line.get_color() for line in figure.axes[3].lines] == ["#0072b2", "#d55e00"]
    assert {"near  0.0667", "own  0.0333", "effective rank  20.5"} <= set(texts(figure))


def test_labels_of_curves_that_end_together_stay_apart() -> None:
    log = [epoch("relational", i, own=0.1 * i, near=0.1 * i) for i in (1, 2)]
    figure = training_curves(log)
    heights = [text.xy[1] for text in figure.axes[1].texts]
    assert abs(heights[0] - heights[1]) > 0.1
    assert max(heights) <= 1


def test_figures_leave_no_global_state(tmp_path: Path) -> None:
    style = dict(plt.rcParams)
    for name in ("a.png", "b.png"):
        save_figure(training_curves(PRETRAIN), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert not Image.open(tmp_path / "a.png").text
    assert not plt.get_fignums()
    assert dict(plt.rcParams) == style


class Page(HTMLParser):
    """Page as a browser parses it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


EVALUATION = Evaluation(
    {"knn": HOSTILE, "nmi": "NMI"},
    {HOSTILE: {"knn": Score(0.9), "nmi": None}, "NRE": {"knn": Score(0.8, 0.1), "nmi": Score(0.5)}},
    {},
    [HOSTILE],
)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    sections = [
        Section("Training curves", HOSTILE, training_curves(PRETRAIN), alt=HOSTILE),
        Section("../../Rec & co", "Text.", reconstruction_sheet(*images(3, 2, 1, 8, 8))),
        Section(HOSTILE, "Text.", EVALUATION),
        Section("Settings", "Text.", {HOSTILE: HOSTILE, "seed": 0}),
    ]
    return write_report(tmp_path / "new" / "run", title=HOSTILE, lead=HOSTILE, sections=sections)


def test_report_is_one_file_that_loads_nothing(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert "href" not in attributes
        assert (attributes.get("src") or "data:").startswith("data:")
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in (page.all("meta")[3]["content"] or "")


def test_report_shows_hostile_text_as_it_is(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    # Title twice, lead, text, column, row, note, heading, name and value of a setting.
    assert page.text.count(HOSTILE) == 10
    assert page.all("img")[0]["alt"] == HOSTILE
    assert page.all("div")[0]["aria-label"] == HOSTILE


def test_report_can_be_read_without_seeing_it(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    assert page.all("html")[0]["lang"] == "en"
    assert [image["alt"] for image in page.all("img")][1] == "../../Rec & co"
    assert [head["scope"] for head in page.all("th")] == ["col", "col", "row", "row"]
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) == 4


def test_pictures_stand_beside_the_report(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    names = ["training-curves.png", "rec-co.png"]
    assert sorted(path.name for path in report.parent.iterdir()) == sorted([*names, "report.html"])
    for name, image in zip(names, page.all("img"), strict=True):
        data = (report.parent / name).read_bytes()
        assert b64decode((image["src"] or "").partition(",")[2]) == data
        picture = Image.open(BytesIO(data))
        assert picture.width == pytest.approx(2 * int(image["width"] or 0), abs=2)
        assert picture.height == pytest.approx(2 * int(image["height"] or 0), abs=2)


def test_report_is_replaced_whole_or_not_at_all(report: Path) -> None:
    before = {path.name: path.read_bytes() for path in report.parent.iterdir()}

    class Broken(Figure):
        def savefig(self, *args: Any, **kwargs: Any) -> None:
            args[0].write_bytes(b"half")
            raise KeyboardInterrupt

    section = Section("Training curves", "", Broken())
    with pytest.raises(KeyboardInterrupt):
        write_report(report.parent, title="", lead="", sections=[section])
    assert {path.name: path.read_bytes() for path in report.parent.iterdir()} == before
    write_report(report.parent, title="Later", lead="", sections=[])
    assert "<h1>Later</h1>" in report.read_text(encoding="utf-8")
