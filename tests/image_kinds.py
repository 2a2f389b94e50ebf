"""Image files of every kind, with the pixels or samples that they hold."""

import io
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

SIZE = (12, 20)  # Height and width, which tell apart an image that was turned by a quarter.
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # PNG's color types.
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGB_ALPHA: 4}
Transpose = Image.Transpose
# By EXIF orientation: how an upright image is to be stored.
STORED = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


class Kind(NamedTuple):
    """A file and what it holds."""

    content: bytes
    pixels: np.ndarray  # [H, W, 3] uint8 RGB, as a viewer shows it on white.
    samples: np.ndarray | None = None  # As stored, [H, W] or [H, W, channels]; None for JPEGs.


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(samples: np.ndarray, depth: int, color_type: int, *chunks: bytes) -> bytes:
    """[H, W] or [H, W, channels] samples -> a PNG, with more chunks before its pixels."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if depth == 16:
        packed = rows.astype(">u2").view(np.uint8)
    else:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        packed = np.packbits(bits.reshape(height, -1), axis=-1)
    lines = np.pad(packed, ((0, 0), (1, 0)))  # Each begins with its filter: none.
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(lines.tobytes()))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunks)
        + pixels
        + chunk(b"IEND", b"")
    )


def on_white(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """[H, W, 3] colors and [H, W] alpha, of 0..255 -> uint8 colors on white."""
    alpha = alpha[..., None] / 255
    return np.floor(colors * alpha + 255 * (1 - alpha) + 0.5 + 1e-9).astype(np.uint8)


def to_8_bits(samples: np.ndarray, depth: int) -> np.ndarray:
    return (samples * (255 / (2**depth - 1))).round().astype(np.uint8)


def random_samples(depth: int, channels: int) -> np.ndarray:
    shape = SIZE if channels == 1 else (*SIZE, channels)
    samples = np.random.default_rng(depth + channels).integers(0, 2**depth, shape)
    samples.reshape(*SIZE, channels)[0, :2] = [[1] * channels, [2**depth - 1] * channels]
    samples.reshape(*SIZE, channels)[0, 2:4] = [[1 + (depth == 16)] * channels, [0] * channels]
    return samples


def gray_png(depth: int, transparent: bool) -> Kind:
    """Gray; the value 1 is transparent. Of 16 bits, 2 has the same high byte and is not."""
    samples = random_samples(depth, 1)
    alpha = np.where((samples == 1) & transparent, 0, 255)
    chunks = [chunk(b"tRNS", struct.pack(">H", 1))] if transparent else []
    colors = to_8_bits(samples, depth)[..., None].repeat(3, -1)
    return Kind(png(samples, depth, GRAY, *chunks), on_white(colors, alpha), samples)


def rgb_png(depth: int, transparent: bool, *chunks: bytes) -> Kind:
    """RGB; the color (1, 1, 1) is transparent."""
    samples = random_samples(depth, 3)
    alpha = np.where((samples == 1).all(-1) & transparent, 0, 255)
    chunks += (chunk(b"tRNS", struct.pack(">HHH", 1, 1, 1)),) if transparent else ()
    colors = on_white(to_8_bits(samples, depth), alpha)
    return Kind(png(samples, depth, RGB, *chunks), colors, samples)


def palette_png(depth: int, transparent: bool) -> Kind:
    """Indices into random colors; of the first half, alpha is random too."""
    samples = random_samples(depth, 1)
    rng = np.random.default_rng(depth)
    palette = rng.integers(0, 256, (2**depth, 3)).astype(np.uint8)
    alpha = np.full(2**depth, 255)
    chunks = [chunk(b"PLTE", palette.tobytes())]
    if transparent:
        alpha[: 2 ** (depth - 1)] = rng.integers(0, 255, 2 ** (depth - 1))
        chunks.append(chunk(b"tRNS", alpha[: 2 ** (depth - 1)].astype(np.uint8).tobytes()))
    pixels = on_white(palette[samples], alpha[samples])
    return Kind(png(samples, depth, PALETTE, *chunks), pixels, samples)


def alpha_png(depth: int, color_type: int, opaque: bool = False) -> Kind:
    """Gray or RGB with random alpha, or with an opaque one."""
    samples = random_samples(depth, CHANNELS[color_type])
    if opaque:
        samples[..., -1] = 2**depth - 1
    values = to_8_bits(samples, depth)
    colors = values[..., :1].repeat(3, -1) if color_type == GRAY_ALPHA else values[..., :3]
    return Kind(png(samples, depth, color_type), on_white(colors, values[..., -1]), samples)


def smooth_colors() -> np.ndarray:
    """[H, W, 3] uint8 colors that JPEG keeps, different in each corner."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([40 + 9 * x, 40 + 14 * y, 200 - 5 * x - 3 * y], -1).astype(np.uint8)


