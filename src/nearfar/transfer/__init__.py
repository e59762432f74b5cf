"""Using what was learned for classification, detection and segmentation."""
