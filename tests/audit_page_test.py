"""audit.html shows the images that an audit's findings concern."""

from data.audit import audit
from data.audit_page import write_audit_page
from tests.audit_test import Faulty


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
