"""Figures of boxes and label maps."""

from __future__ import annotations

import numpy as np

from nearfar.report.figures import Boxes, detection_sheet, mask_sheet


def test_detections_figure_draws_boxes():
    image = np.zeros((40, 50, 3), np.uint8)
    true = Boxes(np.array([[1, 2, 11, 22]]), np.array([1]))
    none = Boxes(np.zeros((0, 4)), np.zeros(0, int))
    figure = detection_sheet([image], [true], [none], ["a", "b"])
    above, below = figure.axes
    (box,) = above.patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((1, 2), 10, 20)
    assert not below.patches


def test_masks_figure_paints_ignored_pixels_white():
    image = np.zeros((2, 2, 3), np.uint8)
    truth = np.array([[0, 1], [2, 255]], np.uint8)
    figure = mask_sheet([image], [truth], [np.zeros((2, 2), np.uint8)], ["a", "b", "c"])
    painted = np.asarray(figure.axes[1].images[0].get_array())
    assert len(np.unique(painted.reshape(-1, 3), axis=0)) == 4
    assert painted[1, 1].tolist() == [1, 1, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
