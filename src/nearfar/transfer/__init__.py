"""Transfer of backbones to classification, detection and segmentation."""

from nearfar.transfer.annotations import Objects, read_objects, read_presence
from nearfar.transfer.backbones import BackboneSpec, new_backbone, open_backbone
from nearfar.transfer.classification import (
    CLASSIFICATION_CONFIG,
    PROTOCOLS,
    FinetunedClassifier,
    Protocol,
    check_image_shape,
    classification_metrics,
    finetune_classifier,
)
from nearfar.transfer.classification_data import (
    ClassificationSet,
    open_classification_set,
    single_label_set,
    split_labeled_images,
    subsample_per_class,
)
from nearfar.transfer.detection import (
    DETECTION_CONFIG,
    DETECTION_SIZE,
    DetectionSet,
    FinetunedDetector,
    finetune_detector,
    open_detection_set,
)
from nearfar.transfer.devkit import BACKGROUND, VOC_CLASSES, Devkit
from nearfar.transfer.finetuning import FinetuneConfig
from nearfar.transfer.label_maps import (
    IGNORE_INDEX,
    LabelMap,
    read_label_map,
    voc_color,
    write_label_map,
)
from nearfar.transfer.loading import Finetuned, load_finetuned
from nearfar.transfer.metrics import (
    ConfusionMatrix,
    Detections,
    average_precision,
    classification_ap,
    detection_ap,
)
from nearfar.transfer.pictures import Picture, read_scaled
from nearfar.transfer.predictions import write_predictions
from nearfar.transfer.proposals import propose, selective_search
from nearfar.transfer.segmentation import (
    SEGMENTATION_CONFIG,
    SEGMENTATION_SIZE,
    FinetunedSegmenter,
    SegmentationSet,
    Stride,
    finetune_segmenter,
    open_segmentation_set,
)
from nearfar.transfer.storage import claim_folder
from nearfar.transfer.synthetic_devkit import write_classes, write_scenes
from nearfar.transfer.tasks import (
    PROPOSALS_FOLDER,
    Source,
    TransferResult,
    transfer_classification,
    transfer_detection,
    transfer_segmentation,
)

__all__ = [
    "BACKGROUND",
    "CLASSIFICATION_CONFIG",
    "DETECTION_CONFIG",
    "DETECTION_SIZE",
    "IGNORE_INDEX",
    "PROPOSALS_FOLDER",
    "PROTOCOLS",
    "SEGMENTATION_CONFIG",
    "SEGMENTATION_SIZE",
    "VOC_CLASSES",
    "BackboneSpec",
    "ClassificationSet",
    "ConfusionMatrix",
    "DetectionSet",
    "Detections",
    "Devkit",
    "FinetuneConfig",
    "Finetuned",
    "FinetunedClassifier",
    "FinetunedDetector",
    "FinetunedSegmenter",
    "LabelMap",
    "Objects",
    "Picture",
    "Protocol",
    "SegmentationSet",
    "Source",
    "Stride",
    "TransferResult",
    "average_precision",
    "check_image_shape",
    "claim_folder",
    "classification_ap",
    "classification_metrics",
    "detection_ap",
    "finetune_classifier",
    "finetune_detector",
    "finetune_segmenter",
    "load_finetuned",
    "new_backbone",
    "open_backbone",
    "open_classification_set",
    "open_detection_set",
    "open_segmentation_set",
    "propose",
    "read_label_map",
    "read_objects",
    "read_presence",
    "read_scaled",
    "selective_search",
    "single_label_set",
    "split_labeled_images",
    "subsample_per_class",
    "transfer_classification",
    "transfer_detection",
    "transfer_segmentation",
    "voc_color",
    "write_classes",
    "write_label_map",
    "write_predictions",
    "write_scenes",
]
