"""JPEG and PNG files in a TensorFlow graph -> the pixels that data.photos.read_photo gives.

Strings are scalar tensors of a file's bytes, and numbers int64. EXIF orientation: see
data.photos.exif_orientation, which this repeats for graphs.
"""

from typing import NamedTuple

import tensorflow as tf

from data.image_files import GRAY_ALPHA, PNG_START, RGB_ALPHA

ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # A JPEG's segment: CMYK, inverted.
EXIF_START = b"Exif\0\0"
ORIENTATION_TAG, SHORT = 0x0112, 3  # Of EXIF; the type of its number.
# A turn is a transposition, then flips. By EXIF orientation.
TRANSPOSED, FLIPPED_LEFT_RIGHT, FLIPPED_UP_DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)


class Header(NamedTuple):
    """What a file says of itself."""

    orientation: tf.Tensor  # 2 to 8 if viewers turn the image, otherwise 1.
    is_jpeg: tf.Tensor
    has_adobe: tf.Tensor  # Whether a JPEG has Adobe's segment.
    has_alpha: tf.Tensor  # Whether a PNG has alpha, or a tRNS chunk.
    depth: tf.Tensor  # Of a PNG's samples, in bits.


FLAG, NUMBER = tf.TensorSpec((), tf.bool), tf.TensorSpec((), tf.int64)
HEADER_SIGNATURE = Header(NUMBER, FLAG, FLAG, FLAG, NUMBER)


def decode_photo(file: tf.Tensor, header: Header) -> tf.Tensor:
    """A JPEG or PNG -> [H, W, 3] uint8 RGB, turned as its EXIF says, over white."""
    image = tf.cond(
        header.is_jpeg,
        lambda: decode_jpeg(file, header.has_adobe),
        lambda: decode_png(file, header.has_alpha, header.depth),
    )
    return turn(image, header.orientation)


def decode_jpeg(file: tf.Tensor, has_adobe: tf.Tensor) -> tf.Tensor:
    """A JPEG -> [H, W, 3] uint8 RGB, as stored. CMYK is inverted, with Adobe's segment or not."""
    is_cmyk = tf.io.extract_jpeg_shape(file)[2] == 4
    marked = tf.strings.join([_part(file, 0, 2), ADOBE, _part(file, 2, tf.strings.length(file))])
    return tf.io.decode_jpeg(tf.where(is_cmyk & ~has_adobe, marked, file), channels=3)


