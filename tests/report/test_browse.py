"""Map to browse: in a browser, as a user moves, clicks, types and looks; and as a table."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from nearfar.data import FolderImages, Subset, images_from_array
from nearfar.errors import NearfarError
from nearfar.report import ImageMap, Section, map_images, write_map_table, write_report
from nearfar.report.browse import browser
from nearfar.search import IndexHits
from program import run

HOSTILE = "</script><img src=x onerror=\"document.title='attacked'\">"
N = 300
#: Height and width of the map's part of a page.
Box = dict[str, float]


@pytest.fixture(scope="module")
def image_map(tmp_path_factory: pytest.TempPathFactory) -> ImageMap:
    """Images of three kinds in plain colors, of which those of one kind are similar."""
    root, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    for row in range(N):
        folder = root / ("cat", "dog", "emu")[row % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (32, 32, 3)) + 190 * np.eye(3, dtype=int)[row % 3]
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{row:03}.png")
    images = FolderImages(root, size=32)
    assert images.labels is not None
    embeddings = 3 * np.eye(3, 8)[images.labels] + rng.normal(0, 0.3, (N, 8))
    kinds = np.array([HOSTILE, None, "fine"], object)[np.arange(N) % 3]
    scores = np.where(np.arange(N) < 10, np.nan, np.arange(N)).astype(np.float32)
    return map_images(images, embeddings, columns={"kind": kinds, "score": scores})


@pytest.fixture(scope="module")
def page_file(image_map: ImageMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = [Section("Map", "Similar images lie together.", image_map)]
    return write_report(tmp_path_factory.mktemp("page"), title="Photos", lead="", sections=sections)


@pytest.fixture
def page(chromium: Any, page_file: Path) -> Iterator[Any]:
    """The page, opened, which may neither fail nor load anything."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened, complaints = context.new_page(), []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    opened.on(
        "request",
        lambda request: (
            complaints.append(request.url[:80])
            if not request.url.startswith(("data:", page_file.as_uri()))
            else None
        ),
    )
    opened.goto(page_file.as_uri())
    opened.wait_for_selector(".browser canvas")
    yield opened
    assert not complaints
    assert opened.title() == "Photos"
    context.close()


def place_of(image_map: ImageMap, row: int, box: Box) -> tuple[float, float]:
    """Where an image lies on the canvas before any zoom."""
    places = image_map.places
    low, high = places.min(0), places.max(0)
    x, y = (places[row] - (low + high) / 2) / (high - low).max()
    scale = min(box["width"], box["height"]) * 0.92
    return float(x * scale + box["width"] / 2), float(box["height"] / 2 - y * scale)


def alone(image_map: ImageMap) -> int:
    """Return the image that is farthest from the others on the map."""
    differences = image_map.places[:, None] - image_map.places[None]
    distances = np.linalg.norm(differences, axis=2) + 1e9 * np.eye(N)
    return int(distances.min(1).argmax())


def click(page: Any, image_map: ImageMap, row: int) -> None:
    canvas = page.locator(".plot > canvas")
    x, y = place_of(image_map, row, canvas.bounding_box())
    canvas.click(position={"x": x, "y": y})


def name_shown(page: Any) -> str:
    return page.locator("aside .name").inner_text()


def gallery(page: Any, number: int) -> list[str]:
    return (
        page.locator("aside .images")
        .nth(number)
        .locator("button")
        .evaluate_all("buttons => buttons.map(button => button.title)")
    )


def test_hover_shows_the_image_and_its_name(page: Any, image_map: ImageMap) -> None:
    row, canvas = alone(image_map), page.locator(".plot > canvas")
    x, y = place_of(image_map, row, canvas.bounding_box())
    canvas.hover(position={"x": x, "y": y})
    assert image_map.images.names()[row] in page.locator(".tip").inner_text()
    page.wait_for_function(
        """() => document.querySelector(".tip canvas").getContext("2d")
                  .getImageData(9, 9, 1, 1).data[3] === 255"""
    )
    color = page.evaluate(
        """() => Array.from(document.querySelector(".tip canvas").getContext("2d")
                  .getImageData(40, 40, 1, 1).data.slice(0, 3))"""
    )
    label = int(image_map.images.labels[row])
    assert int(np.argmax(color)) == label


