"""Metadata of encoded images: remove what no pixel depends on, and read the orientation.

Cameras, editors and web services write EXIF, XMP, profiles and texts that break their specifications. PIL
refuses an image for some of them, while browsers and viewers show it. So Roster gives PIL only the parts of
a file that its pixels depend on, and reads the orientation itself, as tolerantly as it can.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

EXIF_HEADER = b"Exif\0\0"
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
"""The first bytes of TIFF and of EXIF, which has TIFF's form, with `struct`'s character for the order."""

ORIENTATION = 0x0112
INTEGER_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""TIFF's types of integers, with `struct`'s characters. Some writers give the orientation another than 3."""
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')

JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})  # TEM, RST0-RST7, SOI and EOI
JPEG_SCAN = 0xDA
JPEG_METADATA = frozenset({*range(0xE0, 0xF0), 0xFE})  # APP0-APP15 and comments
# The decoder chooses the colours by JFIF's and Adobe's segments, and ignores shorter ones as libjpeg does.
JPEG_COLOUR_SEGMENTS = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
# The tags of TIFF that its pixels and their orientation depend on.
TIFF_PIXEL_TAGS = frozenset(
    {*range(256, 260), 262, 266, 273, 274, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326), 332}
    | {338, 339, 347, *range(512, 522), *range(529, 533)}
)
MAX_PROFILE = 1024 * 1024  # bytes of a decompressed profile
HEIF_EXIF_ITEM = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", re.DOTALL)


class StrippedImage(NamedTuple):
    """An encoded image without metadata, and what these said of its orientation."""

    data: bytes
    exif: bytes = b""
    xmp: bytes = b""


def strip_metadata(encoded: bytes) -> StrippedImage:
    """Remove an image's metadata; its pixels stay the same.

    An image of a format without harmful metadata, or whose parts cannot be found, is returned unchanged.
    """
    strip = next((strip for start, strip in STRIPPERS.items() if encoded.startswith(start)), None)
    if strip is None and encoded[4:8] == b"ftyp":
        strip = _strip_heif
    return strip(encoded) if strip else StrippedImage(encoded)


def find_orientation(exif: bytes, xmp: bytes) -> int:
    """Return the orientation, 1 (upright) to 8, from EXIF or else from XMP; 1 if it is absent or unknown."""
    orientation = _exif_orientation(exif)
    if orientation is None and (found := XMP_ORIENTATION.search(xmp)):
        orientation = int(found[1])
    return orientation if orientation is not None and 1 <= orientation <= 8 else 1


def _exif_orientation(exif: bytes) -> int | None:
    """Return the value of the orientation's entry, if EXIF has one that is an integer."""
    exif = exif.removeprefix(EXIF_HEADER)
    order = BYTE_ORDERS.get(exif[:4])
    if order is None:
        return None
    try:
        for position in _entries(exif, order):
            tag, type_, count = struct.unpack_from(f"{order}HHI", exif, position)
            if tag == ORIENTATION and type_ in INTEGER_TYPES and count:
                return _first_integer(exif, order, position, INTEGER_TYPES[type_], count)
    except struct.error:
        pass  # EXIF ends before its entries do
    return None


def _entries(tiff: bytes, order: str) -> Iterator[int]:
    """Yield the position of each entry in the first directory of TIFF or EXIF."""
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    yield from range(directory + 2, directory + 2 + 12 * count, 12)


def _first_integer(exif: bytes, order: str, entry: int, character: str, count: int) -> int:
    """Return an entry's first value, which stands in the entry itself if all of them have room there."""
    position = entry + 8
    if count * struct.calcsize(character) > 4:
        (position,) = struct.unpack_from(f"{order}I", exif, position)
    value: int = struct.unpack_from(order + character, exif, position)[0]
    return value


