"""Photos as people have them: every kind becomes upright RGB, or is named."""

import pathlib
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data.drawing import LINE_HEIGHT
from data.image_files import named_errors, read_samples
from data.photos import OVERLAY_UNIT, draw_overlay, encode_photo, find_photos, read_photo

COLORS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [255, 255, 255], [9, 99, 199]]]
)
COLORS = COLORS.astype(np.uint8)


def test_errors_of_tensorflow_are_told_without_their_frame():
    with tf.device("cpu"), pytest.raises(ValueError) as told, named_errors(pathlib.Path("a.png")):
        tf.io.decode_png(b"\x89PNG\r\n\x1a\n" + b"0" * 50)
    assert "{{function_node" in str(told.value.__cause__)
    said = "a.png cannot be read: Invalid PNG. Failed to initialize decoder. Download or save it"
    assert str(told.value).startswith(said)


def test_png_and_webp_are_read_as_they_are(tmp_path):
    for suffix, how in ((".png", {}), (".webp", {"lossless": True})):
        Image.fromarray(COLORS).save(tmp_path / f"a{suffix}", **how)
        np.testing.assert_array_equal(read_photo(tmp_path / f"a{suffix}"), COLORS)


def test_a_photo_is_turned_as_its_tag_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by a quarter to the right.
    Image.fromarray(COLORS).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), np.rot90(COLORS, -1))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    gray = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8))
    suffix = "jpg" if mode == "CMYK" else "png"
    gray.convert(mode).save(tmp_path / f"a.{suffix}")
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.shape == (2, 2, 3) and photo.dtype == np.uint8
    if mode != "CMYK":  # JPEG blurs it.
        np.testing.assert_array_equal(photo[..., 0], np.asarray(gray))


