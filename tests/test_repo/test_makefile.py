"""The Makefile: it lists its targets, and every `make X` that a document names is there."""

from __future__ import annotations

import re
import subprocess

from tests.test_repo.markdown import ROOT, code_spans, documents

_PHONY = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def _targets() -> set[str]:
    assert _PHONY is not None
    return set(_PHONY.group(1).split())


def test_make_alone_lists_every_target() -> None:
    listing = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert set(re.findall(r"^  make (\w+)", listing, flags=re.MULTILINE)) == _targets()


def test_every_make_target_that_a_document_names_exists() -> None:
    named = {
        (path.relative_to(ROOT).as_posix(), target)
        for path in documents()
        for span in code_spans(path.read_text())
        for target in re.findall(r"^make ([a-z]+)\b", span)
    }

    assert named, "no document names a make target"
    assert {(page, target) for page, target in named if target not in _targets()} == set()
