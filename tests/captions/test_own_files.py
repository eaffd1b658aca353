"""Captioners and answerers as their authors would write and export them: served from .pt2 and .onnx files."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from gradcam_service.core.options import ExplainOptions
from gradcam_service.errors import ModelFailed
from gradcam_service.local import open_model
from gradcam_service.settings import Settings

from .conftest import image_of
from .plain import ANSWERS, LENGTH, SIDE, WORDS, Answerer, Attending, Next, Recurrent, Transformer, made

MODEL = """\
source: {source}
weights: model.{source}
task: {task}
tokenizer: vocabulary.txt
length: {length}
preprocess: {{resize: [{side}, {side}], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
runtime: eager
"""
KINDS = {
    "lstm": Recurrent,
    "gru": lambda: Recurrent(nn.GRU),
    "attending": Attending,  # takes the words first
    "transformer": Transformer,
    "next": Next,
    "vqa": Answerer,
}
CASES = [
    *[("lstm", "pt2"), ("gru", "onnx for one"), ("attending", "onnx by TorchScript")],
    *[("next", "pt2"), ("vqa", "pt2")],
]
MORE = [
    *[("lstm", "onnx"), ("lstm", "onnx by TorchScript"), ("gru", "pt2"), ("attending", "pt2"), ("attending", "onnx")],
    *[("transformer", "pt2"), ("transformer", "pt2 of any length"), ("transformer", "onnx"), ("next", "onnx")],
    *[("transformer", "onnx of any length"), ("vqa", "onnx of any length")],
    *[("vqa", "onnx"), ("vqa", "onnx by TorchScript")],
]


def cases(answers):
    """Those of captioners, or of networks that answer questions."""
    some = [*CASES, *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in MORE)]
    return [case for case in some if (getattr(case, "values", case)[0] == "vqa") == answers]


BATCH = torch.export.Dim("batch")


def exported(folder, kind, form):
    """Export a network of a kind, its own names of inputs in its own order, to a file."""
    module, rows = made(KINDS[kind]), 1 if form == "onnx for one" else 2
    inputs = [torch.zeros(rows, 3, SIDE, SIDE), torch.ones(rows, LENGTH, dtype=torch.int64)]
    sizes = [{0: BATCH}, {0: BATCH} | ({1: torch.export.Dim("T", min=1, max=LENGTH)} if "any" in form else {})]
    if kind == "attending":
        inputs, sizes = inputs[::-1], sizes[::-1]
    given, dynamic = tuple(inputs), None if rows == 1 else tuple(sizes)
    if form.startswith("pt2"):
        torch.export.save(torch.export.export(module, given, dynamic_shapes=dynamic), folder / "model.pt2")
    elif form == "onnx by TorchScript":
        axes = {"first": {0: "n"}, "second": {0: "n"}}
        torch.onnx.export(
            module, given, folder / "model.onnx", dynamo=False, input_names=["first", "second"], dynamic_axes=axes
        )
    else:
        torch.onnx.export(module, given, folder / "model.onnx", dynamo=True, verbose=False, dynamic_shapes=dynamic)


def described(folder, source, task, **more):
    lines = MODEL.format(source=source, task=task, side=SIDE, length=more.pop("length", LENGTH))
    lines += "".join(f"{name}: {value}\n" for name, value in more.items())
    (folder / "model.yaml").write_text(lines + ("labels: [yes, no, red, blue]\n" if task == "vqa" else ""))
    (folder / "vocabulary.txt").write_text("\n".join(WORDS))


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Opens the model of a file, exported once."""
    found = {}

    def model(kind, form):
        if (kind, form) not in found:
            root = tmp_path_factory.mktemp("own")
            folder = root / "mine" / "1"
            folder.mkdir(parents=True)
            exported(folder, kind, form)
            described(folder, form.split()[0], "vqa" if kind == "vqa" else "captioning")
            found[kind, form] = open_model("mine", Settings(model_repository=str(root), device="cpu"))
        return found[kind, form]

    return model


def plainly(module, layer, image, tokens, pick):
    """Scores of a module in float64, and Grad-CAM by a hook at a layer of what is picked of them."""
    kept = {}
    hook = module.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.update(a=output))
    inputs = (tokens, image) if isinstance(module, Attending) else (image, tokens)
    scores = module(*inputs)
    hook.remove()
    scores = (scores["logits"] if isinstance(scores, dict) else scores)[0]
    (slope,) = torch.autograd.grad(pick(scores), kept["a"])
    a = kept["a"][0].detach()
    a, slope = (a, slope[0]) if a.dim() == 3 else (a.T, slope[0].T)  # (K, h, w), or (K, h · w) of a row of cells
    weighted = (slope.flatten(1).mean(1)[:, None] * a.flatten(1)).sum(0)
    return scores.detach(), weighted.relu().reshape(SIDE // 4, SIDE // 4).numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "form"), cases(answers=False))
def test_every_word_of_a_captioner_in_a_file_is_said_and_explained_as_by_the_plain_module(opened, pictures, kind, form):
    local, module = opened(kind, form), made(KINDS[kind]).double()
    never = torch.tensor([word in ("<pad>", "<start>") for word in WORDS])
    said = set()
    for picture in pictures[:2]:
        result = local.explain(picture, ExplainOptions(output=["map"]))
        image, words = image_of(picture).double(), []
        for word, explanation in zip(result.prediction.caption.words, result.explanations, strict=True):

            def pick(scores):
                return torch.atleast_2d(scores)[-1].masked_fill(never, -torch.inf).max()

            scores, cam = plainly(module, local.model.card.layer, image, torch.tensor([[1, *words]]), pick)
            following = torch.atleast_2d(scores)[-1]
            best = int(following.masked_fill(never, -torch.inf).argmax())
            assert word.word == WORDS[best]
            assert word.log_probability == pytest.approx(float(following.log_softmax(0)[best]), abs=1e-4)
            assert np.abs(explanation.map - cam).max() <= 1e-4 * max(cam.max(), 1e-3)
            words.append(best)
        said.add(result.prediction.caption.text)
    assert len(said) == 2  # captions depend on the picture


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "form"), cases(answers=True))
def test_answers_of_a_network_in_a_file_are_those_of_the_plain_module(opened, pictures, kind, form):
    local, module = opened(kind, form), made(Answerer).double()
    for picture, question, target in zip(pictures, ("a red star", "left of?", "a"), (None, "no", "red"), strict=False):
        options = ExplainOptions(question=question, target=target, top_k=4, output=["map"])
        result = local.explain(picture, options)
        tokens = local.model.card.text.question("question", question)[None]
        index = None if target is None else ANSWERS.index(target)
        scores, cam = plainly(
            module,
            local.model.card.layer,
            image_of(picture).double(),
            torch.from_numpy(tokens),
            lambda scores, index=index: scores.max() if index is None else scores[index],
        )
        found = {answer.index: answer.logit for answer in result.prediction.answers}
        np.testing.assert_allclose([found[i] for i in range(4)], scores, atol=1e-4)
        assert np.abs(result.explanations[0].map - cam).max() <= 1e-4 * max(cam.max(), 1e-3)


