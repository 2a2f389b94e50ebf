"""Every reader sees the same pixels of a file, or refuses it by name; docs/data.md says which."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data.build import build
from data.cityscapes import to_train_ids
from data.decoding import exif_orientation as exif_orientation_in_graph
from data.features import make_example, read_label
from data.mask_classes import read_mask
from data.photos import exif_orientation, read_photo
from data.pipeline import SKIP_DECODING, decode_part, eval_examples
from deployment.saved_model import decode_images
from tests.conftest import ROOT
from tests.image_kinds import (
    SIZE,
    label_kinds,
    photo_kinds,
    png,
    turned,
    with_orientation,
    without_orientation,
)

PHOTO_ROWS, LABEL_ROWS = photo_kinds(), label_kinds()
PHOTOS = {name: kind for kinds in PHOTO_ROWS.values() for name, kind in kinds.items()}
JPEG_LOSS = 10  # Levels that the JPEGs here differ from the colors that were saved.
JPEG_ROUNDING = 6  # Levels between two decoders of JPEG.
SAME, REFUSED = "same pixels", "refused"


def save(folder, name, content):
    """A file with the suffix of its format."""
    suffix = {b"\x89P": "png", b"RI": "webp"}.get(content[:2], "jpg")
    file = folder / f"{name}.{suffix}"
    file.write_bytes(content)
    return file


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The encoded and the decoded images of a data set of all files that the build takes."""
    folder = tmp_path_factory.mktemp("formats")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    label = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE) % 2
    for name, kind in PHOTOS.items():
        file = save(folder / "images", name, kind.content)
        try:
            make_example(name, file, label, file)
        except ValueError:
            file.unlink()
        else:
            Image.fromarray(label).save(folder / "masks" / f"{name}.png")
    builder = build("folder/formats", str(folder / "shards"), str(folder), accept=True)
    encoded, decoded = {}, {}
    for split in builder.info.splits:
        for example in builder.as_dataset(split=split, decoders=SKIP_DECODING).as_numpy_iterator():
            encoded[example["id"].decode()] = example["image"]
        for example in eval_examples(builder, split).as_numpy_iterator():
            decoded[example["id"].decode()] = example["image"]
    return encoded, decoded


def as_trained_on(content):
    """An image of a shard -> its pixels, as a crop of all of it."""
    height, width, _ = tf.io.decode_image(content, 3, expand_animations=False).shape
    return decode_part(content, tf.constant([0, 0]), tf.constant([height, width]), width).numpy()


@pytest.fixture(scope="module")
def pixels(shards, tmp_path_factory):
    """By kind of file, by reader: pixels, or None from readers that refuse it by name."""
    folder = tmp_path_factory.mktemp("photos")
    return {name: pixels_by_reader(name, *shards, folder) for name in PHOTOS}


@tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
def decode_in_graph(files):
    return decode_images(files)


def pixels_by_reader(name, encoded, decoded, folder):
    content = PHOTOS[name].content
    file = save(folder, name, content)
    pixels = dict.fromkeys(("training", "evaluation", "audit", "image_bytes"))
    if name in encoded:
        pixels["training"] = as_trained_on(encoded[name])
        pixels["evaluation"] = decoded[name]
        pixels["audit"] = np.asarray(Image.open(io.BytesIO(encoded[name])).convert("RGB"))
    else:
        with pytest.raises(ValueError, match=f"{name}.* has EXIF orientation .*exiftool"):
            make_example(name, file, np.zeros(SIZE, np.uint8), file)
    pixels["predict.py"] = read_photo(file)
    try:
        pixels["image_bytes"] = decode_in_graph(tf.constant([content]))[0].numpy()
    except tf.errors.InvalidArgumentError as error:
        assert "neither a JPEG nor a PNG. Save it as a PNG" in str(error)
    return pixels


