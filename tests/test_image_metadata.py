"""Metadata of images: whatever they hold, the pixels are read, and a valid orientation is applied."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from deployments.image_metadata import strip_metadata
from deployments.media import decode_image, image_bytes

PICTURE = Image.effect_mandelbrot((24, 16), (-2, -1.5, 1, 1.5), 40).convert("RGB")
TYPES = st.integers(0, 20) | st.integers(0, 0xFFFF)
VALUES = st.integers(0, 2**32 - 1), st.binary(min_size=4, max_size=4)  # a count, and a value or an offset
OTHER_TAGS = st.integers(0, 0xFFFF).filter(lambda tag: tag != 0x0112)
ENTRIES = st.lists(st.tuples(OTHER_TAGS, TYPES, *VALUES), max_size=6)
# Tags of TIFF that describe the image or its making.
TIFF_TAGS = st.sampled_from([270, 282, 283, 296, 305, 700, 33432, 34665, 34675, 65000])
TIFF_ENTRIES = st.lists(st.tuples(TIFF_TAGS, TYPES, *VALUES), max_size=4)
TEXT_AS_RESOLUTION = (0x011A, 2, 4, b"abc\0")


def encoded(form: str, image: Image.Image = PICTURE, **options: Any) -> bytes:
    data = io.BytesIO()
    image.copy().save(data, form, **options)  # a copy: PIL leaves the options of one format in the image
    return data.getvalue()


JPEG, PNG = encoded("JPEG", quality=95), encoded("PNG")


def entry(tag: int, type_: int, count: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HHI4s", tag, type_, count, value)


def exif(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """Return EXIF of these entries, which are written as they are."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return (
        start
        + struct.pack(f"{order}H", len(entries))
        + b"".join(entry(*e, order=order) for e in entries)
        + bytes(4)
    )


def orientation(value: int, order: str = "<", type_: int = 3) -> tuple[int, int, int, bytes]:
    return 0x0112, type_, 1, struct.pack(order + {1: "B", 3: "H", 4: "I"}[type_], value).ljust(4, b"\0")


def with_segment(marker: int, content: bytes) -> bytes:
    return JPEG[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + JPEG[2:]


def with_chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return (
        PNG[:33] + struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum) + PNG[33:]
    )


def in_jpeg(data: bytes) -> bytes:
    return with_segment(0xE1, b"Exif\0\0" + data)


def in_png(data: bytes) -> bytes:
    return with_chunk(b"eXIf", data)


def in_webp(data: bytes) -> bytes:
    return encoded("WEBP", lossless=True, exif=b"Exif\0\0" + data)


CONTAINERS = [in_jpeg, in_png, in_webp]
every_container = pytest.mark.parametrize("container", CONTAINERS)


def assert_shows(data: bytes, turned: int = 1) -> None:
    """Fail unless the image is accepted and shows the picture, turned as the orientation says."""
    tagged = Image.Exif()
    tagged[0x0112] = turned
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded("PNG", exif=tagged))))
    shown = decode_image(image_bytes(data))
    assert shown.mode == "RGB"
    assert shown.size == expected.size
    worst = 12 if data.startswith(b"\xff\xd8") or data[4:8] == b"ftyp" else 0  # lossy
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(expected)).mean() <= worst / 4


@every_container
@given(entries=ENTRIES, turned=st.integers(1, 8), order=st.sampled_from("<>"), first=st.booleans())
@settings(deadline=None, max_examples=60)
def test_exif_entries_of_any_kind_leave_image_and_orientation(
    container: Any, entries: list[Any], turned: int, order: str, first: bool
) -> None:
    mine = [orientation(turned, order)]
    assert_shows(container(exif(*(mine + entries if first else entries + mine), order=order)), turned)


@every_container
@given(data=st.binary(max_size=80) | st.binary(max_size=80).map(lambda data: b"II*\0\x08\0\0\0" + data))
@settings(deadline=None, max_examples=60)
def test_exif_of_random_bytes_leaves_the_image(container: Any, data: bytes) -> None:
    decode_image(image_bytes(container(data)))


@every_container
def test_truncated_exif_keeps_an_orientation_that_is_whole(container: Any) -> None:
    whole = exif(orientation(6), TEXT_AS_RESOLUTION)
    for length in range(len(whole)):
        assert_shows(container(whole[:length]), turned=6 if length >= 8 + 2 + 10 else 1)


@every_container
@pytest.mark.parametrize("value", [0, 9, 255, 0xFFFF])
def test_unknown_orientation_leaves_the_image_upright(container: Any, value: int) -> None:
    assert_shows(container(exif(orientation(value), TEXT_AS_RESOLUTION)))


