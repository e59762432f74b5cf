"""Names in the lists of a devkit, and what annotations state about themselves."""

from __future__ import annotations

import unicodedata

import pytest

from devkits import boxes_lie_on_objects, item, write_annotation, write_devkit, write_list
from nearfar.errors import NearfarError
from nearfar.transfer import Devkit, read_objects, read_presence


def refused(call, *arguments) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(NearfarError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        [f"img {number}" for number in range(4)],  # img 0 and img 1 end like flags
        [f"scene{number} left" for number in range(4)],
        [f"a.b {number}.c" for number in range(4)],
        ["-1", "0", "1", "x 1"],
    ],
    ids=str,
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_in_lists(tmp_path, names, encoding):
    devkit = write_devkit(tmp_path / "VOC", names=names, encoding=encoding)
    assert devkit.classes == ("red", "green")
    assert devkit.split("Main", "trainval") + devkit.split("Main", "test") == names
    assert boxes_lie_on_objects(devkit)


@pytest.fixture
def devkit(tmp_path) -> Devkit:
    return write_devkit(tmp_path / "VOC", names=["a 0", "b", "c", "d"])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_flags_behind_names(devkit, end):
    write_list(devkit, "a 0", "", "b  1", "c\t-1", " d 0 ", end=end)
    assert devkit.split("Main", "some") == ["a 0", "b", "c", "d"]
    write_list(devkit, "a 0 1", end=end)
    assert devkit.split("Main", "some") == ["a 0"]


def test_lines_that_name_no_image_or_two(devkit):
    write_list(devkit, "b 2")
    assert "b 2.jpg' is missing" in refused(devkit.split, "Main", "some")
    write_list(devkit, r"JPEGImages\b")
    assert "is missing" in refused(devkit.split, "Main", "some")
    write_list(devkit, "b", "b 1")
    assert "names 'b' 2 times" in refused(devkit.split, "Main", "some")
    devkit.image("a 0").with_name("a.jpg").write_bytes(devkit.image("a 0").read_bytes())
    write_list(devkit, "a 0")
    assert "'a' with a flag, and both exist" in refused(devkit.split, "Main", "some")


def test_lists_of_classes_have_names_with_spaces(devkit):
    for kind in devkit.classes:
        write_list(devkit, "\ufeffa 0  1", "b -1", "b -1", name=f"{kind}_some")
    assert read_presence(devkit, "some", ["a 0", "b"]).tolist() == [[1, 1], [-1, -1]]
    write_list(devkit, "a 0 1", "a 0 -1", "b 1", name="red_some")
    assert "'a 0' twice, with different flags" in refused(
        read_presence, devkit, "some", ["a 0", "b"]
    )


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_two_unicode_forms(tmp_path, forms):
    names = [unicodedata.normalize(forms[0], f"café {number}") for number in range(4)]
    devkit = write_devkit(tmp_path / "VOC", names=names)
    for split in ("trainval", "test"):
        path = devkit.root / "ImageSets" / "Main" / f"{split}.txt"
        path.write_text(unicodedata.normalize(forms[1], path.read_text()))
    (devkit.root / "classes.txt").write_text(unicodedata.normalize(forms[1], "background\né\n"))
    for name in names:
        kind = unicodedata.normalize(forms[0], "é")
        write_annotation(devkit.annotation(name), item(kind, (1, 1, 20, 20)))
    devkit = Devkit.open(devkit.root)
    assert all(read_objects(devkit, name).labels == [0] for name in devkit.split("Main", "test"))


# --- annotations ---------------------------------------------------------------------------------

BOX = (1, 1, 20, 20)


@pytest.mark.parametrize("root", ["annotations", "html", "Annotation", "{urn:voc}annotation"])
def test_annotations_with_another_root_raise(devkit, root):
    tag, space = root.rpartition("}")[2], root.partition("}")[0].removeprefix("{")
    start = f'{tag} xmlns="{space}"' if root.startswith("{") else tag
    devkit.annotation("b").write_text(f"<{start}>{item('red', BOX)}</{tag}>")
    assert f"its root is <{root}>, expected <annotation>" in refused(read_objects, devkit, "b")


def test_nested_objects_raise(devkit):
    write_annotation(devkit.annotation("b"), f"<objects>{item('red', BOX)}</objects>")
    assert "nested in others" in refused(read_objects, devkit, "b")


