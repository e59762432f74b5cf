"""Finding what is not normal, in video and in images, after learning from normal ones alone."""

from nearfar.anomaly.clips import Clip as Clip
from nearfar.anomaly.clips import Frame as Frame
from nearfar.anomaly.clips import as_frames as as_frames
from nearfar.anomaly.clips import open_clips as open_clips
from nearfar.anomaly.config import DetectorConfig as DetectorConfig
from nearfar.anomaly.detector import Detector as Detector
from nearfar.anomaly.detector import Scored as Scored
from nearfar.anomaly.fitting import fit_detector as fit_detector
from nearfar.anomaly.folder import read_detector as read_detector
from nearfar.anomaly.masks import find_masks as find_masks
