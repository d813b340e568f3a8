"""Colour profiles: pictures in sRGB, as the ICC profile in their file means them."""

from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_KEY = "icc_profile"  # of Pillow's `info`
_MODES = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L", "LA"), "CMYK": ("CMYK",)}


def to_srgb(image: Image.Image) -> Image.Image:
    """A Pillow picture of eight bits in sRGB; as it is where its profile is sRGB or unusable.

    The profile is `image.info["icc_profile"]`; the intent is the one it names. Alpha is kept.
    """
    content = image.info.get(_KEY)
    if not content:
        return image
    if image.mode == "P" or (image.mode in ("RGB", "L") and image.has_transparency_data):
        grey = image.mode == "L"
        image = image.convert(("LA" if grey else "RGBA") if image.has_transparency_data else "RGB")
    transform = _transform(content, "L" if image.mode == "LA" else image.mode)
    if transform is None:
        return image
    if image.mode != "LA":
        found = ImageCms.applyTransform(image, transform)
    else:
        grey_levels, alpha = image.split()
        found = ImageCms.applyTransform(grey_levels, transform)
        if found is not None:
            found.putalpha(alpha)
    assert found is not None  # it returns None only where it changes its argument
    return found


def levels_to_srgb(rgb: NDArray[np.uint8], profile: bytes | None) -> NDArray[np.uint8]:
    """Levels (H, W, 3) of an RGB or grey profile in sRGB."""
    if not profile:
        return rgb
    for image in (Image.fromarray(rgb), Image.fromarray(np.ascontiguousarray(rgb[..., 0]))):
        image.info[_KEY] = profile
        if _transform(profile, image.mode) is not None:
            return np.array(to_srgb(image))
    return rgb


def cmyk_to_srgb(cmyk: NDArray[np.uint8], profile: bytes | None) -> NDArray[np.uint8] | None:
    """Inks (H, W, 4), 0 to 255, in sRGB; None: no profile says what they look like."""
    image = Image.frombytes("CMYK", cmyk.shape[1::-1], cmyk.tobytes())
    image.info[_KEY] = profile
    found = to_srgb(image)
    return np.array(found) if found.mode == "RGB" else None


@lru_cache(maxsize=16)
def _transform(content: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB for pictures of a mode; None: there is nothing to do."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(content))
        if mode not in _MODES.get(profile.profile.xcolor_space, ()):
            return None
        if "sRGB" in (profile.profile.profile_description or ""):
            return None
        return ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGBA" if mode == "RGBA" else "RGB",
            ImageCms.Intent(ImageCms.getDefaultIntent(profile)),
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None  # a broken profile says nothing
