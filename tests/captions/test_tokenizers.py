"""Text by Hugging Face's tokenizer.json, whose tokens are parts of words, and by vocabularies as people have them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from gradcam_service.core.options import ExplainOptions
from gradcam_service.errors import BadOption, ModelFailed, UnknownTarget
from gradcam_service.local import open_model
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.spec import Spec
from gradcam_service.settings import Settings
from gradcam_service.targets import Target
from gradcam_service.tasks import TASKS
from gradcam_service.text import of_tokenizer

from .conftest import image_of
from .plain import LENGTH, SIDE, Recurrent, made

PIECES = ["[PAD]", "[CLS]", "[SEP]", "a", "red", "blue", "st", "##ar", "fish", "left", "of", "[UNK]"]
MODEL = """\
source: pt2
weights: model.pt2
task: captioning
tokenizer: tokenizer.json
length: {length}
preprocess: {{resize: [{side}, {side}], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
runtime: eager
"""


def word_pieces(decoder=True):
    """As BERT's: lower case, parts of words after ##, [CLS] and [SEP] around."""
    made = Tokenizer(models.WordPiece({word: at for at, word in enumerate(PIECES)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    if decoder:
        made.decoder = decoders.WordPiece()
    return made.to_str()


def byte_pairs(decoder=True):
    """As GPT-2's: bytes and pairs of them, a blank before a word belonging to it, and one special token."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if decoder:
        made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=262, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    made.train_from_iterator(["a red star", "a red fish"] * 9, trainer)
    return made.to_str()


def metaspace():
    """As SentencePiece's: ▁ before a word."""
    pieces = ["<pad>", "<s>", "</s>", "<unk>", "▁a", "▁red", "▁st", "ar", "▁fish", "▁", "s"]
    made = Tokenizer(models.Unigram([(piece, -float(at)) for at, piece in enumerate(pieces)], unk_id=3))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return made.to_str()


@pytest.mark.parametrize(
    "content",
    [word_pieces(), word_pieces(decoder=False), byte_pairs(), byte_pairs(decoder=False), metaspace()],
    ids=["word pieces", "without decoder", "byte pairs", "bytes without decoder", "metaspace"],
)
def test_a_caption_of_parts_of_words_is_joined_and_its_words_are_found(content):
    text = of_tokenizer(content, 20)
    tokens = text.caption("caption", "a red star")
    assert tokens[0] == text.start
    spoken = text.spoken(tokens)
    words = text.words_of(spoken)
    assert text.written(spoken) == "a red star"
    assert [word.text for word in words] == ["a", "red", "star"]
    assert [token for word in words for token in word.tokens] == spoken
    assert len(words[2].tokens) > 1
    assert text.knows("star")
    assert set(tokens[1 + len(spoken) :]) == {text.pad}


def test_special_tokens_are_found_whatever_they_are_called():
    pieces = of_tokenizer(word_pieces(), 8)
    assert (pieces.pad, pieces.start, pieces.end, pieces.unknown) == (0, 1, 2, 11)
    pairs = of_tokenizer(byte_pairs(), 8)
    assert pairs.pad == pairs.start == pairs.end == pairs.vocabulary.index("<|endoftext|>")


def test_a_question_has_around_it_what_its_tokenizer_puts_there():
    text = of_tokenizer(word_pieces(), 8)
    assert text.question("question", "Red star").tolist() == [1, 4, 6, 7, 2, 0, 0, 0]
    assert text.question("question", "red dragon").tolist() == [1, 4, 11, 2, 0, 0, 0, 0]
    with pytest.raises(BadOption, match="has no words"):
        text.question("question", "  ")
    with pytest.raises(BadOption, match="has 10 tokens; the model takes at most 8"):
        text.question("question", "a red star a red star")


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    root = tmp_path_factory.mktemp("pieces")
    folder = root / "mine" / "1"
    folder.mkdir(parents=True)
    given = torch.zeros(2, 3, SIDE, SIDE), torch.ones(2, LENGTH, dtype=torch.int64)
    batch = torch.export.Dim("batch")
    program = torch.export.export(made(Recurrent), given, dynamic_shapes=({0: batch}, {0: batch}))
    torch.export.save(program, folder / "model.pt2")
    (folder / "tokenizer.json").write_text(word_pieces())
    (folder / "model.yaml").write_text(MODEL.format(length=LENGTH, side=SIDE))
    return open_model("mine", Settings(model_repository=str(root), device="cpu"))


def test_a_word_of_several_tokens_is_explained_for_all_of_them(captioner, pictures):
    own = ExplainOptions(caption="A red star", output=["map"])
    result = captioner.explain(pictures[0], own)
    caption = result.prediction.caption
    assert caption.text == "a red star"
    assert [word.word for word in caption.words] == ["a", "red", "star"]
    module, kept = made(Recurrent).double(), {}
    module.cnn.register_forward_hook(lambda _, __, output: kept.update(a=output))
    logits = module(image_of(pictures[0]).double(), torch.tensor([[1, 3, 4, 6, 7]]))[0]
    for word, explanation, places in zip(
        caption.words, result.explanations, [[(0, 3)], [(1, 4)], [(2, 6), (3, 7)]], strict=True
    ):
        value = sum(logits[at, token] for at, token in places)
        likely = sum(float(logits[at].log_softmax(0)[token].detach()) for at, token in places)
        (slope,) = torch.autograd.grad(value, kept["a"], retain_graph=True)
        cam = (slope.mean((2, 3), keepdim=True) * kept["a"]).sum(1).relu()[0].detach().numpy()
        assert word.logit == explanation.target.logit == pytest.approx(float(value.detach()), abs=1e-4)
        assert word.log_probability == explanation.target.log_probability == pytest.approx(likely, abs=1e-4)
        assert np.abs(explanation.map - cam).max() <= 1e-4 * max(cam.max(), 1e-3)
    assert caption.log_probability == pytest.approx(sum(word.log_probability for word in caption.words))


def test_such_a_word_is_named_as_any_other(captioner, pictures):
    def explained(*targets):
        own = ExplainOptions(caption="a red star", target=[*targets], output=["map"])
        return captioner.explain(pictures[0], own).explanations

    (by_name,), (by_index,) = explained({"word": "Star"}), explained({"word": 2})
    assert by_name.target.word == by_name.name == "star"
    np.testing.assert_allclose(by_name.map, by_index.map, rtol=1e-5)
    with pytest.raises(UnknownTarget, match="'a red star'; it has no word 'fish'"):
        explained({"word": "fish"})
    with pytest.raises(UnknownTarget, match="doesn't know the word 'dragon'"):
        explained({"word": "dragon"})
    with pytest.raises(UnknownTarget, match="it has no word 3"):
        explained({"word": 3})


def test_a_caption_of_its_own_is_explained_word_by_word(captioner, pictures):
    result = captioner.explain(pictures[0], ExplainOptions(output=["map"]))
    caption = result.prediction.caption
    assert caption.text == " ".join(word.word for word in caption.words)
    assert [told.name for told in result.explanations] == [word.word for word in caption.words]


def folder_with(tmp_path, content, name="vocabulary.txt", task="vqa"):
    (tmp_path / name).write_bytes(content)
    preprocess = {"resize": (8, 8), "mean": (0,) * 3, "std": (1,) * 3}
    spec = Spec(
        source="onnx", weights="model.onnx", task=task, tokenizer=name, length=6, labels=["a"], preprocess=preprocess
    )
    return ModelFolder(spec, tmp_path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"<pad>\nred\nstar\n", "vocabulary.txt"),
        (b"\xef\xbb\xbf<pad>\r\nred\r\nstar\r\n\r\n", "vocabulary.txt"),
        (b"<PAD>\n Red\nStar! ", "vocabulary.txt"),
        (b'["<pad>", "red", "star"]', "vocabulary.json"),
        (b'{"red": 1, "star": 2, "<pad>": 0}', "vocabulary.json"),
        (b'{"0": "<pad>", "1": "red", "2": "star"}', "vocab.json"),
        (b"[PAD]\nred\nstar\n", "vocab.txt"),
        (b'["<pad>", "red", "star", "model"]', "vocabulary.json"),
        (b'{"red": 1, "star": 2, "<pad>": 0, "model": 3}', "tokenizer.json"),
    ],
)
def test_a_vocabulary_may_be_written_as_labels_are(tmp_path, content, name):
    text = folder_with(tmp_path, content, name).text()
    assert text.question("question", "Red, STAR?").tolist() == [1, 2, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"<pad>\n\nstar\n", "vocabulary.txt", "line 2 is empty"),
        (b"<pad>\nstar\nred\nstar\n", "vocabulary.txt", "'star' is in it twice, in lines 2 and 4"),
        (b"<pad> 0\nstar 1\n", "vocabulary.txt", "line 1, '<pad> 0', has a blank in it"),
        (b"red\nstar\n", "vocabulary.txt", "one must be called <pad>"),
        (b"", "vocabulary.txt", "there is none"),
        (b"\xff\xfe<\x00", "vocabulary.txt", "tokenizer vocabulary.txt"),
        (b'{"red": 1, "star": 3}', "vocab.json", "class 0 has none"),
        (b'{"model": {"type": "WordPiece"}}', "tokenizer.json", "no tokenizer of Hugging Face"),
        (b"{", "tokenizer.json", "neither JSON nor YAML"),
        (json.dumps({"a": 1}).encode(), "tokenizer.json", "class 0 has none"),
    ],
)
def test_what_is_no_vocabulary_is_refused_with_what_is_wrong_with_it(tmp_path, content, name, said):
    with pytest.raises(ModelFailed) as raised:
        folder_with(tmp_path, content, name).text()
    assert said in raised.value.detail
    assert name in raised.value.detail


def test_a_word_that_is_there_in_both_cases_is_the_one_that_is_written_so(tmp_path):
    text = folder_with(tmp_path, b"<pad>\nStar\nstar\nT-shirt").text()
    assert text.question("question", "STAR t-shirt").tolist() == [2, 3, 0, 0, 0, 0]
    with pytest.raises(BadOption, match="doesn't know 'pad'"):
        text.question("question", "<pad>")


def test_a_mark_of_punctuation_is_a_word_of_its_own():
    words = ["[PAD]", "[CLS]", "[SEP]", "a", "star", ",", "."]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[PAD]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    text = of_tokenizer(made.to_str(), 8)
    card = SimpleNamespace(text=text, labels=text.vocabulary)
    tokens = text.caption("caption", "a star , a star .")
    for word, place in ((".", 5), (",", 2), ("Star", 1)):
        (target,) = TASKS["captioning"].settled((Target("word", [word]),), tokens, card)
        assert target.value[0] == place
    with pytest.raises(UnknownTarget, match="it has no word '!'"):
        TASKS["captioning"].settled((Target("word", ["!"]),), tokens, card)
