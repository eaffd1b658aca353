"""Before a model answers anybody, it is asked what would make its answers wrong without a word."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from gradcam_service.errors import ModelFailed
from gradcam_service.explain.method import Need
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network
from gradcam_service.explain.suitability import refusals
from gradcam_service.registry.checks import examine, rounding

SIZE = (32, 32)
GRADIENT_OF_LAYER = {name for name, method in METHODS.items() if Need.LAYER_GRADIENT in method.needs}
GRADIENT_OF_INPUT = {name for name, method in METHODS.items() if Need.INPUT_GRADIENT in method.needs}


class Net(nn.Module):
    """Convolutions with a normalisation, their average and a linear layer; ``forward`` is the test's own."""

    def __init__(self, forward=None, norm=nn.BatchNorm2d, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), norm(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.fc, self.own = nn.Linear(8, classes), forward
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.normal_(part.weight, 0, 0.3)

    def pooled(self, x):
        return self.features(x).mean((2, 3))

    def forward(self, x):
        return self.own(self, x) if self.own else self.fc(self.pooled(x))


def network(forward=None, activation="softmax", **options):
    return Network(Net(forward, **options).eval(), (3, *SIZE), activation=activation)


def examined(forward=None, activation="softmax", **options):
    return examine(network(forward, activation, **options), 3, SIZE, torch.device("cpu"))


def check(findings, name):
    return next(card for card in findings.cards if card.name == name)


def test_a_model_with_nothing_wrong_passes_all():
    found = examined()
    assert [card.name for card in found.cards] == ["finite", "repeatable", "independent", "logits", "gradient"]
    assert all(card.passed and not card.detail for card in found.cards)
    assert found.lacking == {}


@pytest.mark.parametrize("seed", range(3))
def test_rounding_is_no_finding_even_where_a_network_is_very_sensitive(seed):
    """Twenty convolutions whose weights double the signal each time, a tenth of it cancelled: float32 errors grow."""
    torch.manual_seed(seed)
    deep = nn.Sequential(*[part for _ in range(20) for part in (nn.Conv2d(16, 16, 3, padding=1), nn.Tanh())])
    for part in deep:
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, 0, 1.0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), deep, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()
    examine(Network(net, (3, *SIZE)), 3, SIZE, torch.device("cpu"))


MIXING = {
    "batch normalisation without statistics": (
        {"norm": lambda count: nn.BatchNorm2d(count, track_running_stats=False)},
        "batch_norm.* in features.1",
    ),
    "the mean of all pictures": ({"forward": lambda self, x: self.fc(self.pooled(x - x.mean()))}, "mean|sub"),
    "the largest of all pictures": ({"forward": lambda self, x: self.fc(self.pooled(x / x.abs().max()))}, "max|div"),
    "softmax over the pictures": ({"forward": lambda self, x: self.fc(self.pooled(x)).softmax(0)}, "softmax"),
    "attention across the pictures": (
        {"forward": lambda self, x: self.fc(functional.scaled_dot_product_attention(*[self.pooled(x)[None]] * 3)[0])},
        "select",  # the first value after it with a row for each picture
    ),
}


@pytest.mark.parametrize(("options", "where"), MIXING.values(), ids=MIXING)
def test_a_model_whose_pictures_change_each_others_scores_is_refused_naming_where(options, where):
    with pytest.raises(ModelFailed, match=f"mixes the pictures of a batch: ({where}) makes"):
        examined(**options)


DICE = {
    "dropout": (lambda self, x: self.fc(functional.dropout(self.pooled(x), 0.5)), "dropout"),
    "dropout of channels": (lambda self, x: self.fc(functional.dropout2d(self.features(x)).mean((2, 3))), "."),
    "noise": (lambda self, x: self.fc(self.pooled(x + 0.3 * torch.randn_like(x))), "randn_like|randn"),
    "noise of a number": (lambda self, x: self.fc(self.pooled(x)) * torch.rand(()), "rand"),
    "leaky slopes": (lambda self, x: self.fc(functional.rrelu(self.features(x) - 1, training=True).mean((2, 3))), "."),
}


@pytest.mark.parametrize(("forward", "operator"), DICE.values(), ids=DICE)
def test_a_model_that_rolls_dice_is_refused_naming_the_operator(forward, operator):
    with pytest.raises(ModelFailed, match=f"differently each time: .*({operator}).* draws random numbers"):
        examined(forward)


