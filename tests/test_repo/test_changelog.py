"""scripts/check_changelog.py on small repositories of its own."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.test_repo.markdown import ROOT


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("c", ROOT / "scripts/check_changelog.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _commit(repository: Path, file: str, message: str) -> None:
    path = repository / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(message)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["add", "."], [*identity, "commit", "-qm", message]):
        subprocess.run(["git", "-C", str(repository), *arguments], check=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    _commit(tmp_path, "tracer/schema.py", "Schema")
    _commit(tmp_path, "CHANGELOG.md", "Changelog")
    return tmp_path


def test_a_changelog_as_new_as_the_public_surface_passes(
    check: ModuleType, repository: Path
) -> None:
    _commit(repository, "tracer/recorder.py", "Private")

    assert check.unmentioned_commits(repository) == []


def test_a_newer_public_change_is_named(check: ModuleType, repository: Path) -> None:
    _commit(repository, "dashboard/cli/report.py", "Report in colour")

    (owed,) = check.unmentioned_commits(repository)
    assert owed.endswith("Report in colour")


def test_a_commit_can_say_that_users_need_not_hear_of_it(
    check: ModuleType, repository: Path
) -> None:
    _commit(repository, "tracer/schema.py", "Reword a comment\n\nChangelog: none")

    assert check.unmentioned_commits(repository) == []
