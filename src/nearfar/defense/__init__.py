"""Guarding classifiers by reconstruction, and attacks that say what the guard is worth."""

from nearfar.defense.classifiers import Classifier as Classifier
from nearfar.defense.classifiers import load_classifier as load_classifier
from nearfar.defense.classifiers import save_classifier as save_classifier
from nearfar.defense.classifiers import train_classifier as train_classifier
from nearfar.defense.guard import Detector as Detector
from nearfar.defense.guard import Guarded as Guarded
from nearfar.defense.magnet import magnet as magnet
from nearfar.defense.neighbors import Consensus as Consensus
from nearfar.defense.neighbors import NeighborPurifier as NeighborPurifier
from nearfar.defense.purifier import Purifier as Purifier
