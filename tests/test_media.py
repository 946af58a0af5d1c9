"""Images in requests: encodings, size limits, and decoding of every mode and bit depth to RGB."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from deployments.errors import InvalidInput, TooLarge
from deployments.media import EXAMPLE_IMAGE, FORMATS, decode_image, image_bytes

GREY = np.linspace(0, 65535, 64 * 64).reshape(64, 64)


def encoded(image: Image.Image, format: str = "PNG") -> bytes:
    data = io.BytesIO()
    image.save(data, format)
    return data.getvalue()


PNG = encoded(Image.new("RGB", (4, 3), (200, 10, 10)))


@pytest.mark.parametrize(
    "value",
    [
        PNG,
        base64.b64encode(PNG).decode(),
        f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
        base64.encodebytes(PNG).decode(),
    ],
    ids=["bytes", "base64", "data URL", "base64 with line breaks"],
)
def test_image_is_accepted_as_bytes_base64_or_data_url(value: object) -> None:
    assert image_bytes(value) == PNG


@pytest.mark.parametrize(
    "value", [b"", b"hello", "%%%", "data:nothing", "aGVsbG8=", 3, None, "/etc/hostname"]
)
def test_value_that_is_no_image_is_invalid(value: object) -> None:
    with pytest.raises(InvalidInput):
        image_bytes(value)


def test_image_over_pixel_or_byte_limit_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.media.MAX_PIXELS", 11)
    with pytest.raises(TooLarge, match="4 x 3"):
        image_bytes(PNG)
    monkeypatch.setattr("deployments.media.MAX_BYTES", 10)
    with pytest.raises(TooLarge, match="bytes"):
        image_bytes(PNG)
    with pytest.raises(TooLarge):
        image_bytes(base64.b64encode(PNG).decode())


@pytest.mark.parametrize(
    ("image", "format"),
    [
        (Image.fromarray(GREY.astype(np.uint16)), "PNG"),
        (Image.fromarray(GREY.astype(">u2")), "TIFF"),
        (Image.fromarray(GREY.astype(np.int32)), "TIFF"),
        (Image.fromarray(GREY.astype(np.float32)), "TIFF"),
        (Image.fromarray((GREY / 257).astype(np.uint8)), "PNG"),
    ],
    ids=["16 bit", "16 bit, big endian", "32 bit", "float", "8 bit"],
)
def test_grey_image_of_any_bit_depth_keeps_its_shades(image: Image.Image, format: str) -> None:
    shades = np.asarray(decode_image(encoded(image, format)))[:, :, 0].astype(float)
    assert np.abs(shades - GREY / 257).max() <= 1.5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "RGB"])
def test_every_mode_is_decoded_to_rgb(mode: str) -> None:
    format = "TIFF" if mode == "CMYK" else "PNG"
    assert decode_image(encoded(Image.new(mode, (4, 3)), format)).mode == "RGB"


def test_damaged_image_is_invalid() -> None:
    whole = encoded(Image.effect_noise((80, 80), 50))
    with pytest.raises(InvalidInput, match="damaged"):
        decode_image(whole[: len(whole) // 2])


def test_example_image_is_valid() -> None:
    assert decode_image(image_bytes(EXAMPLE_IMAGE)).size == (64, 64)


def test_transparent_palette_keeps_its_colours() -> None:
    palette = Image.new("P", (4, 3), 1)
    palette.putpalette([0, 0, 0, 200, 10, 10])
    data = io.BytesIO()
    palette.save(data, "PNG", transparency=b"\x00\x80")
    assert decode_image(data.getvalue()).getpixel((0, 0)) == (200, 10, 10)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "RGB"])
def test_every_mode_is_decoded_to_grey(mode: str) -> None:
    image = Image.linear_gradient("L").convert(mode)
    grey = decode_image(encoded(image, "TIFF" if mode == "CMYK" else "PNG"), "L")
    assert grey.mode == "L"
    assert np.array_equal(np.asarray(grey), np.asarray(image.convert("RGB").convert("L")))


def heic() -> bytes:
    """Return an image as an iPhone's: HEIC, which lies on its side and has EXIF."""
    import pillow_heif

    sideways, data = Image.Exif(), io.BytesIO()
    sideways[0x0112], sideways[0x010F] = 6, "The maker of the camera"
    image = Image.new("RGB", (64, 32), (200, 10, 10))
    image.paste((10, 10, 200), (0, 0, 32, 32))
    pillow_heif.from_pillow(image).save(data, exif=sideways.tobytes(), quality=95)
    return data.getvalue()


@pytest.mark.parametrize("broken", [None, b"II*\0", b"nonsense"])
def test_heic_is_read_upright_whatever_exif_says(broken: bytes | None) -> None:
    data = heic()
    assert data.count(b"MM\0*") == 1
    image = decode_image(
        image_bytes(data.replace(b"MM\0*\0\0\0\x08", broken.ljust(8, b"\xff")) if broken else data)
    )
    assert image.size == (32, 64)
    for position, colour in (((16, 8), (10, 10, 200)), ((16, 56), (200, 10, 10))):
        assert np.abs(np.subtract(image.getpixel(position), colour)).max() < 12


def test_heic_is_refused_by_name_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.media._formats", lambda: FORMATS)
    with pytest.raises(InvalidInput, match="HEIC images are not read"):
        image_bytes(heic())


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7 ...", "PDF"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><svg/>', "SVG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "PostScript"),
    ],
)
def test_format_that_is_not_read_is_named(data: bytes, name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        image_bytes(data)
