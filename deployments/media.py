"""Pictures at the door: bytes, base64 or a data: URL become bytes that are safe to decode.

`picture_bytes` looks at a picture's header only, so an oversized or broken one is refused before any
memory is taken for its pixels. `open_picture` decodes, in the replica, off the event loop.
"""

import base64
import binascii
import io
from typing import TYPE_CHECKING, cast

from deployments.errors import InvalidInput, TooLarge

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 64_000_000
# Not all that PIL reads: some formats start programs of their own (EPS), most are never sent.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")

# A 64 x 64 PNG with a red circle on white: every image task's example and warm-up.
EXAMPLE_PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABABAMAAABYR2ztAAAAGFBMVEX//////v7+/Pz65+feYWHSKirSKCjQHx9j6CseAAABiUlE"
    "QVR42u2Uz2vCMBTHv6mC7aVNPQhOXFcrDC9j6A77A/Zfj7HjkP2CgcepPWxuHmxaHKaDNTvMqXmt3gUfFELepy/ffPMSYD/DdXem"
    "q/7ftzUPBF1gTTA9b2SB7yKKHv3Rcqas5ZndDk6UaGX8hosiwJkH9hCI2AVul1MlbYH0qha7lmVVJp0vU+QBL7j85ADArCnvqxzA"
    "Sm3Jl+PK0VxKADA2AXbGV+MwYDmRx6fhCoDt5DQYRgfmuty0bAqyROxx7UwE0WDrJ2B3EwLwaqjbCroLTg7OI4Ag+VhxDWCGXoEx"
    "rgOIFamQ01AYG4BiuwHl6CqVDeKkQ/51Ymo13WdIfcj0GoqKTJ41I5KRQ7dJfJg5pB+U97PRD6p2JyTth5m36etY0KZNPxryv4T6"
    "vjdFTkNztCoRN1/G+XuRTBoLCwAQta4rBRdHeWlvIi1EsvXQjwquHuL3tMcXolp/HShZBMAdpqJafxsOQln8PsAflc6hnoxs1xMD"
    "tPi2FwYAc3kU4RCH2N/4BSdEe5o3JqFgAAAAAElFTkSuQmCC"
)


def picture_bytes(value: object) -> bytes:
    """The encoded picture (PNG, JPEG, WebP, ...) that `value` holds.

    `value` is bytes as they are, or a string: base64, or a `data:` URL of it. Raises `InvalidInput` when it
    is none of these or no picture, `TooLarge` over 20 MiB or 64 million pixels.
    """
    encoded = _from_text(value) if isinstance(value, str) else value
    if not isinstance(encoded, bytes):
        raise InvalidInput(f"a picture is bytes or a base64 string, not {type(value).__name__}")
    if len(encoded) > MAX_BYTES:
        raise TooLarge(f"the picture has {len(encoded):,} bytes; at most {MAX_BYTES:,} are accepted")
    with _header(encoded):
        return encoded


def open_picture(encoded: bytes) -> "Image.Image":
    """Decode to an upright RGB picture. Raises `InvalidInput` when the data is damaged."""
    from PIL import ImageOps

    with _header(encoded) as picture:
        try:
            return _eight_bit(ImageOps.exif_transpose(picture)).convert("RGB")
        except Exception as damaged:
            raise InvalidInput("the picture is damaged") from damaged


def _eight_bit(picture: "Image.Image") -> "Image.Image":
    """PIL cuts deeper grey off at white instead of scaling it."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    least, most = cast("tuple[float, float]", picture.getextrema())
    if picture.mode.startswith("I;16"):
        least, most = 0, 65535
    scale = 255 / ((most - least) or 1)
    return picture.convert("F").point(lambda value: value * scale - least * scale).convert("L")


def _header(encoded: bytes) -> "Image.Image":
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"the picture has too many pixels; at most {MAX_PIXELS:,} are accepted") from None
    except Exception as unknown:
        raise InvalidInput("the data is not a picture in a known format") from unknown
    if picture.width * picture.height > MAX_PIXELS:
        size = f"{picture.width} x {picture.height}"
        raise TooLarge(f"the picture has {size} pixels; at most {MAX_PIXELS:,} are accepted")
    return picture


def _from_text(text: str) -> bytes:
    if text.startswith("data:"):
        _, comma, text = text.partition(",")
        if not comma:
            raise InvalidInput("the data: URL has no data")
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise TooLarge(f"the picture is over {MAX_BYTES:,} bytes")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as broken:
        raise InvalidInput(f"Invalid base64-encoded string: {broken}") from broken
