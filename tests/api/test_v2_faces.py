"""Which face of which model a name means."""

import pytest

from gradcam_service.api.oip.faces import EXPLAINING, PREDICTING, PREPARED, every, find
from gradcam_service.errors import BadRequest, UnknownModel
from gradcam_service.registry.listing import Model

MODELS = [Model(name, "1", [], "ready") for name in ("a", "a-explain", "b")] + [Model("b", "2", ["beta"], "ready")]


@pytest.mark.parametrize(
    ("name", "version", "face", "reference", "key"),
    [
        ("a", "", PREDICTING, "a", "a@1"),
        ("a-tensor", "", PREPARED, "a", "a@1"),
        ("a-explain", "", PREDICTING, "a-explain", "a-explain@1"),  # a model that is really called so
        ("a-explain-explain", "1", EXPLAINING, "a-explain@1", "a-explain@1"),
        ("b-explain", "", EXPLAINING, "b", "b@2"),
        ("b-explain", "1", EXPLAINING, "b@1", "b@1"),
        ("b-explain@1", "", EXPLAINING, "b@1", "b@1"),
        ("b-tensor", "beta", PREPARED, "b@beta", "b@2"),
        ("b@beta", "", PREDICTING, "b@beta", "b@2"),
    ],
)
def test_a_name_means_a_model_that_is_called_so_or_else_a_face(name, version, face, reference, key):
    found = find(MODELS, name, version)
    assert (found.name, found.face, found.reference, found.model.key) == (name.partition("@")[0], face, reference, key)
    assert found.versions == (["1", "2"] if key.startswith("b") else ["1"])


@pytest.mark.parametrize("name", ["c", "-tensor", "a-scores", "b@3", "b-explain@stable", "", "@1", "b-explain-tensor"])
def test_what_is_neither_is_not_there(name):
    with pytest.raises(UnknownModel):
        find(MODELS, name)


def test_a_version_is_told_once():
    with pytest.raises(BadRequest, match="'2'"):
        find(MODELS, "b@1", "2")


def test_every_name_that_is_listed_is_found_once():
    names = [name for name, *_ in every(MODELS)]
    assert len(set(names)) == len(names) == 8
    for name, face, model in every(MODELS):
        found = find(MODELS, name)
        assert (found.face, found.model.name) == (face, model)
