"""A compiled model that answers: loaded from its folder, and moved to the runtime that is the fastest. Torch-free."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from gradcam_service import __version__
from gradcam_service.compiled import choice
from gradcam_service.compiled import manifest as folder_of
from gradcam_service.compiled.choice import Choice
from gradcam_service.compiled.manifest import NAME, CompiledLayer, Manifest
from gradcam_service.compiled.network import CompiledCut, CompiledHead, CompiledNetwork, Layer
from gradcam_service.errors import ModelFailed, UnknownLayer, first_line
from gradcam_service.explain.costs import forward_passes
from gradcam_service.explain.methods import DEFAULT, METHODS, in_order
from gradcam_service.inputs import OWN_PIXELS
from gradcam_service.question import Question
from gradcam_service.registry import cache
from gradcam_service.registry.acceptance import compare, real_pictures
from gradcam_service.registry.card import Card, LayerCard, MethodCard
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.labels import other_number
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.sample import checked_sample
from gradcam_service.registry.spec import Spec
from gradcam_service.runtime import RUNTIMES, TOLERANCE, Contender, Outcome, Precision, in_precision, raced, way
from gradcam_service.text import TOKENS

if TYPE_CHECKING:
    from gradcam_service.compiled.race import Race

log = logging.getLogger(__name__)

_FIRST = "onnxruntime"
"""The runtime that opens a model soonest."""


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """See `gradcam_service.registry.served.ServedModel`.

    Attributes:
        spec: what it was to be.
        card: what it says of itself.
        network: its graphs, opened.
        folder: where they are.
        manifest: what says so.
        sample: its own sample (H, W, C), as it receives it; None where it has none.
        leases: of what was fetched or compiled for it.
        others: why it isn't on this or that runtime, once it has been made faster.
        exporter: the race of its runtimes, where a process of its own runs it.
    """

    spec: Spec
    card: Card
    network: CompiledNetwork
    folder: Path
    manifest: Manifest
    sample: np.ndarray | None = None
    leases: tuple[cache.Lease, ...] = ()
    others: tuple[str, ...] = ()
    exporter: Race | None = None

    def answers(self, question: Question | None) -> bool:
        """What it can't, it refuses."""
        return True

    def placed(self, values: np.ndarray) -> np.ndarray:
        """They are where it computes."""
        return values

    def images(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Normalise pixels, each (H, W, C), uint8 or float32 in 0–1 → the network's input (N, C, H, W) float32."""
        batch = np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32, order="C")
        if pixels[0].dtype == np.uint8:
            batch /= 255
        mean, std = (
            np.array(values, np.float32)[:, None, None]
            for values in (self.card.preprocess.mean, self.card.preprocess.std)
        )
        batch -= mean
        batch /= std
        return batch

    def batch(self, inputs: Sequence[Mapping[str, np.ndarray]]) -> tuple[np.ndarray, ...]:
        """The network's inputs of a batch; see `gradcam_service.registry.loader.LoadedModel.batch`."""
        images = np.concatenate(
            [own["tensor"][None] if "tensor" in own else self.images([own["image"]]) for own in inputs]
        )
        if (text := self.card.text) is None:
            return (images,)
        return images, np.stack([own[TOKENS] if TOKENS in own else text.begun() for own in inputs])

    def accelerated(self, precision: Precision, cache_bytes: int) -> CompiledModel | str:
        """The same model on a runtime that computes its feature maps faster, and as well; why there is none."""
        wanted = self.spec.precision or precision
        with cache.holding() as leases:
            folder = compilations(self.folder)
            if self.exporter is not None and self.exporter.failure:
                return self.exporter.failure
            found = self._chosen_before(wanted, folder) or self._raced(wanted, folder)
        cache.prune(cache_bytes)
        if (winner := found.winner) is None:
            return "; ".join(found.reasons) or f"it stays on {self.card.runtime}"
        more = _memory(self.folder, self.manifest, winner.runtime) - _memory(
            self.folder, self.manifest, self.card.runtime
        )
        card = self.card.on_runtime(winner.runtime, winner.precision, more)
        kept = (*self.leases, *leases)
        return replace(self, network=winner.made, card=card, leases=kept, others=found.reasons)

    def _chosen_before(self, wanted: Precision, folder: Path | None) -> Outcome[CompiledNetwork] | None:
        """The outcome of the same race before on this machine; None where there was none."""
        before = choice.read(folder)
        if before is None or before.asked != choice.asked(self.spec, wanted):
            return None
        if (before.runtime, before.precision) == (self.card.runtime, "float32"):
            return Outcome(None, before.others)
        found = self._opened(before.runtime, before.precision, folder, next(self.real_batches()))
        return None if isinstance(found, str) else Outcome(found, before.others)

    def _raced(self, wanted: Precision, folder: Path | None) -> Outcome[CompiledNetwork]:
        """The outcome of a race, which is kept."""
        found = in_precision(wanted, lambda asked: self._race(asked, folder))
        runtime, precision = (
            (found.winner.runtime, found.winner.precision) if found.winner else (self.card.runtime, "float32")
        )
        asked = choice.asked(self.spec, wanted)
        choice.write(folder, Choice(asked, runtime, precision, found.reasons, choice.machine()))
        return found

    def _race(self, precisions: Sequence[str], folder: Path | None) -> Outcome[CompiledNetwork]:
        """Open its graphs on the runtimes that may be, in these precisions, and take the fastest."""
        runtime, present, images = self.spec.runtime, self.card.runtime, next(self.real_batches())
        return raced(
            (present, self.network),
            [self._opened(name, in_, folder, images) for name, in_ in _ways(runtime, precisions, present)],
            lambda network: _timed(network, images),
            self._unlike,
            may_stay=runtime == "auto" or len(precisions) > 1,  # what computes now is that runtime in float32
        )

    def _opened(
        self, name: str, precision: str, folder: Path | None, images: np.ndarray
    ) -> Contender[CompiledNetwork] | str:
        """The network on a runtime; why not, where it can't run there or computes something else."""
        called = way(name, precision)
        try:
            network = opened(self.folder, self.manifest, self.spec, name, precision, folder)
            difference = self._difference(network, images)
        except Exception as error:  # of several libraries, without a common base
            return f"{called} can't run it: {first_line(error)}"
        if precision == "float32" and not difference <= TOLERANCE:
            return f"{called} computes features or scores that differ by {difference:.1e} of the largest"
        return Contender(name, precision, network)

    def real_batches(self) -> Iterator[np.ndarray]:
        """Real pictures, its sample among them, as the network takes them; made-up ones where it takes no pictures."""
        pictures = [*real_pictures(self.card.input, self.card.preprocess)]
        pictures += [] if self.sample is None else [self.sample]
        if pictures:
            for first in range(0, len(pictures), self.card.batch):
                yield self.images(pictures[first : first + self.card.batch])
        else:
            shape = (2, self.card.input.count, *self.card.preprocess.input_size)
            yield np.random.default_rng(0).standard_normal(shape, np.float32)

    def _difference(self, network: CompiledNetwork, images: np.ndarray) -> float:
        """How far the feature maps and scores of images are from its own, as a part of the largest."""
        text = self.card.text
        others = () if text is None else (np.repeat(text.example()[None], len(images), 0),)
        (before, scores), (after, found) = (each.predict(images, *others) for each in (self.network, network))
        pairs = ((after.features, before.features), (found, scores))
        return max(float(abs(actual - expected).max() / abs(expected).max()) for actual, expected in pairs)

    def _unlike(self, other: Contender[CompiledNetwork]) -> str:
        """What is wrong with the answers of one on another runtime; empty where nothing is."""
        if self.network.others:
            return "" if other.precision == "float32" else "the model takes text, with which nothing is compared yet"
        differentiable = DEFAULT in self.card.method_names()
        figures = compare(self.network, other.made, self.real_batches(), differentiable=differentiable)
        return "" if figures.accepted else str(figures)


