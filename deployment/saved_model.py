"""The network as a SavedModel: its signatures, and JPEG and PNG files as input."""

import pathlib
from collections.abc import Callable

import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2

from data.files import write_bytes
from deployment.inference_graph import class_ids

# Of all images of a request, which is decoded only if its headers claim no more; ours. ResNet-101
# takes some 10 GB for as many at output_stride 8.
MAX_PIXELS = 2**24
PNG_START = b"\x89PNG\r\n\x1a\n"


class Segmenter(tf.Module):
    """[B, H, W, 3] uint8 RGB images -> [B, H, W] uint8 class ids, at any size.

    Its signatures are the same function, traced once: serving_default (images -> class_ids),
    probabilities (images -> [B, H, W, C] float32), and image_bytes ([B] JPEG or PNG files of one
    size -> class_ids). No image, and files that decoded refuses, are an InvalidArgumentError.

    data_file: goes along as an asset: the data.json that says what a class id is.
    """

    def __init__(self, probabilities: Callable[[tf.Tensor], tf.Tensor], data_file: pathlib.Path):
        super().__init__()
        self.data = tf.saved_model.Asset(str(data_file))
        images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
        files = tf.TensorSpec((None,), tf.string, name="image_bytes")
        # The only function with constants: all others call it.
        shared = tf.function(probabilities, input_signature=[images])

        @tf.function(input_signature=[images])
        def probabilities_of(images):
            return {"probabilities": shared(checked(images))}

        @tf.function(input_signature=[images])
        def segment(images):
            return class_ids(shared(checked(images)))

        @tf.function(input_signature=[images])
        def serve(images):
            return {"class_ids": segment(images)}

        @tf.function(input_signature=[files])
        def serve_files(image_bytes):
            return {"class_ids": segment(decoded(image_bytes))}

        self.__call__ = segment
        self.served = {
            "serving_default": serve,
            "image_bytes": serve_files,
            "probabilities": probabilities_of,
        }


def checked(images: tf.Tensor) -> tf.Tensor:
    """[B, H, W, 3] images -> the same; InvalidArgumentError for another shape, or no pixel."""
    # A signature's own shape is not looked at where tensors or TF Serving call it, but TensorFlow
    # believes it and drops what follows from it, the rank say: hence this way of counting.
    shape = tf.raw_ops.Shape(input=images)
    is_batch = (tf.math.count_nonzero(shape >= 0) == 4) & tf.reduce_all(shape[-1:] == 3)
    fits = tf.debugging.Assert(is_batch, ["Images must be [B, H, W, 3]; these are", shape], 8)
    some = tf.debugging.assert_positive(
        tf.size(images), "There is no image in the request, or one without pixels."
    )
    with tf.control_dependencies([fits, some]):
        return tf.identity(images)


def decoded(files: tf.Tensor) -> tf.Tensor:
    """[B] JPEG or PNG files -> [B, H, W, 3] uint8 RGB.

    Grey, CMYK, palettes and 16 bits are converted; what is transparent is seen on white. EXIF tags
    are not looked at. InvalidArgumentError, before anything is decoded, where there is no file,
    one is neither a JPEG nor a PNG, they are of several sizes, or their headers claim no pixel or
    more than MAX_PIXELS in all; and for one that is cut off or damaged. Of wrong bytes in a JPEG's
    middle, and of fewer lines than its header claims, the decoder does not tell: these are grey.
    """
    some = tf.debugging.assert_positive(tf.size(files), "There is no image in the request.")
    with tf.control_dependencies([some]):
        sizes = tf.map_fn(claimed_size, files, fn_output_signature=tf.TensorSpec((2,), tf.int32))
    one_size = tf.debugging.Assert(
        tf.reduce_all(sizes == sizes[:1]),
        ["The images of a request must be of one size; these are, high and wide:", sizes],
        summarize=16,
    )
    # In float64, which no number of large images takes beyond its range.
    pixels = tf.reduce_sum(tf.reduce_prod(tf.cast(sizes, tf.float64), axis=1))
    small = tf.debugging.Assert(
        tf.reduce_all(sizes > 0) & (pixels <= MAX_PIXELS),
        [f"A request may have {MAX_PIXELS} pixels; its images are, by their headers:", sizes],
        summarize=16,
    )
    with tf.control_dependencies([one_size, small]):
        files = tf.identity(files)
    pictures = tf.TensorSpec((None, None, 3), tf.uint8)
    return tf.map_fn(decode, files, fn_output_signature=pictures)


def claimed_size(file: tf.Tensor) -> tf.Tensor:
    """A JPEG or PNG -> [H, W] int32, as its header says. InvalidArgumentError for another file."""
    # Of a PNG: 8 bytes of signature, 8 of the first chunk's length and name, width, height, depth.
    start = tf.strings.substr(file, 0, 25)
    is_jpeg = tf.strings.substr(file, 0, 3) == b"\xff\xd8\xff"
    is_png = (tf.strings.substr(file, 0, 8) == PNG_START) & (tf.strings.length(start) == 25)
    known = tf.debugging.Assert(is_jpeg | is_png, ["An image is neither a JPEG nor a PNG."])
    with tf.control_dependencies([known]):
        return tf.cond(
            is_jpeg,
            lambda: tf.io.extract_jpeg_shape(file)[:2],
            lambda: tf.io.decode_raw(
                tf.strings.substr(start, 16, 8), tf.int32, little_endian=False
            )[::-1],
        )


def decode(file: tf.Tensor) -> tf.Tensor:
    """A JPEG or PNG -> [H, W, 3] uint8 RGB, on white where it is transparent."""

    def from_png():
        picture = tf.io.decode_png(file, channels=4)
        # Where there is no alpha TensorFlow sets it to the largest number of the file's depth in
        # bits, a byte of the header: 15 of 255 for a palette of 16 colours.
        depth = tf.cast(tf.io.decode_raw(tf.strings.substr(file, 24, 1), tf.uint8)[0], tf.int32)
        opaque = tf.cast(2 ** tf.minimum(depth, 8) - 1, tf.uint8)
        alpha = tf.cast(picture[:, :, 3:], tf.float32) / 255
        alpha = tf.where(tf.reduce_all(picture[:, :, 3] == opaque), 1.0, alpha)
        colours = tf.cast(picture[:, :, :3], tf.float32)
        return tf.cast(tf.round(alpha * colours + 255 * (1 - alpha)), tf.uint8)

    return tf.cond(tf.io.is_jpeg(file), lambda: tf.io.decode_jpeg(file, channels=3), from_png)


def write_saved_model(segmenter: Segmenter, folder: pathlib.Path) -> None:
    """Writes a SavedModel into a new folder; the same bytes for the same weights and versions."""
    tf.saved_model.save(segmenter, str(folder), signatures=segmenter.served)
    file = folder / "fingerprint.pb"
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(file.read_bytes())
    fingerprint.uuid = str(fingerprint.saved_model_checksum)  # Which was drawn at random.
    write_bytes(file, fingerprint.SerializeToString(deterministic=True))