def test_16_bits_are_scaled_not_cut_off(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png")[0, :, 0], [0, 128, 255])


def test_the_gray_value_that_a_16_bit_png_calls_transparent_is_white(tmp_path):
    values = np.array([[0, 500, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=500)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png")[0, :, 0], [0, 255, 255])


def test_what_is_transparent_is_seen_on_white(tmp_path):
    Image.fromarray(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png")[0, :, 0], [255, 9])


def test_what_cannot_be_read_is_named(tmp_path):
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:-40])
    (tmp_path / "text.jpg").write_text("no photo")
    Image.fromarray(COLORS).save(tmp_path / "other.tiff")
    for name in ("cut.png", "text.jpg", "other.tiff"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read_photo(tmp_path / name)


def test_a_damaged_tag_beside_the_one_that_turns_a_photo_is_passed_over(tmp_path):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x1a\0\x02\0\0\0\x05\0\0\0&\x01\x12\0\x03\0\0\0\x01"
    exif += b"\0\x06\0\0\0\0\0\0make\0"  # A tag of numbers that holds text.
    Image.fromarray(COLORS).save(tmp_path / "exif.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "exif.png"), np.rot90(COLORS, -1))


def test_a_header_that_promises_too_much_is_not_believed(tmp_path):
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = (40_000).to_bytes(4, "big") * 2  # Width and height of the header.
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)
    for read in (read_photo, encode_photo, read_samples):
        with pytest.raises(
            ValueError, match="a.png has 40000 x 40000 .* 1600.0 megapixels; .* 178"
        ):
            read(tmp_path / "a.png")


def test_each_suffix_of_a_jpeg_is_known(tmp_path):
    for name in ("a.jpe", "b.JFIF", "c.Jpeg"):
        (tmp_path / name).touch()
    assert [path.name for path in find_photos([str(tmp_path)])] == ["a.jpe", "b.JFIF", "c.Jpeg"]


def test_files_folders_and_globs_name_each_photo_once(tmp_path):
    for name in ("b.JPG", "a.png", "c.webp", "notes.txt"):
        (tmp_path / name).touch()
    found = find_photos([str(tmp_path), str(tmp_path / "a.png"), str(tmp_path / "*.webp")])
    assert [path.name for path in found] == ["a.png", "b.JPG", "c.webp"]
    (tmp_path / "below" / "folder.png").mkdir(parents=True)
    (tmp_path / "below" / "d.png").touch()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.png")
    found = find_photos([str(tmp_path / "**")])
    assert [path.name for path in found] == ["a.png", "b.JPG", "d.png", "c.webp", "link.jpg"]
    assert [path.name for path in find_photos([str(tmp_path / "below")])] == ["d.png"]


def test_what_matches_nothing_is_passed_over_unless_nothing_is_left(tmp_path, capsys):
    (tmp_path / "a.png").touch()
    (tmp_path / "empty").mkdir()
    patterns = [str(tmp_path / name) for name in ("*.webp", "a.png", "empty", "nowhere.jpg")]
    assert [path.name for path in find_photos(patterns)] == ["a.png"]
    warned = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in warned] == [patterns[i] for i in (0, 2, 3)]
    with pytest.raises(FileNotFoundError, match="webp matches no photo; .*empty matches no.*Name"):
        find_photos([patterns[0], patterns[2]])
    assert find_photos([]) == []


def test_leftovers_of_macos_and_windows_are_passed_over(tmp_path, capsys):
    for name in ("a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", "__MACOSX/b.jpg", "c/._d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for pattern in ("", "**", "._a.jpg", "Thumbs.db", "__MACOSX"):  # Bash's * names each of them.
        found = find_photos([str(tmp_path / "a.jpg"), str(tmp_path / pattern)])
        assert [path.name for path in found] == ["a.jpg"]
    assert capsys.readouterr().err.count("skipped") == 3


def test_an_overlay_leaves_the_background_and_names_the_classes_below():
    photo = np.full((50, 60, 3), 200, np.uint8)
    class_ids = np.zeros((50, 60), np.uint8)
    class_ids[10:20] = 1
    palette = np.zeros((256, 3), np.uint8)
    palette[1], palette[2] = (100, 0, 0), (0, 0, 100)
    picture = np.asarray(draw_overlay(photo, class_ids, palette, ["background", "cat", "dog"]))
    assert picture.shape == (50 + LINE_HEIGHT, 60, 3)
    np.testing.assert_array_equal(picture[0, 0], [200, 200, 200])
    np.testing.assert_array_equal(picture[15, 0], [150, 100, 100])
    assert (picture[50:] == [100, 0, 0]).all(-1).any()
    assert not (picture[50:] == [0, 0, 100]).all(-1).any()
    class_ids[30:] = 2  # Now there are two lines, since one is too narrow for both.
    two = draw_overlay(photo, class_ids, palette, ["background", "cat", "dog"])
    assert two.height == 50 + 2 * LINE_HEIGHT


def test_an_overlay_has_room_for_a_legend_and_fits_into_a_jpeg():
    palette, names = np.zeros((256, 3), np.uint8), ["background", "cat"]
    for size, shown in (((1, 1), (1, None)), ((2, 70_000), (1, 14_000))):
        photo, class_ids = np.zeros((*size, 3), np.uint8), np.ones(size, np.uint8)
        picture = draw_overlay(photo, class_ids, palette, names)
        assert picture.height == shown[0] + LINE_HEIGHT
        assert picture.width == shown[1] or 40 < picture.width < 80


@pytest.mark.parametrize("shade", [0, 255])
def test_an_overlay_outlines_each_class_on_any_photo(shade):
    """The class is as dark or as light as the photo: its tint does not show."""
    class_ids = np.zeros((40, 60), np.uint8)
    class_ids[10:30, 20:40] = 1
    palette = np.full((256, 3), shade, np.uint8)
    photo = np.full((40, 60, 3), shade, np.uint8)
    picture = np.asarray(draw_overlay(photo, class_ids, palette, ["background", "cat"]))[:40]
    changed = (picture != shade).any(-1)
    assert changed[9:11, 20:40].any(0).all() and changed[10:30, 19:21].any(1).all()
    assert not changed[:9].any() and not changed[12:28, 22:38].any()


def test_an_overlay_of_background_alone_says_so():
    palette = np.full((256, 3), [200, 0, 0], np.uint8)
    photo, class_ids = np.full((50, 150, 3), 200, np.uint8), np.zeros((50, 150), np.uint8)
    picture = np.asarray(draw_overlay(photo, class_ids, palette, ["background", "cat"]))
    assert (picture[:50] == 200).all()
    legend = picture[50:]
    assert legend.shape[0] == LINE_HEIGHT and (legend < 100).any()
    assert (legend == legend[..., :1]).all()  # Text and no color.
    named = draw_overlay(photo, class_ids, palette, ["road", "cat"])
    assert (np.asarray(named)[50:] == [200, 0, 0]).all(-1).any()


def test_a_large_photo_has_a_large_legend():
    class_ids = np.ones((3 * OVERLAY_UNIT, 4 * OVERLAY_UNIT), np.uint8)
    photo = np.zeros((*class_ids.shape, 3), np.uint8)
    picture = draw_overlay(photo, class_ids, np.zeros((256, 3), np.uint8), ["background", "cat"])
    assert picture.height == class_ids.shape[0] + 3 * LINE_HEIGHT