def load(entry: Entry, max_pixels: int = OWN_PIXELS) -> CompiledModel:
    """Open a version that `gradcam compile` has written, and check it with its own sample, of so many pixels at most.

    Raises:
        ModelFailed: saying what is wrong with it.
    """
    with cache.holding() as leases:
        return replace(load_folder(ModelFolder(entry.spec(), entry.folder()), max_pixels), leases=tuple(leases))


def load_folder(folder: ModelFolder, max_pixels: int) -> CompiledModel:
    """Open what is in a folder; see `load`."""
    spec, manifest = folder.spec, folder_of.read(folder)
    labels, text = folder.labels() or [], folder.text()
    scored = (manifest.outputs - manifest.values) // manifest.positions
    if scored != len(labels):
        raise ModelFailed(other_number(spec, scored, len(labels)))
    if spec.layer not in ("auto", *(names := [layer.name for layer in manifest.layers])):
        raise ModelFailed(UnknownLayer.named(spec.layer, names, names).detail)
    kept = compilations(folder.path)
    before = choice.read(kept)
    if spec.runtime not in ("auto", "eager"):
        names = [spec.runtime]
    else:
        names = [before.runtime, _FIRST] if before else [_FIRST]
    name, network = _opened_by(names, folder, manifest, kept)
    card = Card(
        digest=_digest(spec, folder.path, labels),
        source=spec.source,
        weights=manifest.model,
        memory=_memory(folder.path, manifest, name),
        task=spec.task,
        activation=spec.activation,
        labels=labels,
        input=spec.input,
        preprocess=folder.preprocess(),
        batch=spec.batch,
        runtime=name,
        layer=network.cut.layer.name,
        layers=[
            LayerCard(cut.layer.name, (cut.layer.channels, *cut.layer.layout.seen)) for cut in network.cuts.values()
        ],
        methods=_methods(network, manifest, folder.preprocess().input_size),
        checks=manifest.card.checks,
        method=spec.method,
        text=text,
        has_value=manifest.values > 0,
    )
    model = CompiledModel(spec, card, network, folder.path, manifest)
    _check_answer(model)
    return (
        model if spec.sample is None else replace(model, sample=checked_sample(model, spec.sample, folder, max_pixels))
    )


