"""README and docs tell no lies that a program can find."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tables
from gradcam_service.images.decode import FORMATS, FORMATS_OF_EXTRAS
from gradcam_service.kinds import CONSTANTS
from gradcam_service.registry.repository import parse_spec
from gradcam_service.settings import Settings
from repository import ROOT

PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "deploy/*.md", "load_tests/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
DOCS = [page for page in PAGES if page.parent == Path("docs")]


def text(page: Path | str) -> str:
    return (ROOT / page).read_text()


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path):
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text(page)):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.relative_to(ROOT)), link


@pytest.mark.parametrize("page", DOCS, ids=str)
def test_tables_say_what_the_code_says(page: Path):
    assert tables.renewed(text(page)) == text(page), "make docs writes them"


def test_every_setting_has_a_row_with_its_default():
    page = text("docs/settings.md")
    for name, field in Settings.model_fields.items():
        default = {None: "–", (): "–"}.get(field.default, str(field.default))
        assert f"| `GRADCAM_{name.upper()}` | `{default}` | {field.description} |" in page


def test_every_setting_that_is_named_is_one():
    named = {name for page in PAGES for name in re.findall(r"GRADCAM_([A-Z][A-Z_]+[A-Z])", text(page))}
    assert {name.lower() for name in named} - Settings.model_fields.keys() == {"api_key"}  # of the command line


def test_every_page_can_be_reached_from_the_readme():
    found, waiting = set(), [Path("README.md")]
    while waiting:
        page = waiting.pop()
        if page not in found:
            found.add(page)
            links = re.findall(r"\]\((?!https?://|#)([^)#\s]+\.md)", text(page))
            waiting += [(ROOT / page).parent.joinpath(link).resolve().relative_to(ROOT) for link in links]
    assert set(DOCS) - found == set()


@pytest.mark.parametrize("page", ["README.md", "docs/models.md"])
def test_every_model_yaml_is_one(page: str):
    examples = re.findall(r"^    source: .*(?:\n    .+)*", text(page), re.MULTILINE)
    assert examples
    for example in examples:
        parse_spec(re.sub(r"^    ", "", example, flags=re.MULTILINE).replace("1f0c…", "1f0c" * 16), page)


def test_each_promise_names_a_test_that_there_is():
    file = text("tests/worker/test_fault_tolerance.py").replace("@pytest.mark.exhaustive\ndef test_", "def at_night_")
    tests = re.findall(r"^def (test_\w+)", file, re.MULTILINE)
    named = re.findall(r"`-k (\w+)` \|$", text("docs/operations.md"), re.MULTILINE)
    assert len(named) >= 10
    assert [name for name in named if not any(name in test for test in tests)] == []


def test_what_is_said_to_be_decoded_is_what_is_decoded():
    said = f"only {', '.join(FORMATS)} and `.npy` are decoded, {' and '.join(FORMATS_OF_EXTRAS)} where their extras are"
    assert said in " ".join(text("docs/operations.md").split())


def test_every_kind_of_a_thing_is_in_the_table_of_those_that_may_be_added():
    assert sorted(re.findall(r"^\| .+? \| `([A-Z]+)` \|", text("docs/extending.md"), re.MULTILINE)) == sorted(CONSTANTS)


def test_the_makefile_names_files_that_there_are():
    named = re.findall(r"(?:tests|load_tests|docs)/[\w/.]+", text("Makefile"))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