def saved(image: Image.Image | np.ndarray, form: str, **options) -> bytes:
    """An image -> a file."""
    file = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if form == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    image.save(file, form, **options)
    return file.getvalue()


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def turned(orientation: int, form: str, **options) -> Kind:
    """A file with an EXIF orientation; its pixels are stored so that it is upright when shown."""
    image = Image.fromarray(smooth_colors())
    if orientation in STORED:
        image = image.transpose(STORED[orientation])
    return Kind(saved(image, form, exif=exif_of(orientation), **options), smooth_colors())


def with_orientation(content: bytes, orientation: int) -> bytes:
    """A file without EXIF -> the same with an orientation; its pixels stay as they are."""
    exif = exif_of(orientation)
    if content.startswith(b"\xff\xd8"):
        exif = b"Exif\0\0" + exif.removeprefix(b"Exif\0\0")
        return content[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + content[2:]
    exif = exif.removeprefix(b"Exif\0\0")
    if content.startswith(b"\x89PNG"):
        return content[:33] + chunk(b"eXIf", exif) + content[33:]  # After IHDR.
    if content[12:16] == b"VP8X":
        chunks = content[12:20] + bytes([content[20] | 8]) + content[21:]
    else:
        size = struct.pack("<I", SIZE[1] - 1)[:3] + struct.pack("<I", SIZE[0] - 1)[:3]
        chunks = b"VP8X" + struct.pack("<II", 10, 8) + size + content[12:]
    chunks += b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def without_orientation(content: bytes) -> bytes:
    """A file of with_orientation -> the same with another tag in place of the orientation.

    As exiftool does, it leaves all else; of a PNG, it mends the checksum.
    """
    found = re.search(rb"\x01\x12(?=\0\x03\0\0\0\x01)|\x12\x01(?=\x03\0\x01\0\0\0)", content)
    start, end = found.span()
    content = content[:start] + b"\xab\xab" + content[end:]
    if content.startswith(b"\x89PNG"):
        begin = content.index(b"eXIf")
        (length,) = struct.unpack(">I", content[begin - 4 : begin])
        whole = content[begin : begin + 4 + length]
        content = content[: begin - 4] + chunk(b"eXIf", whole[4:]) + content[begin + 8 + length :]
    return content


def cmyk_jpeg(*, marker: bool = True, ycck: bool = False) -> Kind:
    """CMYK with some black, as Adobe stores it: inverted; with or without Adobe's segment."""
    inks, black = 255 - smooth_colors(), np.full(SIZE, 60, np.uint8)
    pixels = (smooth_colors() * ((255 - black[..., None]) / 255)).round().astype(np.uint8)
    stored = inks
    if ycck:  # Pillow inverts what it writes.
        stored = 255 - np.asarray(Image.fromarray(inks).convert("YCbCr"))
    image = Image.fromarray(np.dstack([stored, black]), "CMYK")
    content = saved(image, "JPEG")
    adobe = content.index(b"\xff\xee\x00\x0eAdobe")
    if ycck:
        content = content[: adobe + 15] + b"\x02" + content[adobe + 16 :]
    if not marker:
        content = content[:adobe] + content[adobe + 16 :]
    return Kind(content, pixels)


def webp_with_alpha(orientation: int = 1) -> Kind:
    """Colors that fade in from white; with an EXIF orientation, upright when shown."""
    alpha = np.linspace(0, 255, SIZE[0] * SIZE[1]).astype(np.uint8).reshape(SIZE)
    image = Image.fromarray(np.dstack([smooth_colors(), alpha]))
    exif = b""
    if orientation in STORED:
        image, exif = image.transpose(STORED[orientation]), exif_of(orientation)
    content = saved(image, "WEBP", lossless=True, exact=True, exif=exif)
    return Kind(content, on_white(smooth_colors(), alpha))


def gray_jpeg() -> Kind:
    gray = smooth_colors()[..., 0]
    return Kind(saved(gray, "JPEG"), gray[..., None].repeat(3, -1))


def photo_kinds() -> dict[str, dict[str, Kind]]:
    """By row of the table in docs/data.md: files of that row, by name."""
    colors = smooth_colors()
    second = Image.fromarray(colors[::-1])
    png_rows = {
        f"PNG {name}{', tRNS' if transparent else ''}": {
            f"{name}{depth}_{transparent}": make(depth, transparent) for depth in depths
        }
        for name, make, depths in (
            ("gray, 1 to 16 bits", gray_png, (1, 2, 4, 8, 16)),
            ("palette, 1 to 8 bits", palette_png, (1, 2, 4, 8)),
            ("RGB, 8 or 16 bits", rgb_png, (8, 16)),
        )
        for transparent in (False, True)
    }
    return {
        **png_rows,
        "PNG with alpha, 8 or 16 bits": {
            f"alpha{color_type}_{depth}": alpha_png(depth, color_type)
            for color_type in (GRAY_ALPHA, RGB_ALPHA)
            for depth in (8, 16)
        },
        "PNG with gamma": {"gamma": rgb_png(8, False, chunk(b"gAMA", struct.pack(">I", 100_000)))},
        "JPEG gray, RGB, progressive": {
            "gray_jpeg": gray_jpeg(),
            "rgb_jpeg": Kind(saved(colors, "JPEG"), colors),
            "progressive_jpeg": Kind(saved(colors, "JPEG", progressive=True), colors),
        },
        "JPEG CMYK, YCCK": {
            "cmyk": cmyk_jpeg(),
            "cmyk_unmarked": cmyk_jpeg(marker=False),
            "ycck": cmyk_jpeg(ycck=True),
        },
        "JPEG of a phone (MPO)": {
            "mpo": Kind(
                saved(
                    colors, "MPO", save_all=True, append_images=[second], quality=95, subsampling=0
                ),
                colors,
            )
        },
        "EXIF orientation 0, 1, 9": {f"exif{i}": turned(i, "JPEG") for i in (0, 1, 9)},
        "EXIF orientation 2, 3, 4": {f"exif{i}": turned(i, "JPEG") for i in (2, 3, 4)},
        "EXIF orientation 5, 6, 7, 8": {
            **{f"exif{i}": turned(i, "JPEG") for i in (5, 6, 7, 8)},
            "exif6_png": turned(6, "PNG"),
        },
        "WebP with EXIF orientation 6, also with alpha": {
            "exif6_webp": turned(6, "WEBP", lossless=True),
            "exif6_webp_alpha": webp_with_alpha(6),
        },
        "WebP, also with alpha": {
            "webp": Kind(saved(colors, "WEBP", lossless=True), colors),
            "webp_alpha": webp_with_alpha(),
        },
    }


def label_kinds() -> dict[str, dict[str, Kind]]:
    """By row of the table of masks in docs/data.md: files of that row, by name."""
    large = np.full(SIZE, 300)
    large[0] = 65_535
    rows = {
        "PNG gray, 1 to 8 bits": [gray_png(depth, t) for depth in (1, 2, 4, 8) for t in (0, 1)],
        "PNG gray, 16 bits, ids to 255": [
            Kind(png(np.arange(240).reshape(SIZE), 16, GRAY), None, np.arange(240).reshape(SIZE))
        ],
        "PNG gray, 16 bits, larger ids": [Kind(png(large, 16, GRAY), None, large)],
        "PNG palette, 1 to 8 bits": [palette_png(d, t) for d in (1, 2, 4, 8) for t in (0, 1)],
        "PNG RGB, 8 bits": [rgb_png(8, False), rgb_png(8, True)],
        "PNG gray, opaque alpha": [alpha_png(8, GRAY_ALPHA, opaque=True)],
        "PNG RGB, opaque alpha": [alpha_png(8, RGB_ALPHA, opaque=True)],
        "PNG with transparent pixels": [alpha_png(8, GRAY_ALPHA), alpha_png(8, RGB_ALPHA)],
        "PNG RGB or alpha, 16 bits": [
            rgb_png(16, False),
            alpha_png(16, GRAY_ALPHA, opaque=True),
            alpha_png(16, RGB_ALPHA, opaque=True),
        ],
        "JPEG, WebP, others": [
            gray_jpeg(),
            webp_with_alpha(),
            Kind(saved(np.zeros(SIZE, np.uint8), "BMP"), None),
            Kind(saved(np.zeros(SIZE, np.uint8), "TIFF"), None),
        ],
    }
    return {row: {str(i): kind for i, kind in enumerate(kinds)} for row, kinds in rows.items()}
