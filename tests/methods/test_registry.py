"""A method is one file: what others know of methods derives from it, and it is known without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gradcam_service
from gradcam_service.core.options import ExplainOptions
from gradcam_service.explain.methods import DEFAULT, METHODS, in_order

from .networks import BATCHED, ITERATIVE

PACKAGE = Path(gradcam_service.__file__).parent
NAMING = ("explain/methods/", "evaluate/protocols/faithfulness.py", "zoo/easy_vqa/network.py", "zoo/policy/network.py")
"""Where methods may be named: their own files, the protocol of one, and the embedded models that choose one."""
TEXTS = [
    path
    for path in PACKAGE.rglob("*")
    if path.suffix in (".py", ".js", ".html") and not path.relative_to(PACKAGE).as_posix().startswith(NAMING)
]


@pytest.mark.parametrize("name", [name for name in METHODS if name != DEFAULT])
def test_no_other_file_of_the_package_names_a_method(name):
    method = METHODS[name]
    quoted = [f'"{name}"', f"'{name}'", f'"{method.title}"', method.summary]
    assert [(path, word) for path in TEXTS for word in quoted if word in path.read_text()] == []


def test_processes_without_torch_know_all_about_methods():
    program = """
import json, sys
from gradcam_service.explain.methods import METHODS
from gradcam_service.core.options import ExplainOptions
known = {name: METHODS[name].summary for name in METHODS}
print(json.dumps([sorted(known), [name for name in ("torch", "torchvision") if name in sys.modules]]))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == [sorted(METHODS), []]


def test_lists_begin_with_the_default_and_what_rides_in_the_batch():
    assert in_order()[0] == DEFAULT
    assert set(in_order()[: len(BATCHED)]) == set(BATCHED)
    assert sorted(in_order()) == sorted(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_words_are_there_and_say_what_is_explained(name):
    method = METHODS[name]
    assert method.title
    assert method.paper.startswith("https://")
    assert "{target}" in method.summary or "the class" in method.summary
    assert not method.summary.endswith(".")


@pytest.mark.parametrize("name", BATCHED)
def test_batched_methods_of_numpy_arrays_are_those_of_tensors(name):
    generator = torch.Generator().manual_seed(0)
    features, gradients = (torch.randn(3, 5, 4, 6, generator=generator) for _ in range(2))
    features[1, 2] = 0  # a channel without weight
    gradients[2, 1] = 0
    ours = METHODS[name].maps(features.numpy(), gradients.numpy())
    assert isinstance(ours, np.ndarray)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, METHODS[name].maps(features, gradients), rtol=1e-4, atol=1e-5)
    assert ours.any()


OUTSIDE = {
    "finercam": [("gamma", -0.1), ("gamma", 11), ("references", 0), ("references", 101)],
    "integrated_gradients": [("steps", 1), ("steps", 1001)],
    "smoothgrad": [("samples", 0), ("samples", 1001), ("noise", -1), ("noise", 1.1), ("seed", -1), ("seed", 2**63)],
    "occlusion": [("window", 0), ("window", 513), ("stride", 0), ("stride", 513)],
    "rise": [("masks", 0), ("masks", 100_001), ("cells", 1), ("cells", 65), ("keep", 0), ("keep", 1.1), ("seed", -1)],
}


@pytest.mark.parametrize(
    ("method", "option", "value"), [(method, *pair) for method, pairs in OUTSIDE.items() for pair in pairs]
)
def test_an_option_out_of_its_range_is_refused(method, option, value):
    assert METHODS[method].wrong_with({option: value})
    with pytest.raises(ValueError, match=option):
        ExplainOptions(method=method, **{option: value})


def test_every_option_has_a_range_that_is_tested_and_a_field():
    every = {(name, option) for name in METHODS for option in METHODS[name].options}
    assert every == {(method, option) for method, pairs in OUTSIDE.items() for option, _ in pairs}
    for name, option in every:
        default = METHODS[name].options[option].default
        given = ExplainOptions(method=name, **{option: default}).method_options
        assert given == {option: default}
        assert type(given[option]) is type(default)
        description = ExplainOptions.model_fields[option].description
        assert f"{name}: {METHODS[name].options[option].description}; {default}" in description


def test_defaults_are_in_range():
    assert {name: METHODS[name].wrong_with({}) for name in ITERATIVE + BATCHED} == dict.fromkeys(METHODS, "")


def test_a_stride_beyond_the_window_is_refused_with_the_reason():
    assert "never be covered" in METHODS["occlusion"].wrong_with({"stride": 40})
    assert "never be covered" in METHODS["occlusion"].wrong_with({"window": 8})
    assert not METHODS["occlusion"].wrong_with({"window": 40, "stride": 40})
