"""The pictures of docs/concepts.md show what the analyses say today of the runs on paper."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.concept_pictures.pictures import PICTURES
from tests.test_repo.markdown import ROOT

PAGE = ROOT / "docs" / "concepts.md"


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_up_to_date(name: str, tmp_path: Path) -> None:
    file = ROOT / "docs" / "images" / f"concepts-{name}.svg"
    drawn = PICTURES[name](tmp_path)
    assert file.read_text(encoding="utf-8") == drawn, "python -m scripts.concept_pictures"
    assert ElementTree.fromstring(drawn).get("role") == "img"


def test_the_page_shows_each_of_them_once() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(images/concepts-([a-z-]+)\.svg\)", PAGE.read_text())
    assert sorted(shown) == sorted(PICTURES)
