"""Images in requests: bytes, base64 or a data: URL become bytes that are safe to decode.

`image_bytes` reads the image's header only, so an oversized or broken image is refused before its pixels
take memory. `decode_image` decodes; the replica calls it outside its event loop.
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
# A subset of what PIL reads: some formats start external programs (EPS), most are never sent.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")

# A 64 x 64 PNG with a red circle on white: the example and warm-up input of every image task.
EXAMPLE_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABABAMAAABYR2ztAAAAGFBMVEX//////v7+/Pz65+feYWHSKirSKCjQHx9j6CseAAABiUlE"
    "QVR42u2Uz2vCMBTHv6mC7aVNPQhOXFcrDC9j6A77A/Zfj7HjkP2CgcepPWxuHmxaHKaDNTvMqXmt3gUfFELepy/ffPMSYD/DdXem"
    "q/7ftzUPBF1gTTA9b2SB7yKKHv3Rcqas5ZndDk6UaGX8hosiwJkH9hCI2AVul1MlbYH0qha7lmVVJp0vU+QBL7j85ADArCnvqxzA"
    "Sm3Jl+PK0VxKADA2AXbGV+MwYDmRx6fhCoDt5DQYRgfmuty0bAqyROxx7UwE0WDrJ2B3EwLwaqjbCroLTg7OI4Ag+VhxDWCGXoEx"
    "rgOIFamQ01AYG4BiuwHl6CqVDeKkQ/51Ymo13WdIfcj0GoqKTJ41I5KRQ7dJfJg5pB+U97PRD6p2JyTth5m36etY0KZNPxryv4T6"
    "vjdFTkNztCoRN1/G+XuRTBoLCwAQta4rBRdHeWlvIi1EsvXQjwquHuL3tMcXolp/HShZBMAdpqJafxsOQln8PsAflc6hnoxs1xMD"
    "tPi2FwYAc3kU4RCH2N/4BSdEe5o3JqFgAAAAAElFTkSuQmCC"
)


def image_bytes(value: object) -> bytes:
    """Return the encoded image (PNG, JPEG, WebP, ...) in `value`.

    `value` is bytes, a base64 string or a `data:` URL. Raises `InvalidInput` if it is none of these or not an
    image, `TooLarge` over 20 MiB or 64 million pixels.
    """
    encoded = _decode_base64(value) if isinstance(value, str) else value
    if not isinstance(encoded, bytes):
        raise InvalidInput(f"an image is bytes or a base64 string, not {type(value).__name__}")
    if len(encoded) > MAX_BYTES:
        raise TooLarge(f"the image has {len(encoded):,} bytes; at most {MAX_BYTES:,} are accepted")
    with _open_header(encoded):
        return encoded


def decode_image(encoded: bytes) -> "Image.Image":
    """Decode to an upright RGB image. Raises `InvalidInput` if the data is damaged."""
    from PIL import ImageOps

    with _open_header(encoded) as image:
        try:
            return _to_eight_bit(ImageOps.exif_transpose(image)).convert("RGB")
        except Exception as error:
            raise InvalidInput("the image is damaged") from error


def _to_eight_bit(image: "Image.Image") -> "Image.Image":
    """Scale deeper greyscale to 8 bit. PIL's own conversion clips it at white."""
    if not image.mode.startswith(("I", "F")):
        return image
    darkest, brightest = cast("tuple[float, float]", image.getextrema())
    if image.mode.startswith("I;16"):
        darkest, brightest = 0, 65535
    scale = 255 / ((brightest - darkest) or 1)
    return image.convert("F").point(lambda value: value * scale - darkest * scale).convert("L")


def _open_header(encoded: bytes) -> "Image.Image":
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"the image has too many pixels; at most {MAX_PIXELS:,} are accepted") from None
    except Exception as error:
        raise InvalidInput("the data is not an image in a known format") from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        raise TooLarge(f"the image has {size} pixels; at most {MAX_PIXELS:,} are accepted")
    return image


def _decode_base64(text: str) -> bytes:
    if text.startswith("data:"):
        _, comma, text = text.partition(",")
        if not comma:
            raise InvalidInput("the data: URL has no data")
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise TooLarge(f"the image is over {MAX_BYTES:,} bytes")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"Invalid base64-encoded string: {error}") from error