def test_click_shows_near_and_far_images(page: Any, image_map: ImageMap) -> None:
    names, row = image_map.images.names(), alone(image_map)
    click(page, image_map, row)
    assert name_shown(page) == names[row]
    assert gallery(page, 0) == [names[near] for near in image_map.hits.near[row]]
    assert gallery(page, 1) == [names[far] for far in image_map.hits.far[row]]
    page.locator("aside .images button").nth(2).click()
    assert name_shown(page) == names[image_map.hits.near[row, 2]]


def test_search_by_name(page: Any, image_map: ImageMap) -> None:
    page.keyboard.press("/")
    page.keyboard.type("EMU/")
    assert page.locator(".status").inner_text() == "100 of 300 images"
    assert len(gallery(page, 0)) == 100
    page.keyboard.type("2")
    found = gallery(page, 0)
    assert found
    assert all(name.startswith("emu/2") for name in found)
    page.keyboard.press("Enter")
    assert name_shown(page) == found[0]
    page.keyboard.press("Escape")  # on the map now
    assert page.locator(".status").inner_text() == "300 images"
    assert page.locator("aside .name").count() == 0


def pixels_of(page: Any) -> np.ndarray:
    shot = page.locator(".plot > canvas").screenshot()
    return np.asarray(Image.open(BytesIO(shot)).convert("RGB")).astype(int)


def share(pixels: np.ndarray, color: str) -> float:
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return float((np.abs(pixels - wanted).max(2) < 30).mean())


def test_colors_follow_column_and_legend(page: Any) -> None:
    options = page.locator(".controls option").all_inner_texts()
    assert options == ["label", "kind", "score", "cluster"]
    keys = page.locator(".legend button")
    assert keys.all_inner_texts() == ["cat\n100", "dog\n100", "emu\n100"]
    before = pixels_of(page)
    assert share(before, "#3f90da") > 0.001
    assert share(before, "#ffa90e") > 0.001
    keys.nth(0).click()
    page.wait_for_timeout(100)
    assert share(pixels_of(page), "#3f90da") > 0.001
    assert share(pixels_of(page), "#ffa90e") < 0.0005
    page.locator(".controls select").select_option(label="kind")
    assert keys.all_inner_texts() == [f"{HOSTILE}\n100", "fine\n100"]
    page.locator(".controls select").select_option(label="score")
    assert page.locator(".legend").inner_text().split() == ["12.0", "297", "unknown:", "10"]
    page.wait_for_timeout(100)
    assert share(pixels_of(page), "#ffa90e") < 0.0005


def test_keys_go_from_image_to_image(page: Any, image_map: ImageMap) -> None:
    canvas = page.locator(".plot > canvas")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    names = image_map.images.names()
    first = names.index(name_shown(page))
    page.keyboard.press("ArrowRight")
    second = names.index(name_shown(page))
    assert image_map.places[second, 0] > image_map.places[first, 0]
    page.keyboard.press("ArrowUp")
    third = names.index(name_shown(page))
    assert image_map.places[third, 1] > image_map.places[second, 1]
    before = pixels_of(page)
    page.keyboard.press("+")
    page.wait_for_timeout(100)
    assert (pixels_of(page) != before).any()
    page.keyboard.press("0")


def test_images_are_drawn_when_zoomed_in(page: Any, image_map: ImageMap) -> None:
    page.locator(".controls input").fill("cat/000")
    page.keyboard.press("Enter")  # now in the middle
    page.keyboard.press("Escape")
    for _ in range(5):
        page.keyboard.press("+")
    page.wait_for_timeout(400)
    pixels = pixels_of(page)
    plain = ((pixels >= 180) & (pixels <= 255)).sum(2) == 1
    assert plain.mean() > 0.02


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_small_screens_and_both_schemes(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 375, "height": 700})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    plot = page.locator(".plot").bounding_box()
    assert page.locator("aside").bounding_box()["y"] >= plot["y"] + plot["height"]
    corner = pixels_of(page)[5, 5]
    assert (corner > 240).all() if scheme == "light" else (corner < 40).all()