@pytest.mark.parametrize("name", PHOTOS)
def test_all_readers_see_the_same_pixels_or_refuse_the_file(name, pixels):
    kind = PHOTOS[name]
    is_jpeg = kind.content.startswith(b"\xff\xd8")
    for reader, image in pixels[name].items():
        if image is None:
            continue
        assert image.dtype == np.uint8 and image.shape == kind.pixels.shape, reader
        error = np.abs(image.astype(int) - kind.pixels).max()
        assert error <= (JPEG_LOSS if is_jpeg else 0), reader
        between = np.abs(image.astype(int) - pixels[name]["predict.py"]).max()
        assert between <= (JPEG_ROUNDING if is_jpeg else 0), reader


def table_below(heading):
    """A line of docs/data.md -> the rows of the first table below it, without its header."""
    text = (ROOT / "docs" / "data.md").read_text()
    lines = text[text.index(f"{heading}\n") :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_table_of_photos_in_the_documentation_is_true(pixels):
    expected = []
    for row, kinds in PHOTO_ROWS.items():
        found = {}
        for name in kinds:
            for reader, image in pixels[name].items():
                found.setdefault(reader, set()).add(REFUSED if image is None else SAME)
        assert found["training"] == found["evaluation"] == found["audit"]
        cells = [found[reader] for reader in ("training", "predict.py", "image_bytes")]
        expected.append([row, *(" and ".join(cell) for cell in cells)])
    assert table_below("### Kinds of images") == expected


def read_as(reader, kind, tmp_path):
    """A label's file -> its samples by a reader, or None if that refuses it by name."""
    file = save(tmp_path, "label", kind.content)
    try:
        return reader(file)
    except ValueError as error:
        assert str(file) in str(error)
        return None


def own_mask(file):
    return read_mask(file).values


def test_masks_of_several_depths_are_of_one_kind(tmp_path):
    for row, kind in (("gray", "indices"), ("palette", "palette"), ("RGB", "colors")):
        files = LABEL_ROWS[next(one for one in LABEL_ROWS if one.startswith(f"PNG {row}"))]
        assert {read_mask(save(tmp_path, "m", one.content)).kind for one in files.values()} == {
            kind
        }


@pytest.mark.parametrize("row", LABEL_ROWS)
def test_labels_are_read_as_stored_or_refused(row, tmp_path):
    for kind in LABEL_ROWS[row].values():
        values = read_as(own_mask, kind, tmp_path)
        if values is not None:
            samples = kind.samples
            if samples.ndim == 3 and samples.shape[-1] in (2, 4):
                samples = samples[..., :-1]
            if samples.ndim == 3 and samples.shape[-1] == 3:
                samples = samples @ [1 << 16, 1 << 8, 1]
            np.testing.assert_array_equal(values, samples.reshape(SIZE))
        label = read_as(read_label, kind, tmp_path)
        if label is not None:
            np.testing.assert_array_equal(label, values)
            assert label.dtype == np.uint8


def test_the_table_of_masks_in_the_documentation_is_true(tmp_path):
    expected = []
    for row, kinds in LABEL_ROWS.items():
        found = [
            {
                REFUSED if read_as(reader, kind, tmp_path) is None else "as stored"
                for kind in kinds.values()
            }
            for reader in (own_mask, read_label)
        ]
        expected.append([row, *(" and ".join(cell) for cell in found)])
    assert table_below("### Kinds of masks") == expected


def test_label_ids_of_few_bits_are_cityscapes_ids(tmp_path):
    ids = np.arange(240).reshape(SIZE) % 16
    (tmp_path / "few.png").write_bytes(png(ids, 4, 0))
    label = to_train_ids(read_label(tmp_path / "few.png"), tmp_path / "few.png")
    np.testing.assert_array_equal(label[ids == 7], 0)  # Road.
    np.testing.assert_array_equal(label[ids == 11], 2)  # Building.
    assert (label[ids < 7] == 255).all()


def label_of(colors):
    """[H, W, 3] smooth colors -> a label that is turned with them."""
    return (colors[..., 0] // 16).astype(np.uint8)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_a_turned_photo_is_turned_if_it_fits_only_so(orientation, tmp_path):
    kind = turned(orientation, "PNG")
    file = save(tmp_path, "photo", kind.content)
    stored = np.asarray(Image.open(file))
    upright = label_of(kind.pixels)
    for label in (label_of(stored), upright):
        example = make_example("photo", file, label, tmp_path / "mask.png")
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(example["image"]))), kind.pixels
        )
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(example["label"]))), upright)
    with pytest.raises(
        ValueError, match="mask.png has 19 x 12 pixels, but .*photo.png has 20 x 12"
    ):
        make_example("photo", file, upright[:, 1:], tmp_path / "mask.png")


