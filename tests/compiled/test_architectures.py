"""Networks of every kind compile; compiling itself compares the maps of all methods with those in torch."""

import pytest

from gradcam_service.compiled.write import compile_model
from gradcam_service.question import Question
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loading import load

from .test_compiled import MODEL_YAML, answers, entry, inputs, near

ALL = {
    "test_vit": ("timm", 160),
    "vit_tiny_patch16_224": ("timm", 224),
    "deit_tiny_distilled_patch16_224": ("timm", 224),
    "swin_t": ("torchvision", 224),
    "swin_v2_t": ("torchvision", 224),
    "maxvit_rmlp_pico_rw_256": ("timm", 256),
    "xcit_nano_12_p16_224": ("timm", 224),
    "efficientformer_l1": ("timm", 224),
    "test_mambaout": ("timm", 160),
    "test_nfnet": ("timm", 160),
    "test_byobnet": ("timm", 160),
    "densenet121": ("torchvision", 64),
    "efficientnet_b0": ("torchvision", 64),
    "efficientnet_v2_s": ("torchvision", 64),
    "regnet_y_400mf": ("torchvision", 64),
    "googlenet": ("torchvision", 64),
    "shufflenet_v2_x0_5": ("torchvision", 64),
    "mnasnet0_5": ("torchvision", 64),
    "alexnet": ("torchvision", 64),
    "ghostnet_050": ("timm", 96),
    "mobilevit_xxs": ("timm", 128),
    "poolformer_s12": ("timm", 96),
    "edgenext_xx_small": ("timm", 64),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ALL)
def test_an_architecture_compiles_and_answers_alike(name, tmp_path):
    builder, side = ALL[name]
    folder = tmp_path / "full" / "1"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL_YAML.format(source=builder, architecture=name, side=side))
    model = load(entry(folder), "cpu")
    compile_model(model, ModelFolder(model.spec, folder), f"{name}@1", (), tmp_path / "compiled" / "1")
    compiled = load(entry(tmp_path / "compiled" / "1"), "cpu")
    given = [inputs(model, seed) for seed in range(2)]
    asked = [Question("gradcam")] * 2
    for before, after in zip(answers(model, given, asked), answers(compiled, given, asked), strict=True):
        near(after.scores, before.scores)
        assert (after.layer, after.maps.shape) == (before.layer, before.maps.shape)
