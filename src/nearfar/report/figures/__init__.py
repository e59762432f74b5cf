"""Figures for reports, created with matplotlib but without the global state of pyplot."""

from nearfar.report.figures.anomaly import clip_scores, roc_curves, score_histogram
from nearfar.report.figures.curves import sweep_curves, training_curves
from nearfar.report.figures.dots import Dot, dot_plot
from nearfar.report.figures.maps import embedding_maps
from nearfar.report.figures.scenes import Boxes, detection_sheet, mask_sheet
from nearfar.report.figures.security import security_curves
from nearfar.report.figures.sheets import comparison_sheet, neighbor_sheet, reconstruction_sheet
from nearfar.report.figures.style import save_figure

__all__ = [
    "Boxes",
    "Dot",
    "clip_scores",
    "comparison_sheet",
    "detection_sheet",
    "dot_plot",
    "embedding_maps",
    "mask_sheet",
    "neighbor_sheet",
    "reconstruction_sheet",
    "roc_curves",
    "save_figure",
    "score_histogram",
    "security_curves",
    "sweep_curves",
    "training_curves",
]