def test_the_decoder_of_torch_is_traced_though_its_mask_is_not_said_to_be_causal():
    from gradcam_service.explain.network import Network

    module = made(partial(Transformer, told=False))
    images, tokens = torch.randn(3, 3, SIDE, SIDE), torch.randint(0, len(WORDS), (3, LENGTH))
    network = Network(module, {"image": images[:2], "tokens": tokens[:2]})
    with torch.no_grad():
        expected = module(images, tokens).flatten(1)
    torch.testing.assert_close(network.scores(images, tokens), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "form", "length", "said"),
    [
        ("lstm", "pt2", 6, "say length: 7"),
        pytest.param("gru", "onnx for one", 6, "say length: 7", marks=pytest.mark.exhaustive),
        ("transformer", "pt2 of any length", 9, "takes 1 to 7 tokens"),
    ],
)
def test_another_length_than_the_files_is_refused_with_the_right_one(tmp_path, kind, form, length, said):
    folder = tmp_path / "mine" / "1"
    folder.mkdir(parents=True)
    exported(folder, kind, form)
    described(folder, form.split()[0], "captioning", length=length)
    with pytest.raises(ModelFailed, match=said):
        open_model("mine", Settings(model_repository=str(tmp_path), device="cpu"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_a_file_without_room_for_text_is_refused_with_what_one_takes(tmp_path, form):
    folder = tmp_path / "mine" / "1"
    folder.mkdir(parents=True)
    module, image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(4)), torch.zeros(2, 3, SIDE, SIDE)
    module(image)
    if form == "pt2":
        torch.export.save(torch.export.export(module, (image,), dynamic_shapes=({0: BATCH},)), folder / "model.pt2")
    else:
        torch.onnx.export(module, (image,), folder / "model.onnx", dynamo=True, dynamic_shapes=({0: BATCH},))
    described(folder, form, "vqa")
    with pytest.raises(ModelFailed, match=r"and tokens \(N, 7\)"):
        open_model("mine", Settings(model_repository=str(tmp_path), device="cpu"))
