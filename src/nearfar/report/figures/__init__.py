"""The pictures of a report, as matplotlib figures that share no state and need no screen."""

from nearfar.report.figures.curves import training_curves as training_curves
from nearfar.report.figures.dots import Dot as Dot
from nearfar.report.figures.dots import dot_plot as dot_plot
from nearfar.report.figures.maps import FEWEST_MAPPED as FEWEST_MAPPED
from nearfar.report.figures.maps import code_maps as code_maps
from nearfar.report.figures.security import security_curves as security_curves
from nearfar.report.figures.sheets import comparison as comparison
from nearfar.report.figures.sheets import neighbor_sheet as neighbor_sheet
from nearfar.report.figures.sheets import reconstructions as reconstructions
from nearfar.report.figures.style import save_figure as save_figure