def test_images_of_findings_are_found_on_the_map(chromium: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    for row in range(40):
        Image.fromarray(pixels[row % 39]).save(tmp_path / "photos" / f"{row:02}.png")
    model = ("--encoder", "timm:resnet18", "--weights", "random", "--size", 32, "--device", "cpu")
    assert run("curate", tmp_path / "photos", "--out", tmp_path / "found", *model) == 0
    page = chromium.new_page()
    page.goto((tmp_path / "found/curation.html").as_uri())
    options = page.locator(".controls option").all_inner_texts()
    assert options[:2] == ["finding", "cluster"]
    quiet = page.evaluate("""() => {
        const swatch = [...document.querySelectorAll(".legend button")]
            .find((key) => key.innerText.startsWith("none")).querySelector(".swatch");
        const line = document.createElement("i");
        line.style.background = "var(--line)";
        swatch.parentElement.append(line);
        return [swatch, line].map((each) => getComputedStyle(each).backgroundColor);
    }""")
    assert quiet[0] == quiet[1]
    page.locator("figure", has_text="39.png").first.click()
    assert name_shown(page) == "39.png"
    assert "duplicate to leave out" in page.locator("aside dl").inner_text()
    page.close()


def test_sheets_are_compressed_until_they_fit(
    image_map: ImageMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = len(browser(image_map))
    monkeypatch.setattr("nearfar.report.browse.html._MOST_BYTES", 1)
    assert len(browser(image_map)) < 0.7 * fine


def test_too_many_images_for_a_page_are_refused() -> None:
    images = images_from_array(np.ones((20_001, 8, 8)))
    none = np.zeros((20_001, 1), int)
    hits = IndexHits(none, none, none.astype(np.float32), none.astype(np.float32))
    with pytest.raises(NearfarError, match=r"20001 images: expected at most 20000; write a \.par"):
        browser(ImageMap(images, np.zeros((20_001, 2), np.float32), hits, {}))


def test_columns_belong_to_images(image_map: ImageMap) -> None:
    some = Subset(image_map.images, range(9))
    with pytest.raises(NearfarError, match="8 score of 9 images"):
        map_images(some, np.eye(9), columns={"score": np.zeros(8)})
    with pytest.raises(NearfarError, match="map of 4 images: expected at least 5"):
        map_images(Subset(some, range(4)), np.eye(4))


def test_table_has_the_columns_of_embedding_atlas(image_map: ImageMap, tmp_path: Path) -> None:
    write_map_table(tmp_path / "map.parquet", image_map)
    rows = parquet.read_table(tmp_path / "map.parquet").to_pylist()
    assert [row["file"] for row in rows] == image_map.images.names()
    assert rows[5]["projection_x"] == image_map.places[5, 0]
    assert rows[5]["neighbors"]["ids"] == image_map.hits.near[5].tolist()
    distances = rows[5]["neighbors"]["distances"]
    assert distances == sorted(distances)
    assert rows[1]["kind"] is None


def test_command_writes_a_page_or_a_table(image_map: ImageMap, tmp_path: Path, capsys) -> None:
    folder = image_map.images.root
    command = ("browse", "timm:resnet18", "--weights", "random", "--size", 32, "--data", folder)
    for name in ("map.html", "map.parquet"):
        assert run(*command, "--out", tmp_path / name, "--device", "cpu") == 0
        assert (tmp_path / name).stat().st_size > 1000
    assert "300 images are in" in capsys.readouterr().out
    assert run(*command, "--out", tmp_path / "map.csv") == 2
    assert "ends in .html or .parquet" in capsys.readouterr().err
