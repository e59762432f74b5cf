"""Anomaly detection in video and still images, trained on normal frames only.

`fit_detector` fits a detector to normal clips from `open_clips`. `score_clips` scores new clips,
`follow` scores a live camera, and `Detector.score` scores any frames. Built-in methods are in
`nearfar.anomaly.methods`. To add a method, subclass `Method` and register it with
`register_method`.
"""

from nearfar.anomaly.camera import Camera, measure_camera
from nearfar.anomaly.clips import ArrayClip, Clip, Frame, Pixels, as_frames
from nearfar.anomaly.config import (
    ASSUMED_RATE,
    DEFAULT_TRAINING,
    DetectorConfig,
)
from nearfar.anomaly.detector import CALIBRATE_EVERY, Detector, ScoredFrame
from nearfar.anomaly.evaluate import Evaluator
from nearfar.anomaly.export import export_detector
from nearfar.anomaly.fit import fit_detector, split_clips
from nearfar.anomaly.kind import Continuity, continuity
from nearfar.anomaly.masks import Mask, Masks, find_masks
from nearfar.anomaly.methods import (
    Appearance,
    CutPaste,
    EmbeddingDistance,
    Motion,
    ObjectMemory,
    PatchMemory,
    Reconstruction,
)
from nearfar.anomaly.metrics import (
    MacroAverage,
    PixelCurve,
    RegionCurve,
    average_precision,
    equal_error_rate,
    f1_score,
    macro_average,
    min_max,
    overlap_score,
    roc_auc,
)
from nearfar.anomaly.open import Clips, open_clips
from nearfar.anomaly.output import open_video
from nearfar.anomaly.overview import MAX_TIMELINES, Highlight, Overview, Timeline
from nearfar.anomaly.patches import (
    Grid,
    ScoreMap,
    gather_patches,
    sample_rows,
    score_patches,
    windows,
)
from nearfar.anomaly.registry import FitContext, LeaveOneOutMethod, Method, Scorer, register_method
from nearfar.anomaly.scale import ROW_QUANTILE
from nearfar.anomaly.score import SCORES_PAGE, ScoringSummary, score_clips
from nearfar.anomaly.storage import is_unfinished, read_detector
from nearfar.anomaly.stream import StreamAlert, follow
from nearfar.anomaly.threshold import find_threshold

__all__ = [
    "ASSUMED_RATE",
    "CALIBRATE_EVERY",
    "DEFAULT_TRAINING",
    "MAX_TIMELINES",
    "ROW_QUANTILE",
    "SCORES_PAGE",
    "Appearance",
    "ArrayClip",
    "Camera",
    "Clip",
    "Clips",
    "Continuity",
    "CutPaste",
    "Detector",
    "DetectorConfig",
    "EmbeddingDistance",
    "Evaluator",
    "FitContext",
    "Frame",
    "Grid",
    "Highlight",
    "LeaveOneOutMethod",
    "MacroAverage",
    "Mask",
    "Masks",
    "Method",
    "Motion",
    "ObjectMemory",
    "Overview",
    "PatchMemory",
    "PixelCurve",
    "Pixels",
    "Reconstruction",
    "RegionCurve",
    "ScoreMap",
    "ScoredFrame",
    "Scorer",
    "ScoringSummary",
    "StreamAlert",
    "Timeline",
    "as_frames",
    "average_precision",
    "continuity",
    "equal_error_rate",
    "export_detector",
    "f1_score",
    "find_masks",
    "find_threshold",
    "fit_detector",
    "follow",
    "gather_patches",
    "is_unfinished",
    "macro_average",
    "measure_camera",
    "min_max",
    "open_clips",
    "open_video",
    "overlap_score",
    "read_detector",
    "register_method",
    "roc_auc",
    "sample_rows",
    "score_clips",
    "score_patches",
    "split_clips",
    "windows",
]
