"""The network as a SavedModel: its signatures, and JPEG and PNG files as input."""

import pathlib

import tensorflow as tf

from data.decoding import HEADER_SIGNATURE, decode_photo, read_header
from data.image_files import PNG_START
from deployment.inference_graph import InferenceNetwork, class_ids
from model.atrous import graphs_for_any_machine

# Of all images of a request together; its headers are checked before anything is decoded. Ours:
# ResNet-101 takes some 10 GB for as many pixels at output_stride 8.
MAX_PIXELS = 2**24
LARGER = "Send fewer or smaller images. By their headers, these have (height, width):"
NOT_KNOWN = (
    "An image is neither a JPEG nor a PNG. Save it as a PNG, or send its pixels to serving_default."
)


class Segmenter(tf.Module):
    """[B, H, W, 3] uint8 RGB images -> [B, H, W] uint8 class ids, at any size.

    Its signatures are the same function, traced once: serving_default (images -> class_ids),
    probabilities (images -> [B, H, W, C] float32), and image_bytes ([B] JPEG or PNG files of one
    size -> class_ids). No image, and files that decode_images refuses, are an InvalidArgumentError.

    data_file: data.json, which names the classes; saved as an asset.
    """

    def __init__(self, network: InferenceNetwork, data_file: pathlib.Path):
        super().__init__()
        self.network = network
        self.data = tf.saved_model.Asset(str(data_file))
        images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
        files = tf.TensorSpec((None,), tf.string, name="image_bytes")
        shared = tf.function(network, input_signature=[images])  # Traced once, for all others.

        @tf.function(input_signature=[images])
        def probabilities_of(images):
            return {"probabilities": shared(check_images(images))}

        @tf.function(input_signature=[images])
        def segment(images):
            return class_ids(shared(check_images(images)))

        @tf.function(input_signature=[images])
        def serve(images):
            return {"class_ids": segment(images)}

        @tf.function(input_signature=[files])
        def serve_files(image_bytes):
            return {"class_ids": segment(decode_images(image_bytes))}

        self.__call__ = segment
        self.signature_functions = {
            "serving_default": serve,
            "image_bytes": serve_files,
            "probabilities": probabilities_of,
        }


def check_images(images: tf.Tensor) -> tf.Tensor:
    """[B, H, W, 3] images -> the same; InvalidArgumentError for another shape, or no pixel."""
    # TensorFlow does not check a signature's shape when called with tensors or by TF Serving, yet
    # trusts it and removes checks that would follow from it, such as the rank's. Hence this form.
    shape = tf.raw_ops.Shape(input=images)
    is_batch = (tf.math.count_nonzero(shape >= 0) == 4) & tf.reduce_all(shape[-1:] == 3)
    fits = tf.debugging.Assert(is_batch, ["Images must be [B, H, W, 3]; these are", shape], 8)
    some = tf.debugging.assert_positive(
        tf.size(images), "The request has no image, or an image without pixels."
    )
    with tf.control_dependencies([fits, some]):
        return tf.identity(images)


def decode_images(files: tf.Tensor) -> tf.Tensor:
    """[B] JPEG or PNG files -> [B, H, W, 3] uint8 RGB.

    The pixels are those of data.photos.read_photo, but for the rounding of the JPEG decoder.
    InvalidArgumentError, before anything is decoded, where there is no file, a
    file is neither a JPEG nor a PNG, the sizes differ, or the headers claim no pixel or more than
    MAX_PIXELS in all; and for a file that is cut off or damaged. The decoder does not report wrong
    bytes in the middle of a JPEG, nor fewer lines than its header claims: those pixels are gray.
    """
    some = tf.debugging.assert_positive(tf.size(files), "The request has no image.")
    with tf.control_dependencies([some]):
        headers = tf.map_fn(read_header, files, fn_output_signature=HEADER_SIGNATURE)
    size = tf.TensorSpec((2,), tf.int32)
    sizes = tf.map_fn(
        lambda one: claimed_size(*one), (files, headers.orientation), fn_output_signature=size
    )
    one_size = tf.debugging.Assert(
        tf.reduce_all(sizes == sizes[:1]),
        ["The images of a request must have one size; these have (height, width):", sizes],
        summarize=16,
    )
    # In float64, which no number of large images overflows.
    pixels = tf.reduce_sum(tf.reduce_prod(tf.cast(sizes, tf.float64), axis=1))
    small = tf.debugging.Assert(
        tf.reduce_all(sizes > 0) & (pixels <= MAX_PIXELS),
        [f"A request may have {MAX_PIXELS / 1e6:.1f} megapixels. {LARGER}", sizes],
        summarize=16,
    )
    with tf.control_dependencies([one_size, small]):
        files = tf.identity(files)
    image = tf.TensorSpec((None, None, 3), tf.uint8)
    return tf.map_fn(lambda one: decode_photo(*one), (files, headers), fn_output_signature=image)


def claimed_size(file: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """A JPEG or PNG, its EXIF orientation -> [H, W] int32 of the image as shown, by its header.

    InvalidArgumentError for another file.
    """
    # A PNG starts with 8 bytes of signature, 8 of the first chunk's length and name, then width,
    # height and depth.
    start = tf.strings.substr(file, 0, 25)
    is_jpeg = tf.strings.substr(file, 0, 3) == b"\xff\xd8\xff"
    is_png = (tf.strings.substr(file, 0, 8) == PNG_START) & (tf.strings.length(start) == 25)
    known = tf.debugging.Assert(is_jpeg | is_png, [NOT_KNOWN])
    with tf.control_dependencies([known]):
        size = tf.cond(
            is_jpeg,
            lambda: tf.io.extract_jpeg_shape(file)[:2],
            lambda: tf.io.decode_raw(
                tf.strings.substr(start, 16, 8), tf.int32, little_endian=False
            )[::-1],
        )
        return tf.where(orientation >= 5, size[::-1], size)


def write_saved_model(segmenter: Segmenter, folder: pathlib.Path) -> None:
    """Writes a SavedModel into a new folder."""
    with graphs_for_any_machine():
        tf.saved_model.save(segmenter, str(folder), signatures=segmenter.signature_functions)
