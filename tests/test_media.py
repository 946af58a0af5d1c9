"""Images in requests: encodings, size limits, and decoding of every mode and bit depth to RGB."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from deployments.errors import InvalidInput, TooLarge
from deployments.media import EXAMPLE_IMAGE, decode_image, image_bytes

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


def test_postscript_is_unknown_format() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    with pytest.raises(InvalidInput, match="known format"):
        image_bytes(postscript)


@pytest.mark.parametrize(
    ("image", "format"),
    [
        (Image.fromarray(GREY.astype(np.uint16)), "PNG"),
        (Image.fromarray(GREY.astype(np.int32)), "TIFF"),
        (Image.fromarray(GREY.astype(np.float32)), "TIFF"),
        (Image.fromarray((GREY / 257).astype(np.uint8)), "PNG"),
    ],
    ids=["16 bit", "32 bit", "float", "8 bit"],
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