@every_container
@pytest.mark.parametrize("type_", [1, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_of_any_integer_type_is_applied(container: Any, type_: int, order: str) -> None:
    assert_shows(container(exif(orientation(8, order, type_), order=order)), turned=8)


def test_first_of_several_orientations_is_applied() -> None:
    start = b"II*\0" + struct.pack("<IH", 8, 1)
    values = struct.pack("<3H", 3, 1, 1)
    assert_shows(in_jpeg(start + entry(0x0112, 3, 3, struct.pack("<I", 26)) + bytes(4) + values), turned=3)


HEX = b"\nexif\n 26\n" + exif(orientation(6)).hex().encode()
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize(
    "data",
    [
        with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        encoded("WEBP", lossless=True, xmp=XMP),
        with_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(HEX)),
        with_chunk(b"tEXt", b"Raw profile type exif\0" + HEX),
    ],
    ids=["JPEG with XMP", "PNG with XMP", "WebP with XMP", "zTXt of ImageMagick", "tEXt of ImageMagick"],
)
def test_orientation_outside_exif_is_applied(data: bytes) -> None:
    assert_shows(data, turned=6)


@pytest.mark.parametrize(
    "data",
    [
        with_segment(0xE2, b"ICC_PROFILE\0\1\1not a profile"),
        with_segment(0xE2, b"ICC_PROFILE\0"),
        with_segment(0xE2, b"MPF\0II*\0\x08\0\0\0\1\0\1\xb0\4\0\1\0\0\0\2\0\0\0\0\0\0\0"),
        with_segment(0xE2, b"MPF\0nonsense"),
        with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<\xff\xfe broken"),
        with_segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\0\0\xff\xff"),
        with_segment(0xEE, b"Adobe"),
        with_segment(0xE0, b"JFIF"),
        with_segment(0xFE, b"\xff\xfe a comment"),
        with_chunk(b"iCCP", b"x\0\0not compressed"),
        with_chunk(b"iCCP", b""),
        with_chunk(b"tEXt", b"workflow\0" + b"x" * 20, checksum=7),
        with_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(3 * 2**20))),
        with_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 2\nzz")),
        with_chunk(b"zTXt", b"Raw profile type exif\0\0broken"),
        with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0broken"),
        with_chunk(b"pHYs", b"\0"),
        with_chunk(b"gAMA", b""),
        with_chunk(b"tRNS", b"\0"),
        with_chunk(b"acTL", b"\0"),
    ],
)
def test_other_broken_metadata_leave_the_image(data: bytes) -> None:
    assert_shows(data)


def tiff(*more: tuple[int, int, int, bytes]) -> bytes:
    """Return an uncompressed TIFF of the picture, with more entries in its directory."""
    width, height = PICTURE.size
    numbers = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 1,
        273: 0,
        277: 1,
        278: height,
        279: width * height,
    }
    entries = [(tag, 4, 1, struct.pack("<I", number)) for tag, number in numbers.items()] + [*more]
    numbers[273] = 8 + 2 + 12 * len(entries) + 4
    entries = [
        (tag, 4, 1, struct.pack("<I", numbers[tag])) if tag == 273 else (tag, *rest) for tag, *rest in entries
    ]
    return exif(*sorted(entries)) + PICTURE.convert("L").tobytes()


@given(entries=TIFF_ENTRIES, turned=st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_tiff_with_broken_metadata_is_read_upright(entries: list[Any], turned: int) -> None:
    shown = decode_image(image_bytes(tiff(orientation(turned), *entries)))
    plain = decode_image(image_bytes(tiff(orientation(turned))))
    assert shown.size == (PICTURE.size if turned < 5 else PICTURE.size[::-1])
    assert np.array_equal(np.asarray(shown), np.asarray(plain))


@pytest.mark.parametrize("broken", [b"nonsense", exif(orientation(8), TEXT_AS_RESOLUTION), b"II*\0"])
@pytest.mark.parametrize("turned", [1, 6])
def test_avif_is_turned_by_its_own_property_whatever_exif_says(broken: bytes, turned: int) -> None:
    tagged = Image.Exif()
    tagged[0x0112], tagged[0x010F] = turned, "The maker of the camera, at length"
    data = encoded("AVIF", quality=95, exif=tagged)
    start, end = data.index(b"MM\0*"), data.index(b"at length")
    assert_shows(data, turned)
    assert_shows(data[:start] + broken.ljust(end - start, b"\xff")[: end - start] + data[end:], turned)


def test_first_frame_of_an_animation_is_read() -> None:
    options = {"WEBP": {"lossless": True}, "MPO": {"quality": 95}}
    for form in ("GIF", "PNG", "WEBP", "MPO", "TIFF"):
        frames = [Image.new("RGB", PICTURE.size, colour) for colour in ("blue", "red")]
        assert_shows(encoded(form, save_all=True, append_images=frames, **options.get(form, {})))


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *((form, mode) for form in ("PNG", "TIFF") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        ("TIFF", "CMYK"),
    ],
)
def test_pixels_are_the_same_without_metadata(form: str, mode: str) -> None:
    image = PICTURE.convert("L").convert("I;16") if mode == "I;16" else PICTURE.convert(mode)
    data = encoded(form, image)
    with Image.open(io.BytesIO(data)) as whole, Image.open(io.BytesIO(strip_metadata(data).data)) as stripped:
        assert (whole.mode, whole.size, whole.tobytes()) == (stripped.mode, stripped.size, stripped.tobytes())


@pytest.mark.parametrize("data", [JPEG, PNG, tiff(), encoded("AVIF"), encoded("WEBP"), encoded("GIF")])
def test_damaged_files_are_stripped_without_errors(data: bytes) -> None:
    for length in range(0, len(data), 7):
        strip_metadata(data[:length])
        strip_metadata(data[:length] + b"\xff" * 9)
