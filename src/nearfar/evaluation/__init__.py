"""Evaluation of embeddings on labeled images, with a fixed protocol."""

from nearfar.evaluation import scores
from nearfar.evaluation.linear_svm import LinearSVM
from nearfar.evaluation.protocol import Features, evaluate
from nearfar.evaluation.run import evaluate_encoder, evaluate_run, read_scores, small_pixels
from nearfar.evaluation.scores import LabeledEmbeddings, Score
from nearfar.evaluation.table import BLANK, Evaluation
from nearfar.evaluation.validation import Validation, knn_accuracy, knn_verdict

__all__ = [
    "BLANK",
    "Evaluation",
    "Features",
    "LabeledEmbeddings",
    "LinearSVM",
    "Score",
    "Validation",
    "evaluate",
    "evaluate_encoder",
    "evaluate_run",
    "knn_accuracy",
    "knn_verdict",
    "read_scores",
    "scores",
    "small_pixels",
]
