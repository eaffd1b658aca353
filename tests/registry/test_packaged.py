"""Weights that an installed package carries are found without running it, and nothing else of the machine is."""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

import pytest

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.packaged import packaged_file
from gradcam_service.registry.spec import Spec
from gradcam_service.registry.weights import weights_file


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `carrier` whose code raises, beside a file that is none of its."""
    package = tmp_path / "site" / "carrier"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('it was imported')\n")
    (package / "models" / "weights.pth").write_bytes(b"weights")
    (package.parent / "secret.pth").write_bytes(b"secret")
    (package / "linked.pth").symlink_to(package.parent / "secret.pth")
    (package.parent / "bare").mkdir()
    (package.parent / "bare" / "weights.pth").write_bytes(b"of no package")
    (package.parent / "single.py").write_text("")
    monkeypatch.syspath_prepend(package.parent)
    return package


def test_a_file_of_a_package_is_found_without_importing_it(installed: Path):
    assert packaged_file("package:carrier/models/weights.pth").read_bytes() == b"weights"
    assert "carrier" not in sys.modules


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("carrier/../secret.pth", "leads out of"),
        ("carrier/linked.pth", "leads out of"),
        ("carrier//etc/passwd", "leads out of"),
        ("carrier/models/other.pth", "the package has no such file"),
        ("carrier/models", "the package has no such file"),
        ("carrier", "the package has no such file"),
        ("carrier/a\0b", "no path"),
        ("carrier/" + 300 * "a", "no path"),
        ("carrier.models/weights.pth", "no package 'carrier.models' is installed"),
        ("carier/models/weights.pth", "no package 'carier' is installed here; install it with pip"),
        ("bare/weights.pth", "no package 'bare'"),
        ("single/weights.pth", "no package 'single'"),
        ("sys/weights.pth", "no package 'sys'"),
        ("__main__/weights.pth", "no package '__main__'"),
        ("../site/carrier/models/weights.pth", "no package '..'"),
        ("", "no package ''"),
    ],
)
def test_what_is_no_file_of_an_installed_package_is_refused(installed: Path, reference: str, says: str):
    with pytest.raises(ModelFailed) as refused:
        packaged_file(f"package:{reference}")
    assert says in refused.value.detail
    assert "carrier" not in sys.modules


def test_a_packages_weights_need_their_digest(installed: Path):
    def named(digest: str | None) -> ModelFolder:
        spec = Spec(source="timm", architecture="a", weights="package:carrier/models/weights.pth", sha256=digest)
        return ModelFolder(spec, installed)

    assert weights_file(named(sha256(b"weights").hexdigest())) == installed / "models" / "weights.pth"
    with pytest.raises(ModelFailed, match="not the expected"):
        weights_file(named(sha256(b"others").hexdigest()))
    with pytest.raises(ModelFailed, match="need a sha256"):
        weights_file(named(None))