def _opened_by(
    names: Sequence[str], folder: ModelFolder, manifest: Manifest, kept: Path | None
) -> tuple[str, CompiledNetwork]:
    """The first of these runtimes that can open a folder, and the network on it.

    Raises:
        ModelFailed: none can; saying why the last can't.
    """
    for name in names[:-1]:
        try:
            return name, opened(folder.path, manifest, folder.spec, name, kept=kept)
        except Exception as error:  # of several libraries, without a common base
            log.warning("%s, which was the fastest here, can't open the model: %s", name, first_line(error))
    name = names[-1]
    try:
        return name, opened(folder.path, manifest, folder.spec, name, kept=kept)
    except ModelFailed:
        raise
    except Exception as error:  # likewise
        raise ModelFailed(f"{name} can't open the model: {first_line(error)}") from error


def _memory(folder: Path, manifest: Manifest, runtime: str) -> int:
    """Bytes of the weights that a runtime holds: as often as it does, in the graphs of each layer."""
    return (folder / folder_of.WEIGHTS).stat().st_size * len(manifest.layers) * RUNTIMES[runtime].copies


def compilations(folder: Path) -> Path | None:
    """Where runtimes keep what they compile of the graphs in a folder, whatever its ``model.yaml`` says."""
    return cache.compilations(folder_of.sha256(folder / NAME), __version__)


def _check_answer(model: CompiledModel) -> None:
    """Have a model answer once, about nothing, which also warms it up.

    Raises:
        ModelFailed: it can't, as where ``model.yaml`` says another size than it was compiled for.
    """
    card, outputs = model.card, model.manifest.outputs
    text = {} if card.text is None else {TOKENS: card.text.example()}
    blank = np.zeros((*card.preprocess.input_size, card.input.count), np.uint8)
    try:
        shape = model.network.scores(*model.batch([{"image": blank, **text}])).shape
        wrong = "" if shape == (1, outputs) else f"it gives {shape} where {NAME} says {(1, outputs)}"
    except Exception as error:  # of several libraries, without a common base
        wrong = first_line(error)
    if wrong:
        raise ModelFailed(
            f"the compiled model can't answer: {wrong}; what model.yaml says of the input must be what it said when "
            "the model was compiled"
        )


def opened(
    folder: Path, manifest: Manifest, spec: Spec, runtime: str, precision: str = "float32", kept: Path | None = None
) -> CompiledNetwork:
    """The network of a folder on a runtime, its feature maps in a precision and all else in float32.

    Raises:
        ModelFailed: the runtime opens no graphs.
        Exception: it can't open these.
    """
    open_graph = RUNTIMES[runtime].open
    if open_graph is None:
        able = ", ".join(name for name, known in RUNTIMES.items() if known.open is not None)
        raise ModelFailed(f"runtime {runtime} opens no compiled models; these do: {able}")

    def cut(layer: CompiledLayer) -> CompiledCut:
        weight = None if layer.weight is None else folder_of.array(folder, layer.weight)
        gradient = open_graph(folder / layer.gradient, "float32", kept) if layer.gradient else None
        scores = open_graph(folder / layer.head, "float32", kept)
        head = CompiledHead(scores, gradient, layer.layout, manifest.outputs, weight)
        backbone = open_graph(folder / layer.backbone, precision, kept)
        return CompiledCut(Layer(layer.name, layer.channels, layer.layout), backbone, head, layer.axes)

    default_first = sorted(manifest.layers, key=lambda layer: layer.name != spec.layer)
    cuts = {layer.name: cut(layer) for layer in default_first}
    return CompiledNetwork(cuts, spec.activation, manifest.positions, manifest.values, manifest.others)


def _methods(network: CompiledNetwork, manifest: Manifest, size: tuple[int, int]) -> list[MethodCard]:
    return [
        MethodCard(name, forward_passes(METHODS[name], network, "auto", size, 1, {}), manifest.refused.get(name, ""))
        for name in in_order()
    ]


def _digest(spec: Spec, folder: Path, labels: list[str]) -> str:
    """``sha256:…`` of everything that decides an answer in float32: the manifest has the digests of all files."""
    total = hashlib.sha256("\n".join([spec.decisive(), *labels]).encode())
    total.update((folder / folder_of.NAME).read_bytes())
    return f"sha256:{total.hexdigest()}"


def _ways(runtime: str, precisions: Sequence[str], present: str) -> list[tuple[str, str]]:
    """Runtimes and precisions that may take the place of the present runtime in float32."""
    racing = runtime == "auto"
    return [
        (name, in_)
        for in_ in precisions
        for name, known in RUNTIMES.items()
        if known.open is not None
        and (in_ in known.races if racing else name == runtime and in_ in known.precisions)
        and (name, in_) != (present, "float32")
    ]


def _timed(network: CompiledNetwork, images: np.ndarray) -> float:
    """How long the feature maps of one image and of all take."""
    start = perf_counter()
    for some in (images[:1], images):
        network.cut.backbone(some)
    return perf_counter() - start
