"""What callers name a model by: its name, a version, an alias."""

import pytest

from gradcam_service.errors import UnknownModel
from gradcam_service.registry.listing import Model, resolve, version_order


def model(name, version, *aliases, state="ready"):
    return Model(name, version, list(aliases), state)


MODELS = [
    model("cats", "10", state="loading"),
    model("cats", "9", "stable"),
    model("cats", "2", "old"),
    model("cats", "nightly"),
    model("dogs", "1", state="failed"),
    model("dogs", "2", state="unloaded"),
]


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("cats", "cats@9"),
        ("cats@2", "cats@2"),
        ("cats@10", "cats@10"),
        ("cats@nightly", "cats@nightly"),
        ("cats@stable", "cats@9"),
        ("cats@old", "cats@2"),
        ("dogs", "dogs@2"),
        ("dogs@1", "dogs@1"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_references(reference, key, order):
    assert resolve(MODELS[::order], reference).key == key


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("birds", "'birds'; there are: cats, dogs"),
        ("cat", "'cat' (did you mean 'cats'?); there are: cats, dogs"),
        ("", "there are: cats, dogs"),
        ("Cats", "'Cats'"),
        ("cats@3", "'3'; it has: nightly, 2, old, 9, stable, 10"),
        ("dogs@stable", "'stable'; it has: 1, 2"),
        ("cats@2@2", "'2@2'"),
    ],
)
def test_references_to_nothing_are_answered_with_what_there_is(reference, says):
    with pytest.raises(UnknownModel) as caught:
        resolve(MODELS, reference)
    assert says in caught.value.detail


def test_nothing_is_found_where_nothing_is():
    with pytest.raises(UnknownModel, match="there are: none"):
        resolve([], "cats")


def test_a_version_goes_before_an_alias_of_the_same_name():
    assert resolve([model("cats", "1", "2"), model("cats", "2")], "cats@2").key == "cats@2"


def test_versions_are_ordered_as_numbers_after_words():
    assert sorted(["10", "nightly", "9", "2", "beta", "100"], key=version_order) == [
        "beta",
        "nightly",
        "2",
        "9",
        "10",
        "100",
    ]
