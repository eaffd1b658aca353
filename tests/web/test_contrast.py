"""Why this rather than that: a class compared with another, on the page and in the commands that it offers."""

import numpy as np


def test_a_class_is_compared_with_another(playground):
    playground.open("#picture=fish-star")
    alone, asked = playground.heat(), len(playground.asked)
    assert playground.titles() == ["fish"]
    playground.page.locator("#against").select_option(label="star")
    playground.shows("fish rather than star")
    assert len(playground.asked) == asked + 1
    assert not np.array_equal(playground.heat(), alone)
    assert "“fish rather than star”" in playground.page.locator("#meaning").inner_text()
    playground.page.locator("#against").select_option(label="all other classes")
    playground.shows("fish rather than the rest")
    playground.page.locator("#against").select_option(label="nothing: the class by itself")
    playground.shows("fish")
    assert np.array_equal(playground.heat(), alone)
    assert len(playground.asked) == asked + 2  # what is known is not asked again


def test_the_address_holds_what_a_class_is_compared_with(playground):
    playground.open("#picture=fish-star")
    playground.page.locator("#against").select_option(label="star")
    playground.shows("fish rather than star")
    compared = playground.heat()
    assert "against=10" in playground.hash()
    playground.page.reload()
    playground.shows("fish rather than star")
    assert np.array_equal(playground.heat(), compared)
    assert playground.page.locator("#against").input_value() == "10"


def test_the_class_that_is_compared_with_is_itself_explained_alone(playground):
    playground.open("#picture=fish-star&targets=4,10&against=10", tiles=2)
    assert playground.titles() == ["fish rather than star", "star"]
