"""Defense of classifiers by purification, and attacks that measure the robustness."""

from nearfar.defense.adversarial_training import train_adversarially
from nearfar.defense.assessment import MIN_IMAGES_FOR_MASKING, Assessment, assess
from nearfar.defense.attacks import HOP_SKIP_JUMP_STEPS, PGD_STEPS, attack, check_attacks
from nearfar.defense.classifiers import (
    SUBSTITUTE_EPOCHS,
    Classifier,
    load_classifier,
    load_pixels,
    predict_classes,
    save_classifier,
    train_classifier,
)
from nearfar.defense.defended import (
    REJECTED,
    DefendedClassifier,
    NeighborVoting,
    ThresholdDetector,
    apply_in_batches,
    device_of,
    rejection_threshold,
)
from nearfar.defense.magnet import MAGNET_NOISE_STD, JensenShannonScore, magnet
from nearfar.defense.neighbor_purifier import NeighborPurifier
from nearfar.defense.open import open_classifier
from nearfar.defense.purification import PurifiedBatch, error_threshold, purify, write_purified
from nearfar.defense.purifier import FALSE_POSITIVE_RATE, Purifier, ReconstructionScore
from nearfar.defense.robustness import (
    MaskingCheck,
    Outcome,
    evaluate_defense,
    gradient_masking,
    security_curve,
)
from nearfar.defense.threats import DEFENSE_UNSEEN, THREATS, Threat

__all__ = [
    "DEFENSE_UNSEEN",
    "FALSE_POSITIVE_RATE",
    "HOP_SKIP_JUMP_STEPS",
    "MAGNET_NOISE_STD",
    "MIN_IMAGES_FOR_MASKING",
    "PGD_STEPS",
    "REJECTED",
    "SUBSTITUTE_EPOCHS",
    "THREATS",
    "Assessment",
    "Classifier",
    "DefendedClassifier",
    "JensenShannonScore",
    "MaskingCheck",
    "NeighborPurifier",
    "NeighborVoting",
    "Outcome",
    "PurifiedBatch",
    "Purifier",
    "ReconstructionScore",
    "Threat",
    "ThresholdDetector",
    "apply_in_batches",
    "assess",
    "attack",
    "check_attacks",
    "device_of",
    "error_threshold",
    "evaluate_defense",
    "gradient_masking",
    "load_classifier",
    "load_pixels",
    "magnet",
    "open_classifier",
    "predict_classes",
    "purify",
    "rejection_threshold",
    "save_classifier",
    "security_curve",
    "train_adversarially",
    "train_classifier",
    "write_purified",
]
