"""Self-supervised image representations by neighborhood-relational encoding (NRE).

Examples
--------
>>> import numpy as np
>>> import nearfar
>>> images = np.random.default_rng(0).random((40, 16, 16))
>>> nearfar.NRE(pretrain_epochs=1, epochs=1).fit_transform(images).shape
(40, 128)
"""

from typing import TYPE_CHECKING

from nearfar.lazy import on_first_use

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nearfar.config import TrainConfig as TrainConfig
    from nearfar.config import configure as configure
    from nearfar.config import recipe as recipe
    from nearfar.data import open_images as open_images
    from nearfar.errors import NearfarError as NearfarError
    from nearfar.estimator import NRE as NRE
    from nearfar.runs import Run as Run
    from nearfar.runs import read_run as read_run
    from nearfar.training import train as train

#: Module that defines each public name. Names are imported on first use, since torch takes seconds.
_HOMES = {
    "NRE": "estimator",
    "NearfarError": "errors",
    "Run": "runs",
    "TrainConfig": "config",
    "configure": "config",
    "open_images": "data",
    "read_run": "runs",
    "recipe": "config",
    "train": "training",
}

__all__ = [
    "NRE",
    "NearfarError",
    "Run",
    "TrainConfig",
    "__version__",
    "configure",
    "open_images",
    "read_run",
    "recipe",
    "train",
]

__getattr__ = on_first_use(__name__, _HOMES)
