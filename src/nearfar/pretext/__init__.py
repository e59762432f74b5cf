"""What is done to images before the network sees them, for it to undo."""

from nearfar.pretext.corruptions import AdversarialNoise as AdversarialNoise
from nearfar.pretext.corruptions import CentralHole as CentralHole
from nearfar.pretext.corruptions import Corrupted as Corrupted
from nearfar.pretext.corruptions import Corruption as Corruption
from nearfar.pretext.corruptions import GaussianNoise as GaussianNoise
from nearfar.pretext.corruptions import Identity as Identity
from nearfar.pretext.corruptions import MaskingNoise as MaskingNoise
from nearfar.pretext.corruptions import RandomHoles as RandomHoles
from nearfar.pretext.corruptions import cut as cut
