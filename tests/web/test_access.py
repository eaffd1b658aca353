"""The page for everyone: by keyboard alone, to screen readers, in the dark, on a phone."""

import itertools

import pytest
from axe_playwright_python.sync_playwright import Axe

from .conftest import Playground

VIEWS = {
    "classes": ("", 2),
    "methods": ("#picture=fish-star&view=methods", 12),
    "models": ("#picture=cat&model=resnet18@1&other=alexnet@1&view=models&box=1", 2),
    "a photograph that scenes doesn't know": ("#picture=coffee", 1),
    "no picture": ("#picture=own", 0),
}


SCREENS = {"classes": [(1280, "light"), (390, "dark")], "methods": [(390, "dark")], "models": [(1280, "light")]}
SCREENS |= {"a photograph that scenes doesn't know": [(390, "dark")], "no picture": [(1280, "light")]}
"""Those on which `make test` looks at a view, of wide and narrow ones by day and by night; each view on one."""


def on_screens():
    """Each view on each screen, the rest of them for `make test-all`."""
    for view, screen in itertools.product(VIEWS, itertools.product((1280, 390), ("light", "dark"))):
        yield pytest.param(view, *screen, marks=() if screen in SCREENS[view] else pytest.mark.exhaustive)


@pytest.mark.parametrize(("view", "width", "scheme"), on_screens())
def test_axe_finds_no_violations_and_nothing_is_wider_than_the_screen(visit, service, width, scheme, view):
    visit.page.set_viewport_size({"width": width, "height": 844})
    visit.page.emulate_media(reduced_motion="reduce", color_scheme=scheme)
    fragment, tiles = VIEWS[view]
    Playground(visit, service).open(fragment, tiles)
    if tiles:
        visit.page.locator("summary").click()
    found = Axe().run(visit.page)
    assert found.violations_count == 0, found.generate_report()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_axe_finds_no_violations_in_what_is_said_of_trouble(playground):
    playground.open("#picture=fish-star&layer=attic", tiles=0)
    playground.page.locator(".tile[data-state=error]").wait_for()
    playground.paste(b"hello", "words.txt", "text/plain")
    playground.page.locator("#picture-error").get_by_text("look like text").wait_for()
    found = Axe().run(playground.page)
    assert found.violations_count == 0, found.generate_report()


def focused(page):
    return page.evaluate("""() => {
        const one = document.activeElement;
        return one.getAttribute('aria-label') || one.id || one.querySelector('img')?.alt || one.textContent.trim();
    }""")


def tabbed_to(page, wanted, most=60):
    """Press Tab until something of that name has the focus."""
    seen = []
    for _ in range(most):
        page.keyboard.press("Tab")
        seen.append(focused(page))
        if seen[-1].startswith(wanted):
            return
    raise AssertionError(f"no Tab leads to {wanted}: {seen}")


def test_everything_is_done_by_keyboard_alone(playground, own, tmp_path):
    page = playground.open(tiles=2).page
    tabbed_to(page, "skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "stage"
    page.reload()
    playground.settled(2)
    tabbed_to(page, "a fish and a star")
    page.keyboard.press("Enter")
    playground.shows("fish")
    tabbed_to(page, "open")
    with page.expect_file_chooser():
        page.keyboard.press("Enter")
    tabbed_to(page, "fish: map over the picture")
    page.keyboard.press("ArrowRight")
    first = page.locator("#said").inner_text()
    page.keyboard.press("Shift+ArrowDown")
    assert "at " in first
    assert page.locator("#said").inner_text() != first
    tabbed_to(page, "opacity")
    before = page.get_by_label("Opacity").input_value()
    page.keyboard.press("ArrowLeft")
    assert page.get_by_label("Opacity").input_value() != before
    tabbed_to(page, "box")
    page.keyboard.press("Space")
    assert page.locator(".box").is_visible()
    tabbed_to(page, "star side by side")
    page.keyboard.press("Enter")
    playground.settled(2)
    assert focused(page) == "star side by side"  # the focus stays
    tabbed_to(page, "class-name")
    page.keyboard.type("arrow")
    page.keyboard.press("Enter")
    playground.shows("arrow")
    tabbed_to(page, "method")
    page.keyboard.press("ArrowDown")
    playground.until("location.hash.includes('method=')")
    playground.settled(1)
    tabbed_to(page, "copy-curl")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    assert playground.visit.complaints == []


def test_what_appears_is_announced(playground):
    playground.open("#picture=fish-star")
    playground.until("document.querySelector('[role=status]').textContent === 'fish: map shown.'")
    playground.class_button("star").click()
    playground.until("document.querySelector('[role=status]').textContent === 'star: map shown.'")


def test_who_wants_less_motion_gets_none(playground):
    playground.page.emulate_media(reduced_motion="reduce")
    playground.open(tiles=2)
    moving = """() => [...document.querySelectorAll('*')].filter((one) => {
        const style = getComputedStyle(one);
        return parseFloat(style.transitionDuration) > 0 || parseFloat(style.animationDuration) > 0;
    }).length"""
    assert playground.page.evaluate(moving) == 0
