"""Conversion of the colors of image files to sRGB."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from PIL import Image, features

#: Gamma of sRGB, as stated in PNG files.
SRGB_GAMMA = 1 / 2.2
#: Maximum change of a color value, in [0, 255], by a profile that counts as sRGB.
PROFILE_TOLERANCE = 3


def to_srgb(image: Image.Image, info: dict[Any, Any]) -> Image.Image:
    """Convert an image to sRGB, according to the color metadata of its file.

    Parameters
    ----------
    image : PIL.Image.Image
        Decoded image.
    info : mapping
        Metadata that PIL read from the file. The entry ``icc_profile`` is used or, for PNG files,
        ``gamma``. Damaged profiles are ignored.

    Examples
    --------
    >>> dark = Image.new("L", (1, 1), 55)
    >>> to_srgb(dark, {"gamma": 1.0}).getpixel((0, 0))
    127
    """
    return _with_gamma(_in_srgb(image, info.get("icc_profile")), info)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image with an embedded profile to sRGB; damaged profiles are ignored."""
    if not profile or not features.check("littlecms2"):
        return image
    if image.mode == "LA":
        gray, alpha = image.split()
        return Image.merge("LA", (_in_srgb(gray, profile), alpha))
    if image.mode not in ("L", "RGB", "RGBA", "CMYK"):  # palettes, one bit
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    transform = _transform(profile, image.mode)
    if transform is None:
        return image
    if isinstance(transform, list):
        return image.point(transform)
    from PIL import ImageCms

    return ImageCms.applyTransform(image, transform) or image


def _with_gamma(image: Image.Image, info: dict[Any, Any]) -> Image.Image:
    """Convert a PNG image with a gamma value, but without a profile, to sRGB."""
    gamma = info.get("gamma", SRGB_GAMMA)
    if "srgb" in info or info.get("icc_profile") or not 0.1 < gamma / SRGB_GAMMA < 10:
        return image
    table = 255 * (np.arange(256) / 255) ** (SRGB_GAMMA / gamma)
    levels = np.rint(table).astype(int).tolist()
    if np.abs(table - np.arange(256)).max() <= PROFILE_TOLERANCE:
        return image
    image = image.convert("RGBA" if image.has_transparency_data else image.mode.replace("P", "RGB"))
    alpha = image.mode in ("LA", "RGBA")
    return image.point(levels * (len(image.getbands()) - alpha) + list(range(256)) * alpha)


@functools.lru_cache(64)
def _transform(profile: bytes, mode: str) -> Any:
    """Return the conversion from a color profile to sRGB.

    For grayscale images, the conversion is a table of 256 values; for color images, a transform of
    PIL.ImageCms. Return None if the profile is damaged, does not match the mode, or does not change
    colors.
    """
    from PIL import ImageCms

    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}.get(given.profile.xcolor_space)
        if space != mode.removesuffix("A"):
            return None
        target = "RGBA" if mode == "RGBA" else "RGB"
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(given, srgb, mode, target)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    if mode == "CMYK":
        return transform
    steps = np.arange(256) if mode == "L" else np.linspace(0, 255, 6)
    colors = np.stack(np.meshgrid(*[steps.astype(np.uint8)] * len(space)), -1)
    palette = Image.fromarray(colors.reshape(1, -1, len(space)).squeeze(-1 if mode == "L" else ()))
    palette = palette.convert(mode)
    made = ImageCms.applyTransform(palette, transform) or palette
    changes = np.abs(
        np.asarray(made.convert("RGB")).astype(int) - np.asarray(palette.convert("RGB"))
    )
    if changes.max() <= PROFILE_TOLERANCE:
        return None
    return list(made.getchannel(0).tobytes()) if mode == "L" else transform
