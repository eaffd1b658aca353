"""The README tells no lies that a program can find."""

from __future__ import annotations

import re

import pytest

from gradcam_service.settings import Settings
from repository import ROOT

README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_row_with_its_default(name: str):
    field = Settings.model_fields[name]
    default = {None: "–", (): "–"}.get(field.default, str(field.default))
    assert f"| `GRADCAM_{name.upper()}` | `{default}` | {field.description} |" in README


def test_no_row_is_about_a_setting_that_is_not():
    rows = re.findall(r"^\| `GRADCAM_(\w+)`", README, re.MULTILINE)
    assert {row.lower() for row in rows} == Settings.model_fields.keys()


@pytest.mark.parametrize("file", ["README.md", "deploy/README.md"])
def test_every_file_it_links_to_is_there(file: str):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / file).read_text())
    assert links
    assert [link for link in links if not (ROOT / file).parent.joinpath(link).exists()] == []
