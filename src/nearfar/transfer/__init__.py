"""Transfer of backbones to classification, detection and segmentation."""

from typing import TYPE_CHECKING

from nearfar.lazy import on_first_use

if TYPE_CHECKING:
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
    from nearfar.transfer.layout import PROPOSALS_FOLDER
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
        Source,
        TransferResult,
        transfer_classification,
        transfer_detection,
        transfer_segmentation,
    )

#: Module that defines each public name. Names are imported on first use: a devkit is checked
#: without torch, which takes seconds.
_HOMES = {
    "BACKGROUND": "devkit",
    "CLASSIFICATION_CONFIG": "classification",
    "DETECTION_CONFIG": "detection",
    "DETECTION_SIZE": "detection",
    "IGNORE_INDEX": "label_maps",
    "PROPOSALS_FOLDER": "layout",
    "PROTOCOLS": "classification",
    "SEGMENTATION_CONFIG": "segmentation",
    "SEGMENTATION_SIZE": "segmentation",
    "VOC_CLASSES": "devkit",
    "BackboneSpec": "backbones",
    "ClassificationSet": "classification_data",
    "ConfusionMatrix": "metrics",
    "DetectionSet": "detection",
    "Detections": "metrics",
    "Devkit": "devkit",
    "FinetuneConfig": "finetuning",
    "Finetuned": "loading",
    "FinetunedClassifier": "classification",
    "FinetunedDetector": "detection",
    "FinetunedSegmenter": "segmentation",
    "LabelMap": "label_maps",
    "Objects": "annotations",
    "Picture": "pictures",
    "Protocol": "classification",
    "SegmentationSet": "segmentation",
    "Source": "tasks",
    "Stride": "segmentation",
    "TransferResult": "tasks",
    "average_precision": "metrics",
    "check_image_shape": "classification",
    "claim_folder": "storage",
    "classification_ap": "metrics",
    "classification_metrics": "classification",
    "detection_ap": "metrics",
    "finetune_classifier": "classification",
    "finetune_detector": "detection",
    "finetune_segmenter": "segmentation",
    "load_finetuned": "loading",
    "new_backbone": "backbones",
    "open_backbone": "backbones",
    "open_classification_set": "classification_data",
    "open_detection_set": "detection",
    "open_segmentation_set": "segmentation",
    "propose": "proposals",
    "read_label_map": "label_maps",
    "read_objects": "annotations",
    "read_presence": "annotations",
    "read_scaled": "pictures",
    "selective_search": "proposals",
    "single_label_set": "classification_data",
    "split_labeled_images": "classification_data",
    "subsample_per_class": "classification_data",
    "transfer_classification": "tasks",
    "transfer_detection": "tasks",
    "transfer_segmentation": "tasks",
    "voc_color": "label_maps",
    "write_classes": "synthetic_devkit",
    "write_label_map": "label_maps",
    "write_predictions": "predictions",
    "write_scenes": "synthetic_devkit",
}

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

__getattr__ = on_first_use(__name__, _HOMES)
