"""Model card of an exported encoder, in the format of the Hugging Face Hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from nearfar.config import flatten
from nearfar.evaluation import Evaluation
from nearfar.export import Export, ExportFormat
from nearfar.files import atomic_path
from nearfar.report.tables import evaluation_markdown
from nearfar.runs import Run

MODEL_CARD = "README.md"

#: Libraries that read the exported files, by the names of the Hub.
_LIBRARIES: dict[ExportFormat, str] = {"onnx": "onnx", "torch": "pytorch", "timm": "timm"}
_USE: dict[ExportFormat, str] = {
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(embeddings,) = session.run(["embeddings"], {{"images": images}})  # float32{shape}, 0…1""",
    "torch": """import torch

encoder = torch.export.load("model.pt2").module()
embeddings = encoder(images)  # float32{shape}, 0…1""",
    "timm": """import timm

encoder = timm.create_model("local-dir:.", pretrained=True).eval()
config = timm.data.resolve_model_data_config(encoder)
transform = timm.data.create_transform(**config, is_training=False)
embeddings = encoder(transform(image).unsqueeze(0))  # {shape} before the mean is subtracted""",
}

_CARD = """---
{head}---

# {title}

An image encoder, trained without labels by [nearfar](https://pypi.org/project/nearfar/) {version}.
Similar images have similar embeddings, by {similarity} similarity.

```python
{use}
```

## Data

{images:,} images of {width}×{height} pixels in {kind}, from `{source}`. No labels were used.

## Settings

```yaml
{settings}```

## Evaluation

{evaluation}

On {compared} images, embeddings differ from nearfar's own by at most {difference:.1e}; the
largest value is {largest:.3g}.

## License

The weights are yours: nearfar sets no terms for them. Choose a license for them, and state it at
the top of this file. Consider the terms of the images, and of pretrained weights that training
started from, if any.
"""


def write_model_card(
    folder: str | os.PathLike[str],
    run: Run,
    export: Export,
    *,
    evaluation: Evaluation | None = None,
) -> Path:
    """Write the model card of an exported encoder to ``README.md`` in the folder of the encoder.

    Parameters
    ----------
    folder : str or path
        Folder of the exported encoder.
    run : Run
        Run from which the encoder was exported.
    export : Export
        Result of `nearfar.export.export_encoder`.
    evaluation : Evaluation, optional
        Scores of the run. Default: the card states that the run was not evaluated.

    Returns
    -------
    Path
        Path of the model card.

    Examples
    --------
    >>> import tempfile, torch
    >>> from nearfar import recipe, train
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> run = train(images, recipe("paper", pretrain_epochs=1, epochs=1, clusters=3))
    >>> export = Export("onnx", Path("model.onnx"), images=20, difference=1e-6, largest=1.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     card = write_model_card(folder, run, export).read_text()
    >>> card.splitlines()[:2]
    ['---', 'library_name: onnx']
    """
    import nearfar

    channels, height, width = run.config.data.shape
    head: dict[str, Any] = {
        "library_name": _LIBRARIES[export.to],
        "pipeline_tag": "image-feature-extraction",
        "tags": ["nearfar", "self-supervised-learning"],
        "license": "other",
        "license_name": "to-be-chosen",
    }
    settings = flatten(run.config.train.to_dict())
    known = {name: value for name, value in settings.items() if value is not None}
    scores = "Not evaluated." if evaluation is None else evaluation_markdown(evaluation)
    card = _CARD.format(
        head=yaml.safe_dump(head, sort_keys=False),
        title=f"{run.method} encoder of {Path(run.config.data.source).name}",
        version=nearfar.__version__,
        similarity=run.config.train.similarity,
        use=_USE[export.to].format(shape=f"[b, {channels}, {height}, {width}]"),
        images=run.config.data.images,
        width=width,
        height=height,
        kind="gray" if channels == 1 else "color",
        source=run.config.data.source,
        settings=yaml.safe_dump(known, sort_keys=False, allow_unicode=True),
        evaluation=scores.rstrip(),
        compared=export.images,
        difference=export.difference,
        largest=export.largest,
    )
    path = Path(folder) / MODEL_CARD
    with atomic_path(path) as temporary:
        temporary.write_text(card, encoding="utf-8")
    return path
