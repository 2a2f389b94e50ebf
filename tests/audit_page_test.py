"""audit.html shows samples of each class, and the images that an audit's findings concern."""

import base64
import io
import re

import numpy as np
from PIL import Image

from data.audit import audit
from data.audit_page import write_audit_page
from data.build import build
from data.pipeline import eval_examples
from tests.audit_test import Faulty
from tests.folder_test import save_colors


def test_the_page_shows_each_faulty_example_and_both_images_of_a_near_pair(tmp_path):
    builder = Faulty(data_dir=tmp_path / "shards")
    builder.download_and_prepare()
    write_audit_page(tmp_path / "audit.html", builder, audit(builder), "The summary, < 1 KB", None)
    page = (tmp_path / "audit.html").read_text()
    assert "The summary, &lt; 1 KB" in page and 'src="http' not in page
    for title, names in {
        "train: all ignored": ["ignored"],
        "train: out of range": ["out_of_range"],
        "train: size mismatch": ["smaller"],
        "train and val: similar images": ["like_shared", "shared"],
    }.items():
        section = page.split(f"<h2>{title}</h2>")[1].split("<h2>")[0]
        assert section.count("<img ") == 2 * len(names)
        for name in names:
            assert f"<figcaption>{name}</figcaption>" in section


def test_each_class_is_shown_tinted_in_the_images_that_it_covers_most(tmp_path):
    """In image i of 12, the first 4 i of 64 columns are red, which is class_1."""
    for folder in ("images", "masks"):
        (tmp_path / "pets" / folder).mkdir(parents=True)
    for i in range(1, 13):
        ids = np.repeat([np.arange(64) < 4 * i], 48, axis=0).astype(np.uint8)
        image = Image.fromarray(np.full((48, 64, 3), 128, np.uint8))
        image.save(tmp_path / "pets" / "images" / f"{i}.png")
        save_colors(tmp_path / "pets" / "masks" / f"{i}.png", ids)
    builder = build("folder/pets", str(tmp_path), str(tmp_path / "pets"), accept=True)
    write_audit_page(tmp_path / "audit.html", builder, audit(builder), "", None)
    page = (tmp_path / "audit.html").read_text().split("<h2>Samples")[1]
    _, background, red = re.split(r"<h3><i [^>]*></i>", page)
    least, most = (re.findall(r"<br>(\d+)</figcaption>", part) for part in (background, red))
    train = sorted({*range(1, 13)} - {int(name) for name in ids_of(builder, "val")})
    assert list(map(int, least)) == train[:3] and list(map(int, most)) == train[:-4:-1]
    for part in (background, red):  # The legend.
        assert part.count("#000000") >= 3 and part.count("#ff0000") >= 3
    encoded = re.search(r'base64,([^"]+)', red)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))), int)
    np.testing.assert_allclose(pixels[:, :32].mean((0, 1)), [191, 64, 64], atol=9)
    np.testing.assert_allclose(pixels[:, 56:].mean((0, 1)), [128, 128, 128], atol=9)


def test_a_class_without_an_image_says_so(tmp_path):
    builder = Faulty(data_dir=tmp_path / "shards")
    builder.download_and_prepare()
    write_audit_page(tmp_path / "audit.html", builder, audit(builder), "", None)
    page = (tmp_path / "audit.html").read_text()
    assert page.count("<p>No image.</p>") == 21 - 2  # All but background and bird.


def ids_of(builder, split):
    return [example["id"].decode() for example in eval_examples(builder, split).as_numpy_iterator()]