def test_dice_that_nothing_depends_on_are_no_finding():
    assert check(examined(lambda self, x: self.fc(self.pooled(x)) + 0 * torch.rand(())), "repeatable").passed


PROBABILITIES = {
    "an average of two": lambda self, x: (self.fc(self.pooled(x)).softmax(1) + self.fc(-self.pooled(x)).softmax(1)) / 2,
    "both sides of a sigmoid": lambda self, x: torch.cat([(s := self.fc(self.pooled(x))[:, :1].sigmoid()), 1 - s], 1),
    "squares": lambda self, x: (lambda z: z**2 / (z**2).sum(1, keepdim=True))(self.fc(self.pooled(x))),
}


@pytest.mark.parametrize("forward", PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_in_the_place_of_logits_are_refused_naming_the_remedy(forward):
    with pytest.raises(ModelFailed, match=r"probabilities already.*activation: none for scores as they are"):
        examined(forward)
    assert check(examined(forward, "none"), "logits").passed


def test_what_may_be_wrong_with_scores_is_told():
    logarithms = examined(
        lambda self, x: (self.fc(self.pooled(x)).softmax(1) + self.fc(-self.pooled(x)).softmax(1)).div(2).log()
    )
    assert "logarithms of probabilities" in check(logarithms, "logits").detail
    best = examined(lambda self, x: torch.maximum((z := self.fc(self.pooled(x))).sigmoid(), (-z).sigmoid()), "sigmoid")
    assert "between 0 and 1" in check(best, "logits").detail
    assert "below 0 or above 1" in check(examined(activation="none"), "logits").detail


def test_one_score_that_may_be_a_probability_is_told_and_a_small_logit_is_none():
    """The other side of the question, which is its negative, tells nothing."""
    best = examined(lambda self, x: self.fc(self.pooled(x)).sigmoid() ** 2, "sigmoid", classes=1)
    assert "between 0 and 1" in check(best, "logits").detail
    for classes in (1, 3):
        small = examined(lambda self, x: 0.5 + 1e-2 * self.fc(self.pooled(x)), "sigmoid", classes=classes)
        assert check(small, "logits").passed


def test_a_gpu_that_rounds_to_tf32_may_differ_by_that():
    with FakeTensorMode():
        images = {device: torch.empty(1, device=device) for device in ("cpu", "cuda")}
    with torch.backends.cudnn.flags(allow_tf32=True):
        assert [rounding(image) for image in images.values()] == [2**-23, 2**-10]
    with torch.backends.cudnn.flags(allow_tf32=False):
        assert [rounding(image) for image in images.values()] == [2**-23, 2**-23]


def test_scores_that_are_no_numbers_are_refused_and_some_are_told():
    with pytest.raises(ModelFailed, match="every score of the model is nan"):
        examined(lambda self, x: self.fc(self.pooled(x)) * torch.nan)
    some = examined(lambda self, x: self.fc(self.pooled(x)) + torch.tensor([0.0, 0.0, -torch.inf]))
    assert not check(some, "finite").passed


BLOCKED = {
    "whole numbers": (lambda self, x: self.fc((8 * self.pooled(x)).long().float()), "_to_copy|to"),
    "comparisons": (lambda self, x: self.fc((self.pooled(x) > 0.3).float()), "gt"),
    "the largest's place": (lambda self, x: 5.0 * functional.one_hot(self.fc(self.pooled(x)).argmax(1), 3), "argmax"),
}


@pytest.mark.parametrize(("forward", "where"), BLOCKED.values(), ids=BLOCKED)
def test_where_no_gradient_passes_every_method_that_needs_one_is_refused_with_the_reason(forward, where):
    blocked = network(forward)
    found = examine(blocked, 3, SIZE, torch.device("cpu"))
    refused = refusals(blocked, found.lacking)
    assert refused.keys() >= GRADIENT_OF_LAYER | GRADIENT_OF_INPUT
    assert not {"eigencam", "scorecam", "rise", "occlusion"} & refused.keys()
    assert not check(found, "gradient").passed or "rounds" in refused["gradcam"]


def test_a_gradient_that_the_input_alone_lacks_leaves_the_methods_of_the_layer():
    rounded = network(lambda self, x: self.fc(self.pooled((8 * x).long().float() / 8)))
    refused = refusals(rounded, examine(rounded, 3, SIZE, torch.device("cpu")).lacking)
    assert refused.keys() == GRADIENT_OF_INPUT
    assert "no gradient of the scores reaches the picture" in refused["smoothgrad"]
