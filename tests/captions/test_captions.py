"""Captions and the maps of their words, against the plain module in float64: hooks, no cut, no graph."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gradcam_service.cli import _draw
from gradcam_service.core.options import ExplainOptions
from gradcam_service.errors import BadOption, ModelFailed, UnknownTarget, UnsupportedMethod

from .decoders import LENGTH, SIDE, WORDS, made, pooled

FACTORIES = {"attends": made, "pooled": pooled}
END = WORDS.index("<end>")
METHODS = (
    *("hirescam", "occlusion", "rise", "scorecam", "ablationcam"),
    *("integrated_gradients", "smoothgrad", "guided_gradcam"),
)


def plain(module, data):
    """An independent implementation: the greedy caption, and Grad-CAM of each word, in float64."""
    module = module.double()
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64) / 255
    image = torch.from_numpy((pixels.transpose(2, 0, 1) - 0.5) / 0.25)[None]
    words, likely, maps = [], [], []
    for _ in range(LENGTH - 1):
        kept = {}
        hook = module.features.register_forward_hook(lambda _, __, output, kept=kept: kept.update(a=output))
        logits = module(image, torch.tensor([[1, *words]]))[0, -1]
        hook.remove()
        chosen = int(logits.masked_fill(torch.tensor([w in ("<pad>", "<start>") for w in WORDS]), -torch.inf).argmax())
        if chosen == END:
            break
        (slope,) = torch.autograd.grad(logits[chosen], kept["a"])
        maps.append((slope.mean((2, 3), keepdim=True) * kept["a"]).sum(1).relu()[0].detach().numpy())
        likely.append(float(logits.log_softmax(0)[chosen].detach()))
        words.append(chosen)
    return words, likely, maps


@pytest.mark.parametrize("name", ["attends", pytest.param("pooled", marks=pytest.mark.exhaustive)])
def test_every_word_of_ten_captions_is_explained_as_by_the_plain_module_in_float64(opened, pictures, name):
    module, spoken = FACTORIES[name](), set()
    for picture in pictures:
        words, likely, maps = plain(module, picture)
        result = opened(name).explain(picture, ExplainOptions(output=["map"]))
        caption = result.prediction.caption
        assert caption.text == " ".join(WORDS[word] for word in words)
        assert [word.word for word in caption.words] == [WORDS[word] for word in words]
        np.testing.assert_allclose([word.log_probability for word in caption.words], likely, atol=1e-4)
        assert [told.target.index for told in result.explanations] == list(range(len(words)))
        for explanation, expected in zip(result.explanations, maps, strict=True):
            assert np.abs(explanation.map - expected).max() <= 1e-4 * max(expected.max(), 1e-6)
        spoken.add(caption.text)
    assert len(spoken) > 1  # captions depend on the picture


@pytest.mark.parametrize("name", FACTORIES)
def test_the_head_of_features_and_tokens_is_the_model(opened, name):
    network, module = opened(name).model.network, FACTORIES[name]()
    images, tokens = torch.randn(3, 3, SIDE, SIDE), torch.randint(0, len(WORDS), (3, LENGTH))
    frontier = network.cut.frontier(images, tokens)
    with torch.no_grad():
        expected = module(images, tokens).flatten(1)
        torch.testing.assert_close(network.cut.head.scores(frontier, tokens), expected, rtol=1e-5, atol=1e-4)


def test_a_text_of_the_callers_own_is_scored_and_explained(opened, pictures):
    own = ExplainOptions(caption="A blue fish, left of a", output=["map"])
    result = opened("attends").explain(pictures[0], own)
    caption = result.prediction.caption
    assert caption.text == "a blue fish left of a"
    logits = made()(_image(pictures[0]), torch.tensor([[1, 3, 5, 7, 8, 10, 3]])).log_softmax(2)[0].tolist()
    expected = [logits[at][word] for at, word in enumerate([3, 5, 7, 8, 10, 3])]
    np.testing.assert_allclose([word.log_probability for word in caption.words], expected, atol=1e-5)
    assert [told.name for told in result.explanations] == ["a", "blue", "fish", "left", "of", "a"]


def test_single_words_are_named_by_index_or_word(opened, pictures):
    def explained(**options):
        return opened("attends").explain(pictures[0], ExplainOptions(caption="a red star", output=["map"], **options))

    whole = explained().explanations
    named = explained(target=[{"word": "star"}, {"word": 0}, '{"word": "a"}', "star", 1, "1"]).explanations
    assert [told.target.index for told in named] == [2, 0, 0, 2, 1, 1]
    np.testing.assert_allclose(named[0].map, whole[2].map, rtol=1e-4, atol=1e-7)
    assert named[0].target.chosen == "request"
    assert whole[0].target.chosen == "caption"


@pytest.mark.parametrize(
    "method",
    [
        "hirescam",
        "occlusion",
        "rise",
        "scorecam",
        "ablationcam",
        "integrated_gradients",
        "smoothgrad",
        "guided_gradcam",
    ],
)
def test_other_methods_explain_words_too(opened, pictures, method):
    options = {"rise": {"masks": 8}, "smoothgrad": {"samples": 2}, "integrated_gradients": {"steps": 2}}.get(method, {})
    own = ExplainOptions(method=method, caption="a red star", output=["map"], **options)
    together = opened("attends").explain(pictures[0], own).explanations
    assert len(together) == 3
    one = ExplainOptions(method=method, caption="a red star", target=[{"word": "star"}], output=["map"], **options)
    (alone,) = opened("attends").explain(pictures[0], one).explanations
    np.testing.assert_allclose(alone.map, together[2].map, rtol=1e-3, atol=1e-5 * np.abs(alone.map).max())


def test_occlusion_of_a_word_is_what_its_logit_loses(opened, pictures):
    own = ExplainOptions(
        method="occlusion", window=16, stride=16, caption="a red", target=[{"word": 1}], output=["map"]
    )
    (explanation,) = opened("attends").explain(pictures[0], own).explanations
    image, tokens = _image(pictures[0]), torch.tensor([[1, 3, 4]])
    covered = image.clone()
    covered[:, :, :16, 16:] = 0
    with torch.no_grad():
        loss = made()(image, tokens)[0, 1, 4] - made()(covered, tokens)[0, 1, 4]
    assert explanation.map[0, 31] == pytest.approx(float(loss), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"caption": "a red dragon"}, BadOption, "doesn't know 'dragon'"),
        ({"caption": " ... "}, BadOption, "has no words"),
        ({"caption": "a a a a a a a"}, BadOption, "has 7 words; the model takes at most 6"),
        ({"caption": "a red", "target": [{"word": "star"}]}, UnknownTarget, "'a red'; it has no word 'star'"),
        ({"caption": "a red", "target": [{"word": 2}]}, UnknownTarget, "'a red'; it has no word 2"),
        ({"target": [{"word": "stra"}]}, UnknownTarget, "'star'"),
        ({"target": [{"word": 6}]}, UnknownTarget, "at most 6"),
        ({"target": ["stra"]}, UnknownTarget, "'star'"),
        ({"target": ["6"]}, UnknownTarget, "at most 6"),
        ({"target": [{"class": 3}]}, BadOption, '{"word": 4}'),
        ({"method": "finercam"}, UnsupportedMethod, "most like it"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_work(opened, pictures, options, error, said):
    with pytest.raises(error) as raised:
        opened("attends").explain(pictures[0], ExplainOptions(**options))
    assert said in raised.value.detail


def test_of_a_caption_without_words_no_picture_is_written(opened, pictures, tmp_path):
    with pytest.raises(UnknownTarget, match="the caption is empty, so that no word is explained"):
        _draw(opened("silent"), "x", pictures[0], ExplainOptions(output=["overlay"]), tmp_path / "cam.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "said"), [("peeking", "depend on tokens after it"), ("alone", "every position")])
def test_a_network_that_is_no_captioner_is_refused_with_the_reason(opened, name, said):
    with pytest.raises(ModelFailed) as raised:
        opened(name)
    assert said in raised.value.detail


def _image(data):
    pixels = np.asarray(Image.open(io.BytesIO(data)), np.float32) / 255
    return torch.from_numpy((pixels.transpose(2, 0, 1) - 0.5) / 0.25)[None]