def test_repeated_elements_raise(devkit):
    bounds = item("red", BOX).partition("<bndbox>")[2].partition("</bndbox>")[0]
    for more in (f"<bndbox>{bounds}</bndbox>", "<name>green</name>", "<difficult/><difficult/>"):
        write_annotation(devkit.annotation("b"), item("red", BOX, more))
        assert "in the same parent: expected one" in refused(read_objects, devkit, "b")


@pytest.mark.parametrize(
    "file", ["b.jpg", "b", "B.JPG", "b.png", r"C:\photos\b.jpg", "/home/me/b.jpg", ""]
)
def test_annotations_of_their_image(devkit, file):
    write_annotation(devkit.annotation("b"), f"<filename>{file}</filename>", item("red", BOX))
    assert len(read_objects(devkit, "b").boxes) == 1


@pytest.mark.parametrize("file", ["c.jpg", "c", "b.jpg.jpg", r"b\c.jpg"])
def test_annotations_of_another_image_raise(devkit, file):
    write_annotation(devkit.annotation("b"), f"<filename>{file}</filename>", item("red", BOX))
    assert "by its <filename>: expected 'b.jpg'" in refused(read_objects, devkit, "b")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("", False), ("0", False), (" 1 ", True), ("true", True), ("False", False)],
)
def test_difficult_flags(devkit, flag, expected):
    more = f"<difficult>{flag}</difficult>"
    write_annotation(devkit.annotation("b"), item("red", BOX, more))
    assert read_objects(devkit, "b").difficult.tolist() == [expected]


@pytest.mark.parametrize("flag", ["2", "yes", "Unspecified"])
def test_unknown_difficult_flags_raise(devkit, flag):
    more = f"<difficult>{flag}</difficult>"
    write_annotation(devkit.annotation("b"), item("red", BOX, more))
    assert f"<difficult> is '{flag.lower()}': expected 0 or 1" in refused(read_objects, devkit, "b")


@pytest.mark.parametrize("kind", ["Red", "RED", "re d"])
def test_classes_in_another_case_raise(devkit, kind):
    write_annotation(devkit.annotation("b"), item(kind, BOX))
    assert f"class '{kind}' is not in the devkit's list" in refused(read_objects, devkit, "b")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "iso8859-1"])
def test_encodings_of_annotations(devkit, encoding):
    (devkit.root / "classes.txt").write_text("background\ncafé\n")
    declared = encoding.removesuffix("-sig").replace("cp1252", "windows-1252")
    text = f'<?xml version="1.0" encoding="{declared}"?>\r\n<annotation>{item("café", BOX)}'
    devkit.annotation("b").write_bytes(f"{text}</annotation>".encode(encoding))
    assert read_objects(Devkit.open(devkit.root), "b").labels.tolist() == [0]


def test_undeclared_encodings_raise(devkit):
    for encoding, declared in (("cp1252", ""), ("gbk", '<?xml version="1.0" encoding="gbk"?>')):
        text = f"{declared}<annotation>{item('café' if encoding == 'cp1252' else '红', BOX)}"
        devkit.annotation("b").write_bytes(f"{text}</annotation>".encode(encoding))
        assert "cannot be read as a VOC annotation" in refused(read_objects, devkit, "b")


@pytest.mark.parametrize("box", [(20, 1, 1, 20), (1, 20, 20, 1), (5, 5, 4, 5)])
def test_swapped_corners_raise(devkit, box):
    write_annotation(devkit.annotation("b"), item("red", box))
    assert "has no area" in refused(read_objects, devkit, "b")


def test_boxes_may_be_fractions(devkit):
    write_annotation(devkit.annotation("b"), item("red", ("1.5", "2.25", "20.5", "96e-1")))
    assert read_objects(devkit, "b").boxes.tolist() == [[0.5, 1.25, 20.5, 9.6]] or (
        abs(read_objects(devkit, "b").boxes - [[0.5, 1.25, 20.5, 9.6]]).max() < 1e-6
    )


def test_annotations_may_have_no_object(devkit):
    write_annotation(devkit.annotation("b"), "")
    assert read_objects(devkit, "b").boxes.shape == (0, 4)
    devkit.annotation("b").write_bytes(b"")
    assert "no element found" in refused(read_objects, devkit, "b")


def test_names_of_splits_stay_on_one_line(devkit):
    write_list(devkit, "b", name="a\nb")
    assert r"a\nb, test, trainval" in refused(devkit.split, "Main", "some")