def decode_png(file: tf.Tensor, has_alpha: tf.Tensor, depth: tf.Tensor) -> tf.Tensor:
    """A PNG -> [H, W, 3] uint8 RGB, as stored: 16 bits divided by 257, transparency over white."""

    def over_white(image):  # In uint16, which 255 * 255 + 127 just fits.
        colors, alpha = tf.cast(image[..., :3], tf.uint16), tf.cast(image[..., 3:], tf.uint16)
        return tf.cast((colors * alpha + (255 - alpha) * 255 + 127) // 255, tf.uint8)

    def from_16_bits():  # Alpha is opaque where the file has none.
        values = tf.io.decode_png(file, 4, tf.uint16)
        quotient = values // 257
        return tf.cast(quotient + tf.cast(values - quotient * 257 > 128, tf.uint16), tf.uint8)

    # TensorFlow's alpha for a file of few bits without alpha is not opaque.
    return tf.cond(
        has_alpha | (depth == 16),
        lambda: over_white(
            tf.cond(depth == 16, from_16_bits, lambda: tf.io.decode_png(file, channels=4))
        ),
        lambda: tf.io.decode_png(file, channels=3),
    )


def turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """[H, W, C], an EXIF orientation -> the image as viewers show it."""

    def among(orientations):
        return tf.reduce_any(orientation == tf.constant(orientations, tf.int64))

    image = tf.cond(among(TRANSPOSED), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    flips = tf.stack([among(FLIPPED_UP_DOWN), among(FLIPPED_LEFT_RIGHT), tf.constant(False)])
    return tf.raw_ops.Reverse(tensor=image, dims=flips)


def read_header(file: tf.Tensor) -> Header:
    """A JPEG or PNG -> its Header, from all segments or chunks around its pixels.

    Any other string has some Header too.
    """
    is_jpeg = tf.strings.substr(file, 0, 3) == b"\xff\xd8\xff"
    exif, has_adobe, has_transparency = tf.cond(
        is_jpeg, lambda: _walk_jpeg(file), lambda: _walk_png(file)
    )
    depth, color_type = _number(file, 24, 1), _number(file, 25, 1)
    has_alpha = (color_type == GRAY_ALPHA) | (color_type == RGB_ALPHA) | has_transparency
    return Header(exif_orientation(exif), is_jpeg, has_adobe, has_alpha, depth)


def _walk_jpeg(file):
    """A JPEG -> its first EXIF block, whether it has Adobe's segment, and False."""

    def is_segment(position, exif, has_adobe):
        marker = _number(file, position, 2)
        return (marker >= 0xFF00) & (marker != 0xFFDA) & (marker != 0xFFD9)  # Scan; end.

    def next_segment(position, exif, has_adobe):
        marker = _number(file, position + 1, 1)
        content = _part(file, position + 4, _number(file, position + 2, 2) - 2)
        starts_exif = (marker == 0xE1) & (tf.strings.substr(content, 0, 6) == EXIF_START)
        is_first = starts_exif & (tf.strings.length(exif) == 0)
        exif = tf.where(is_first, _part(content, 6, tf.strings.length(content)), exif)
        has_adobe |= (marker == 0xEE) & (tf.strings.substr(content, 0, 5) == b"Adobe")
        # Markers without content; 0xFF fills.
        alone = (marker == 1) | ((marker >= 0xD0) & (marker <= 0xD8)) | (marker == 0)
        length = tf.where(~alone, 2 + tf.maximum(_number(file, position + 2, 2), 2), 2)
        return position + tf.where(marker != 0xFF, length, 1), exif, has_adobe

    start = (tf.constant(2, tf.int64), tf.constant(b""), tf.constant(False))
    _, exif, has_adobe = tf.while_loop(is_segment, next_segment, start)
    return exif, has_adobe, tf.constant(False)


def _walk_png(file):
    """A PNG -> its EXIF block, False, and whether it has a tRNS chunk."""
    size = tf.strings.length(file)

    def is_chunk(position, exif, has_transparency):
        name = _part(file, position + 4, 4)
        return (position + 8 <= tf.cast(size, tf.int64)) & (name != b"IEND")

    def next_chunk(position, exif, has_transparency):
        length, name = _number(file, position, 4), _part(file, position + 4, 4)
        exif = tf.cond(name == b"eXIf", lambda: _part(file, position + 8, length), lambda: exif)
        return position + 12 + length, exif, has_transparency | (name == b"tRNS")

    start = (tf.constant(len(PNG_START), tf.int64), tf.constant(b""), tf.constant(False))
    _, exif, has_transparency = tf.while_loop(is_chunk, next_chunk, start)
    return exif, tf.constant(False), has_transparency


def exif_orientation(exif: tf.Tensor) -> tf.Tensor:
    """An EXIF block, from its byte order on -> its orientation: 2 to 8, or 1."""
    little = tf.strings.substr(exif, 0, 4) == b"II*\0"
    big = tf.strings.substr(exif, 0, 4) == b"MM\0*"
    size = tf.cast(tf.strings.length(exif), tf.int64)
    directory = tf.minimum(_number(exif, 4, 4, little), size)
    entries = tf.io.decode_raw(_part(exif, directory + 2, size), tf.uint8)
    count = tf.minimum(_number(exif, directory, 2, little), tf.size(entries, tf.int64) // 12)
    entries = tf.reshape(tf.cast(entries[: 12 * count], tf.int64), (-1, 12))

    def column(first, length):
        order = tf.range(length, dtype=tf.int64)
        weights = 256 ** tf.where(little, order, length - 1 - order)
        return tf.reduce_sum(entries[:, first : first + length] * weights, axis=1)

    is_orientation = (column(0, 2) == ORIENTATION_TAG) & (column(2, 2) == SHORT)
    found = column(8, 2)[is_orientation & (column(4, 4) == 1)]
    value = tf.concat([found, [1]], axis=0)[0]
    return tf.where((little | big) & (value >= 2) & (value <= 8), value, 1)


def _part(file, start, length):
    """Bytes from start on; fewer, or none, where the string ends."""
    size = tf.cast(tf.strings.length(file), tf.int64)
    length = tf.maximum(tf.cast(length, tf.int64), 0)
    return tf.strings.substr(file, tf.minimum(tf.cast(start, tf.int64), size), length)


def _number(file, start, length, little=False):
    """The number in the bytes from start on; those after the end are 0."""
    digits = tf.cast(tf.io.decode_raw(_part(file, start, length), tf.uint8), tf.int64)
    order = tf.range(tf.size(digits, tf.int64))
    return tf.reduce_sum(digits * 256 ** tf.where(little, order, length - 1 - order))
