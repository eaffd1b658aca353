"""The folder of a model version, and the files that its ``model.yaml`` names. Torch-free."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path

from gradcam_service.errors import ModelFailed
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.foreign import foreign_folder
from gradcam_service.registry.labels import from_file as labels_of_file
from gradcam_service.registry.places import inside
from gradcam_service.registry.spec import Preprocess, Spec
from gradcam_service.text import Text, of_tokenizer, of_vocabulary


@dataclass(frozen=True)
class ModelFolder:
    """One version of a model on this machine: what a source builds from, and the only way to its files.

    Attributes:
        spec: the content of its ``model.yaml``.
        path: holds the files that it names.
        python_path: where the operator's own code may be imported from; None where none may.
    """

    spec: Spec
    path: Path
    python_path: Path | None = None

    def file(self, member: str, name: str) -> Path:
        """Resolve a file that a member of ``model.yaml`` names; the only way from a name there to a path.

        Raises:
            ModelFailed: it leads out of the folder, by whatever way, or to something that is no file.
        """
        try:
            path = inside(self.path, name)
            if path.exists() and not stat.S_ISREG(path.stat().st_mode):  # a pipe would keep its reader waiting
                what = foreign_folder(path)
                raise ModelFailed(f"{member} {name} is no file{f' but {what}' if what else ''}")
        except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, a NUL
            raise ModelFailed(f"{member} {name!r} is no path: {getattr(error, 'strerror', None) or error}") from error
        return path

    def meant(self, name: str) -> str:
        """The file that was probably meant by the name of one that isn't there; empty where none is like it."""
        return did_you_mean(name, (path.name for path in self.path.iterdir()))

    def labels(self) -> list[str] | None:
        """Read the labels that ``model.yaml`` names or lists; None where it does neither.

        Raises:
            ModelFailed: they can't be read.
        """
        labels = self.spec.labels
        if labels is None or isinstance(labels, tuple):
            return None if labels is None else list(labels)
        try:
            text = self.file("labels", labels).read_bytes().decode("utf-8-sig")
            return labels_of_file(text, labels)
        except OSError as error:
            raise ModelFailed(f"labels {labels} can't be read: {error.strerror}{self.meant(labels)}") from error
        except UnicodeDecodeError as error:
            raise ModelFailed(f"labels {labels} are not UTF-8; save them as that: {error}") from error
        except ValueError as error:
            raise ModelFailed(f"labels {labels}: {error}") from error

    def text(self) -> Text | None:
        """What of text the model takes, by the tokenizer that ``model.yaml`` names; None where it names none.

        Raises:
            ModelFailed: that can't be read.
        """
        name, length = self.spec.tokenizer, self.spec.length
        if name is None or length is None:
            return None
        try:
            content = self.file("tokenizer", name).read_bytes().decode("utf-8-sig")
            if name.lower().endswith(".json") and _is_tokenizer(content):  # else a vocabulary, as labels may be
                return of_tokenizer(content, length)
            return of_vocabulary(labels_of_file(content, name), length)
        except OSError as error:
            raise ModelFailed(f"tokenizer {name} can't be read: {error.strerror}{self.meant(name)}") from error
        except ValueError as error:  # UTF-8 included
            raise ModelFailed(f"tokenizer {name}: {error}") from error

    def preprocess(self) -> Preprocess:
        """The preprocessing that ``model.yaml`` says.

        Raises:
            ModelFailed: it says none.
        """
        if self.spec.preprocess is None:
            raise ModelFailed("model.yaml must say how to preprocess: this source comes without that")
        return self.spec.preprocess


def _is_tokenizer(content: str) -> bool:
    """Whether JSON is Hugging Face's, and not a vocabulary, of which ``model`` may be a word."""
    try:
        told = json.loads(content)
    except ValueError:
        return False
    return isinstance(told, dict) and isinstance(told.get("model"), dict)
