"""The page is one valid file that loads nothing and hides nothing."""

import base64
import html.parser
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from jax_rcl.report.figures import plots
from jax_rcl.report.page import write_page

VOID = {"meta", "img", "br", "link"}


class Reader(html.parser.HTMLParser):
    """Collects what a browser would see, and fails on tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "report" / "index.html"

    def write(**changed):
        content = {
            "title": "Run <one> & two",
            "config_json": '{"temperature": 0.1, "note": "</pre><script>"}',
            "results": {"knn/top1": 0.9723, "knn/top5": 0.999, "geometry/rank": 412.0},
            "protocols": {"knn": "20 neighbours & <cosine>"},
            "history": [{"step": s, "train/loss": 1 / s} for s in range(1, 9)],
            "figures": {"Views: two <each>": plots.views(np.zeros((1, 2, 4, 4, 3)))},
            "facts": {"Device": "H200 <8>"},
            "command": "python -m jax_rcl.main --config=a && b",
        }
        write_page(path, **{**content, **changed})
        reader = Reader()
        reader.feed(path.read_text(encoding="utf-8"))
        reader.close()
        assert reader.open == []
        return reader

    write.path = path
    return write


def test_every_tag_is_closed_and_all_text_is_escaped(written):
    reader = written()
    words = " ".join(reader.words)
    for given in (
        "Run <one> & two",
        '"</pre><script>"',
        "20 neighbours & <cosine>",
        "two <each>",
        "H200 <8>",
        "--config=a && b",
    ):
        assert given in words
    assert not {"script", "one", "each", "cosine"} & {tag for tag, _ in reader.tags}


def test_nothing_is_loaded_from_elsewhere(written):
    reader = written()
    for tag, attributes in reader.tags:
        assert tag not in {"link", "script", "iframe"}
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert not re.search(r"https?://|url\(|@import", written.path.read_text())


def test_pictures_are_embedded_with_their_size_and_a_description(written):
    pictures = [attributes for tag, attributes in written().tags if tag == "img"]
    assert [picture["alt"] for picture in pictures] == [
        "curves: training",
        "Views: two <each>",
    ]
    for picture in pictures:
        kind, data = picture["src"].split(",")
        assert kind == "data:image/png;base64"
        png = base64.b64decode(data)
        assert int.from_bytes(png[16:20], "big") == 2 * int(picture["width"])


def test_numbers_stand_at_the_top_and_in_the_table(written):
    words = [word.strip() for word in written().words if word.strip()]
    assert words.count("97.2\N{NO-BREAK SPACE}%") == 2
    assert words.count("412") == 1
    assert words.index("knn top1") < words.index("Curves") < words.index("Results")


def test_what_is_empty_is_left_out(written):
    reader = written(results={}, protocols={}, history=[], figures={}, facts={})
    assert not {"dl", "section", "table", "img"} & {tag for tag, _ in reader.tags}


def test_a_new_page_replaces_the_old_one_and_leaves_nothing_beside_it(written):
    written()
    written(title="Second")
    assert [path.name for path in written.path.parent.iterdir()] == ["index.html"]
    assert "Second" in written.path.read_text(encoding="utf-8")


def test_a_heavy_picture_is_embedded_at_single_scale(written):
    noise = np.random.default_rng(0).random((8, 2, 96, 96, 3))
    (picture,) = [
        attributes
        for tag, attributes in written(
            history=[], figures={"Noise": plots.views(noise)}
        ).tags
        if tag == "img"
    ]
    png = base64.b64decode(picture["src"].split(",")[1])
    assert int.from_bytes(png[16:20], "big") == int(picture["width"])
    assert len(png) < 700_000


def test_the_page_knows_both_colour_schemes_and_small_screens(written):
    written()
    text = written.path.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_a_picture_that_does_not_draw_is_left_out_and_said(written, caplog):
    class Broken(Figure):
        def savefig(self, *args, **kwargs):
            raise TypeError("bl\udce9 is no text")

    whole = plots.views(np.zeros((1, 2, 4, 4, 3)))
    reader = written(figures={"Broken: one": Broken(), "Views: two": whole})
    assert "Views" in reader.words and "Broken" not in reader.words
    assert (
        r"'Broken: one' does not draw (TypeError: bl\udce9 is no text)" in caplog.text
    )


def test_names_that_are_no_utf_8_are_escaped(written):
    assert r"run \udce9" in written(title="run \udce9").words
