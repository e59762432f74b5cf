"""Honest scores of representations on labeled images."""

from nearfar.evaluation.protocol import Features as Features
from nearfar.evaluation.protocol import evaluate as evaluate
from nearfar.evaluation.scores import Score as Score
from nearfar.evaluation.table import Evaluation as Evaluation
