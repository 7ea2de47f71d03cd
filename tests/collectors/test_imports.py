"""Waiting for a module: before and after its import, errors, and leaving no trace."""

import importlib
import sys

import pytest

from collectors.live.imports import Imports


@pytest.fixture
def module_on_disk(tmp_path, monkeypatch):
    (tmp_path / "late_framework.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "late_framework"
    sys.modules.pop("late_framework", None)


def test_acts_once_when_the_module_comes_later(module_on_disk):
    seen = []
    imports = Imports(on_error=pytest.fail)
    imports.when_imported(module_on_disk, lambda module: seen.append(module.value))
    assert seen == []
    module = importlib.import_module(module_on_disk)
    assert seen == [7]
    importlib.reload(module)
    assert seen == [7]
    imports.restore()


def test_acts_at_once_on_a_module_that_is_there(module_on_disk):
    module = importlib.import_module(module_on_disk)
    before, seen = list(sys.meta_path), []
    Imports(on_error=pytest.fail).when_imported(module_on_disk, seen.append)
    assert seen == [module]
    assert sys.meta_path == before


def test_an_error_of_ours_does_not_reach_the_import(module_on_disk):
    errors = []
    imports = Imports(on_error=errors.append)
    imports.when_imported(module_on_disk, lambda module: module.no_such_name)
    assert importlib.import_module(module_on_disk).value == 7
    assert [type(error) for error in errors] == [AttributeError]
    imports.restore()


def test_restore_forgets_what_was_waited_for(module_on_disk):
    before, seen = list(sys.meta_path), []
    imports = Imports(on_error=pytest.fail)
    imports.when_imported(module_on_disk, seen.append)
    imports.restore()
    assert sys.meta_path == before
    importlib.import_module(module_on_disk)
    assert seen == []


def test_the_module_keeps_its_own_loader(module_on_disk):
    imports = Imports(on_error=pytest.fail)
    imports.when_imported(module_on_disk, lambda module: None)
    module = importlib.import_module(module_on_disk)
    imports.restore()
    assert type(module.__spec__.loader).__name__ == "SourceFileLoader"
    assert module.__loader__ is module.__spec__.loader