AMBIGUOUS = ["gray_jpeg", "rgb_jpeg", "progressive_jpeg", "cmyk", "cmyk_unmarked", "ycck", "webp"]
AMBIGUOUS += ["webp_alpha", *(name for name, kind in PHOTOS.items() if kind.samples is not None)]


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_turn_is_refused_and_without_its_tag_the_pixels_are_the_stored_ones(
    name, tmp_path
):
    """As the advice says. To remove a tag, no pixel is decoded, whatever the kind of file is."""
    kind = PHOTOS[name]
    file = save(tmp_path, "photo", with_orientation(kind.content, 3))
    label = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE) % 21
    with pytest.raises(ValueError, match="photo.* has EXIF orientation 3") as told:
        make_example("photo", file, label, tmp_path / "mask.png")
    assert f"exiftool -Orientation= {file} " in str(told.value)
    assert "leave the photo's name as it is" in str(told.value)
    shown = read_photo(file)
    np.testing.assert_array_equal(shown, read_photo(save(tmp_path, "a", kind.content))[::-1, ::-1])
    assert [one.name for one in tmp_path.glob("photo*")] == [file.name]
    file.write_bytes(without_orientation(file.read_bytes()))
    example = make_example("photo", file, label, tmp_path / "mask.png")
    image = Image.open(io.BytesIO(example["image"])).convert("RGB")
    np.testing.assert_array_equal(image, shown[::-1, ::-1])
    np.testing.assert_array_equal(Image.open(io.BytesIO(example["label"])), label)


def exif_block(order, *entries, directory=8):
    """Entries (tag, type, count, 4 bytes) -> an EXIF block."""
    return (
        {"<": b"II*\0", ">": b"MM\0*"}[order]
        + struct.pack(order + "IH", directory, len(entries))
        + b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    )


def test_exif_is_read_alike_in_python_and_in_graphs_and_damage_means_as_stored():
    in_graph = tf.function(
        exif_orientation_in_graph, input_signature=[tf.TensorSpec((), tf.string)]
    )
    other = (0x010F, 2, 4, b"abc\0")
    blocks = {b"": 1, b"II*\0": 1, b"no exif at all": 1}
    for order in "<>":
        for value in range(11):
            entry = (0x0112, 3, 1, struct.pack(order + "HH", value, 0))
            blocks[exif_block(order, other, entry)] = value if 2 <= value <= 8 else 1
        blocks[exif_block(order, (0x0112, 2, 2, b"6\0\0\0"))] = 1  # Text.
        blocks[exif_block(order, (0x0112, 3, 2, b"\6\0\6\0"))] = 1
        blocks[exif_block(order, directory=2**32 - 1)] = 1
    for block, orientation in blocks.items():
        assert exif_orientation(b"Exif\0\0" + block) == in_graph(block).numpy() == orientation
    rng = np.random.default_rng(0)
    whole = [block for block in blocks if len(block) > 20]
    for i in range(500):
        damaged = bytearray(whole[i % len(whole)])
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        block = bytes(damaged[: rng.integers(8, len(damaged) + 1)])
        assert exif_orientation(block) == in_graph(block).numpy(), block


def test_what_tensorflow_decodes_alike_keeps_its_bytes(tmp_path):
    for name in ("rgb_jpeg", "gray_jpeg", "progressive_jpeg", "mpo", "exif9"):
        file = save(tmp_path, name, PHOTOS[name].content)
        assert make_example(name, file)["image"] == PHOTOS[name].content
