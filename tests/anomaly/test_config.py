"""Settings of a detector."""

from __future__ import annotations

import pytest

from nearfar.anomaly import DetectorConfig
from nearfar.errors import NearfarError


@pytest.mark.parametrize(
    "choices",
    [
        {"methods": ()},
        {"methods": ("embedding-distance", "embedding-distance")},
        {"methods": ("appearance",), "frames": 1, "smoothing": 0.0, "independent_frames": True},
        {"frames": 1},
        {"stride": 60},
        {"false_alarms": 0.0},
        {"smoothing": -1.0},
    ],
)
def test_config_refuses_invalid_settings(choices):
    with pytest.raises(NearfarError, match=next(iter(choices))):
        DetectorConfig(**choices)
