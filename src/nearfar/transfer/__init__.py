"""Using what was learned for classification, detection and segmentation."""

from nearfar.transfer.devkit import Devkit as Devkit
from nearfar.transfer.schedule import Schedule as Schedule
from nearfar.transfer.weights import open_backbone as open_backbone
