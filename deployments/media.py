"""Images in requests: bytes, base64 or a data: URL become bytes that are safe to decode.

`image_bytes` reads the image's header only, so an oversized or broken image is refused before its pixels
take memory. `decode_image` decodes; the replica calls it outside its event loop.
"""

import base64
import binascii
import io
from functools import cache
from typing import TYPE_CHECKING, Literal, cast

from deployments.errors import InvalidInput, TooLarge
from deployments.image_metadata import find_orientation, strip_metadata

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 20 * 1024 * 1024
MAX_BASE64 = MAX_BYTES * 4 // 3 + 1024  # characters, with padding and the start of a data: URL
MAX_PIXELS = 64_000_000
# A subset of what PIL reads: some formats start external programs (EPS), most are never sent.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
# Formats that people send and that are not read, by the first bytes; the error names them.
UNREAD_FORMATS = {
    b"%PDF": "a PDF document",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML document, perhaps an SVG drawing",
    b"%!PS": "a PostScript document",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
}
UNKNOWN = "the data is not an image in a known format"
NO_HEIC = (
    "HEIC images are not read by this server; send JPEG, PNG, WebP or AVIF (the operator may install "
    "pillow-heif, the extra `heic`)"
)
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
MAX_BRANDS = 256  # bytes
TRANSPOSITIONS = {  # by the orientation: how to make the image upright
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

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
    with _open_header(strip_metadata(encoded).data):
        return encoded


def decode_image(encoded: bytes, mode: Literal["L", "RGB"] = "RGB") -> "Image.Image":
    """Decode to an upright image, in colours or (`L`) in shades of grey.

    Metadata that break their specification change nothing. Raises `InvalidInput` if the pixels are damaged.
    """
    stripped = strip_metadata(encoded)
    with _open_header(stripped.data) as image:
        try:
            image.load()
            exif = stripped.exif or image.info.get("exif") or b""
            xmp = stripped.xmp or image.info.get("xmp") or b""
            upright = _transpose(image, find_orientation(exif, xmp))
            rgb = _to_eight_bit(upright).convert("RGB")
        except Exception as error:
            raise InvalidInput("the image is damaged") from error
    return rgb if mode == "RGB" else rgb.convert(mode)


def _transpose(image: "Image.Image", orientation: int) -> "Image.Image":
    from PIL import Image

    image.info.pop("transparency", None)  # RGB has none, and PIL warns about some
    if image.format == "TIFF" or orientation not in TRANSPOSITIONS:
        return image  # PIL turns TIFF itself
    return image.transpose(Image.Transpose[TRANSPOSITIONS[orientation]])


def _to_eight_bit(image: "Image.Image") -> "Image.Image":
    """Scale deeper greyscale to 8 bit. PIL's own conversion clips it at white."""
    if not image.mode.startswith(("I", "F")):
        return image
    darkest, brightest = 0.0, 65535.0
    if not image.mode.startswith("I;16"):
        darkest, brightest = cast("tuple[float, float]", image.getextrema())
    scale = 255 / ((brightest - darkest) or 1)
    return image.convert("F").point(lambda value: value * scale - darkest * scale).convert("L")


def _open_header(encoded: bytes) -> "Image.Image":
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(encoded), formats=_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"the image has too many pixels; at most {MAX_PIXELS:,} are accepted") from None
    except Exception as error:
        raise InvalidInput(_describe_unread(encoded)) from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        raise TooLarge(f"the image has {size} pixels; at most {MAX_PIXELS:,} are accepted")
    return image


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that are read: HEIC only with the optional pillow-heif."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return FORMATS
    register_heif_opener(thumbnails=False)
    return *FORMATS, "HEIF"


def _describe_unread(encoded: bytes) -> str:
    """Return why the data cannot be opened, with the name of its format if it is well known."""
    if _is_heic(encoded) and "HEIF" not in _formats():
        return NO_HEIC
    start = encoded[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    name = next((name for first, name in UNREAD_FORMATS.items() if start.startswith(first)), None)
    return f"the data is {name}, which is not read; send JPEG, PNG, WebP or AVIF" if name else UNKNOWN


def _is_heic(encoded: bytes) -> bool:
    """Return whether the data begins with a list of brands, one of which is HEIC's."""
    brands = encoded[8 : min(int.from_bytes(encoded[:4], "big"), MAX_BRANDS)]
    return encoded[4:8] == b"ftyp" and any(brand in brands for brand in HEIC_BRANDS)


def _decode_base64(text: str) -> bytes:
    if len(text) > MAX_BASE64:
        raise TooLarge(f"the image is over {MAX_BYTES:,} bytes")
    if text.startswith("data:"):
        _, comma, text = text.partition(",")
        if not comma:
            raise InvalidInput("the data: URL has no data")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"Invalid base64-encoded string: {error}") from error
