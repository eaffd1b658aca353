"""What callers ask of a model, checked against its card: classes by index and by name, methods, layers."""

import pytest

from gradcam_service.errors import BadOption, UnknownLayer, UnknownTarget, UnsupportedMethod
from gradcam_service.registry.card import Card, LayerCard, MethodCard
from gradcam_service.registry.spec import Preprocess


def card(labels=("cat", "dog", "fox"), activation="softmax"):
    return Card(
        digest="sha256:0",
        source="zoo",
        weights="random:0",
        memory=0,
        task="classification",
        activation=activation,
        labels=list(labels),
        preprocess=Preprocess((0, 0, 0), (1, 1, 1), pad=8),
        batch=8,
        runtime="eager",
        layer="layer4",
        layers=[LayerCard("layer3", (4, 4, 4)), LayerCard("layer4", (8, 2, 2))],
        methods=[MethodCard("gradcam", 1, {})],
    )


@pytest.mark.parametrize(
    ("labels", "target", "index"),
    [
        (("cat", "dog", "fox"), 2, 2),
        (("cat", "dog", "fox"), 0, 0),
        (("cat", "dog", "fox"), "dog", 1),
        (("cat", "dog", "fox"), "2", 2),
        (("2", "0", "1"), "2", 0),
        (("2", "0", "1"), "0", 1),
        (("2", "0", "1"), 2, 2),
        (("crane", "dog", "Crane"), "crane", 0),
        (("crane", "dog", "Crane"), "Crane", 2),
        (("tabby, tabby cat", "tiger cat", "Egyptian cat"), "tabby", 0),
        (("tabby, tabby cat", "tiger cat", "Egyptian cat"), "TABBY, Tabby Cat", 0),
        (("tabby, tabby cat", "tiger cat", "Egyptian cat"), " tabby_cat", 0),
        (("tabby, tabby cat", "tiger cat", "Egyptian cat"), "egyptian  cat", 2),
        (("maillot", "maillot, tank suit"), "Maillot", 0),
        (("maillot", "maillot, tank suit"), "tank suit", 1),
        (("Straße", "cafe\u0301"), "STRASSE", 0),
        (("Straße", "cafe\u0301"), "café", 1),
        (("one, 1", "zero, 0"), "1", 1),
        (("Tee, grün", "", " x"), "Tee, grün", 0),
        (("Tee, grün", "", " x"), " x", 2),
    ],
)
def test_a_target_is_a_label_before_it_is_an_index_written_as_text(labels, target, index):
    assert card(labels).class_index(target) == index


@pytest.mark.parametrize("target", [3, -1, 10**30, "3", "-1", "wolf", "", "_", ",", "1.0", "1e0", "0x1", "9" * 5000])
def test_a_target_that_is_no_class_is_refused_with_what_there_is(target):
    with pytest.raises(UnknownTarget) as caught:
        card().class_index(target)
    assert "3 classes, 0 to 2: cat, dog, fox" in caught.value.detail


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("crane", "2 classes are labelled 'crane': 1 'crane', 4 'crane'; an index names one"),
        ("CRANE", "3 classes are labelled 'CRANE': 1 'crane', 2 'Crane', 4 'crane'; an index names one"),
        ("cat", "2 classes are labelled 'cat': 0 'tabby, cat', 3 'tiger cat, cat'; an index names one"),
    ],
)
def test_a_name_of_several_classes_is_refused_with_their_indices(target, told):
    with pytest.raises(UnknownTarget) as caught:
        card(("tabby, cat", "crane", "Crane", "tiger cat, cat", "crane")).class_index(target)
    assert caught.value.detail == told


@pytest.mark.parametrize(
    ("target", "near"),
    [
        ("Cat", "; near it: 1 'tiger cat', 2 'Egyptian cat, mau'"),
        ("tigre cat", "; near it: 1 'tiger cat'"),
        ("egyptian mouse", ""),
        ("c", ""),
    ],
)
def test_a_name_of_no_class_is_refused_with_those_that_are_like_it(target, near):
    with pytest.raises(UnknownTarget) as caught:
        card(("tabby", "tiger cat", "Egyptian cat, mau", "catamaran")).class_index(target)
    listed = "the model has 4 classes, 0 to 3: tabby, tiger cat, Egyptian cat, catamaran"
    assert caught.value.detail == f"no class is labelled {target!r}; {listed}{near}"


def test_a_handful_of_classes_at_most_is_told_near():
    with pytest.raises(UnknownTarget) as caught:
        card([f"dog {i}" for i in range(1000)]).class_index("dog")
    assert caught.value.detail.endswith("near it: 0 'dog 0', 1 'dog 1', 2 'dog 2', 3 'dog 3', 4 'dog 4'")


def test_a_target_with_an_underscore_is_no_index():
    with pytest.raises(UnknownTarget, match="1_0"):
        card([f"class {i}" for i in range(12)]).class_index("1_0")


def test_a_long_list_of_classes_is_cut_short():
    with pytest.raises(UnknownTarget) as caught:
        card([f"class {i}" for i in range(1000)]).class_index("wolf")
    assert "1000 classes, 0 to 999: class 0," in caught.value.detail
    assert "class 11, …" in caught.value.detail
    assert "class 12" not in caught.value.detail


def test_an_option_of_another_method_is_refused_with_those_that_have_it():
    with pytest.raises(BadOption, match="'masks' is no option of gradcam, but of rise; it has none of its own"):
        card().check_question("gradcam", "auto", {"masks": 3})


def test_questions_are_checked_against_the_card():
    for layer in ("auto", "layer3", "layer4"):
        card().check_question("gradcam", layer, {})
    with pytest.raises(UnsupportedMethod, match=r"'lime'.*gradcam"):
        card().check_question("lime", "auto", {})
    with pytest.raises(UnknownLayer, match=r"'layer5'.*layer3, layer4"):
        card().check_question("gradcam", "layer5", {})
