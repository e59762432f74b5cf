"""Motion method: a classifier trained on normal clips and on pseudo-anomalies made from them."""

from nearfar.anomaly.methods.motion.method import Motion
from nearfar.anomaly.methods.motion.network import (
    DOWNSCALE,
    MotionNet,
    MotionTraining,
    downscale,
    train_motion_net,
)
from nearfar.anomaly.methods.motion.pseudo_anomalies import (
    GROWTH,
    PSEUDO_ANOMALIES,
    SPEEDS,
    MotionSamples,
    draw_samples,
    find_moving,
)

__all__ = [
    "DOWNSCALE",
    "GROWTH",
    "PSEUDO_ANOMALIES",
    "SPEEDS",
    "Motion",
    "MotionNet",
    "MotionSamples",
    "MotionTraining",
    "downscale",
    "draw_samples",
    "find_moving",
    "train_motion_net",
]