def _strip_jpeg(encoded: bytes) -> StrippedImage:
    kept: list[bytes] = []
    copied, exif, xmp = 0, b"", b""
    for marker, start, content, end in _jpeg_segments(encoded):
        data = encoded[content:end]
        if marker not in JPEG_METADATA or _has_colours(marker, data):
            continue
        kept.append(encoded[copied:start])
        copied = end
        if marker == 0xE1:
            exif = exif or (data if data.startswith(EXIF_HEADER) else b"")
            xmp = xmp or (data if data.startswith(XMP_HEADER) else b"")
    return StrippedImage(b"".join([*kept, encoded[copied:]]), exif, xmp)


def _jpeg_segments(encoded: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield the segments before the first scan: marker, start, start of the content, end."""
    start = 2
    while found := JPEG_MARKER.match(encoded, start):
        marker = found[1][0]
        if marker == JPEG_SCAN:
            return
        end = content = found.end()
        if marker not in JPEG_WITHOUT_LENGTH:
            content, end = end + 2, end + int.from_bytes(encoded[end : end + 2], "big")
        if end > len(encoded) or end < content:
            return  # damaged: PIL decides
        yield marker, start, content, end
        start = end


def _has_colours(marker: int, data: bytes) -> bool:
    name, length = JPEG_COLOUR_SEGMENTS.get(marker, (b"", len(data) + 1))
    return data.startswith(name) and len(data) >= length


def _strip_png(encoded: bytes) -> StrippedImage:
    """Keep the critical chunks. The transparency is an ancillary one; RGB images have none."""
    kept: list[bytes] = []
    copied, exif, xmp = 0, b"", b""
    for kind, start, content, end in _png_chunks(encoded):
        if kind[0] & 0x20:  # a small letter: an ancillary chunk
            kept.append(encoded[copied:start])
            copied = end
            data = encoded[content : end - 4]
            exif = exif or (data if kind == b"eXIf" else _raw_profile(kind, data))
            xmp = xmp or (data if kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0") else b"")
    return StrippedImage(b"".join([*kept, encoded[copied:]]), exif, xmp)


def _png_chunks(encoded: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield the chunks: kind, start, start of the data, end (after the checksum)."""
    start = len(PNG_SIGNATURE)
    while start + 12 <= len(encoded):
        kind = encoded[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(encoded[start : start + 4], "big")
        if end > len(encoded) or kind == b"IEND":
            return
        yield kind, start, start + 8, end
        start = end


def _raw_profile(kind: bytes, data: bytes) -> bytes:
    """Return the EXIF that ImageMagick writes into a text: a name, its length and hexadecimal digits."""
    keyword, _, text = data.partition(b"\0")
    if keyword != b"Raw profile type exif" or kind not in (b"tEXt", b"zTXt"):
        return b""
    try:
        plain = zlib.decompressobj().decompress(text[1:], MAX_PROFILE) if kind == b"zTXt" else text
        return bytes.fromhex("".join(plain.decode("ascii").split("\n")[3:]))
    except (zlib.error, ValueError):
        return b""


def _strip_tiff(encoded: bytes) -> StrippedImage:
    """Keep the entries of the first directory that the pixels depend on. PIL reads the orientation itself."""
    order = BYTE_ORDERS[encoded[:4]]
    try:
        entries = [encoded[position : position + 12] for position in _entries(encoded, order)]
        kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] in TIFF_PIXEL_TAGS]
    except struct.error:
        return StrippedImage(encoded)
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)  # and no further directory
    (start,) = struct.unpack_from(f"{order}I", encoded, 4)
    return StrippedImage(encoded[:start] + directory + encoded[start + len(directory) :])


def _strip_heif(encoded: bytes) -> StrippedImage:
    """Rename EXIF's item. HEIF and AVIF turn an image by properties of the image, whatever EXIF says."""
    return StrippedImage(HEIF_EXIF_ITEM.sub(rb"\1skip", encoded))


STRIPPERS: dict[bytes, Callable[[bytes], StrippedImage]] = {
    b"\xff\xd8\xff": _strip_jpeg,
    PNG_SIGNATURE: _strip_png,
    **dict.fromkeys(BYTE_ORDERS, _strip_tiff),
}
