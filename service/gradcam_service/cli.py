"""The command ``gradcam``."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import BaseModel
from tqdm import tqdm

import gradcam_service
from gradcam_service.cli_files import STDIN, Outcome, a_file_each, complain, exit_code, foretold
from gradcam_service.cli_options import ExplainCommand, PredictCommand, separated
from gradcam_service.cli_settings import opened, settings_here, validated, warn
from gradcam_service.cli_study import study
from gradcam_service.errors import ServiceError
from gradcam_service.kinds import load_plugins
from gradcam_service.naming import did_you_mean
from gradcam_service.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

    from gradcam_service.core.options import ExplainOptions
    from gradcam_service.core.options import Image as Picture
    from gradcam_service.core.results import Explanation
    from gradcam_service.local import Local

Command = TypeVar("Command", bound=Callable[..., Any])
Options = TypeVar("Options", bound=BaseModel)

_ENCODINGS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}

_FEW = 4
"""Forward passes that are done before it would be told how long they take."""
_ALIKE = 0.9
"""Of options, in `did_you_mean`: many of other servers, which KServe adds, begin as ours do."""


def main() -> None:
    """Entry point: errors on one line; exit code 2 where the input is at fault, 1 where the machine is."""
    warnings.simplefilter("ignore", FutureWarning)  # of one library about another, which the user can't change
    try:
        commands(prog_name="gradcam", standalone_mode=False)
    except click.ClickException as error:
        _exit(error.format_message(), 2)
    except click.Abort:
        _exit("interrupted", 130)
    except ServiceError as error:
        _exit(error.detail, exit_code(error))
    except OSError as error:
        _exit(str(error), exit_code(error))
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        _exit("this needs torch, which is not installed; predict, explain and serve do without for compiled models", 1)


def _exit(message: str, code: int) -> None:
    complain(message)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(gradcam_service.__version__, prog_name="gradcam")
def commands() -> None:
    """What does this image model see, and where does it look?"""


commands.add_command(study)


@commands.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="TCP port to listen on.")
@click.option("--device", help="auto, cpu or cuda:N, or several, separated by commas.")
def serve(**given: str | int | None) -> None:
    """Serve HTTP. Every setting is an environment variable GRADCAM_*; see docs/settings.md."""
    from gradcam_service import serving

    serving.serve(validated(Settings, given))


@commands.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--model_name", help="Of the InferenceService: what callers call the model.  [default: as KServe says]")
@click.option("--model_dir", type=click.Path(path_type=Path), default="/mnt/models", show_default=True)
@click.option("--predictor_host", help="HOST[:PORT] of the predictor to explain, where --model_dir has no model.")
@click.option("--predictor_protocol", type=click.Choice(["v1", "v2"]), help="[default: the one that it answers to]")
@click.option("--http_port", type=int, help="TCP port to listen on.  [default: PORT, else 8080]")
@click.option("--grpc_port", type=int, help="TCP port for gRPC.  [default: GRADCAM_GRPC_PORT, else none]")
@click.option("--preprocess", type=click.Choice(["imagenet"]), help="Of an ONNX file, or a predictor of floats.")
@click.option("--workers", hidden=True, help="Of other servers; GRADCAM_API_PROCESSES is ours.")
@click.pass_context
def kserve(context: click.Context, /, workers: str | None, **given: Any) -> None:  # noqa: ANN401  click's values
    """Serve as a model of KServe, which adds some of these options itself; others that it may add change nothing."""
    from gradcam_service import serving
    from gradcam_service.kserve import Arguments, arranged

    ours = [name for option in context.command.params for name in option.opts]
    for argument in filter(lambda argument: argument.startswith("-"), context.args):
        meant = did_you_mean(argument.partition("=")[0], ours, _ALIKE)
        warn([f"{argument} is no option of gradcam kserve and changes nothing{meant}"])
    with arranged(Arguments(**given)) as chosen:
        serving.serve(validated(Settings, chosen))


@commands.command()
@click.argument("names", nargs=-1)
@click.option("--load", "load_them", is_flag=True, help="Load each model here, to see whether it works.")
@click.option("--url", help="Ask the service at this address, such as http://127.0.0.1:8000.")
def models(names: Sequence[str], load_them: bool, url: str | None) -> None:
    """List the models: what is in the repositories, or with --url what a service has.

    NAMES are those to list, as requests name models: name, name@version or name@alias. All without any.

    With --load, the exit code is 0 if all work; 2 if one doesn't, or a file or an alias of the repositories is of no
    version; 1 if nothing but the machine or the network is at fault. Embedded models that are loaded when they are
    asked for don't count, unless they are named.

    A service with API keys is shown the one in GRADCAM_API_KEY.
    """
    from gradcam_service import cli_models

    if not url:
        sys.exit(cli_models.list_repositories(settings_here(), names, load_them))
    if load_them or names:
        raise click.UsageError("NAMES and --load are of models here; a service at --url lists all that it has")
    cli_models.list_service(url)


@commands.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--architecture", default="", help="timm/resnet50, torchvision/resnet50, or your module:function.")
@click.option("--labels", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File of labels.")
@click.option(
    "--tokenizer",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of the text that it takes: a word a line, or tokenizer.json.",
)
@click.option("--to", type=click.Path(path_type=Path), required=True, help="REPOSITORY/NAME/VERSION to make.")
@click.option("--set", "members", multiple=True, metavar="MEMBER=VALUE", help="Of model.yaml: activation=sigmoid.")
@click.option("--take", help="Which weights in FILE, where two would fit, such as state_dict_ema.")
@click.option("--replace", is_flag=True, help="Replace a version that is there.")
def import_(members: Sequence[str], **given: Any) -> None:  # noqa: ANN401  click's values
    """Make a version in a repository of the checkpoint, ONNX file or exported program FILE, and try it.

    The architecture of an ONNX file or of a program of torch.export is in it; of a checkpoint, --architecture names it.
    """
    from gradcam_service.registry.importing import Import, import_model, member

    settings = settings_here()
    load_plugins(settings.plugins)
    order = Import(members=tuple(map(member, members)), python_path=settings.python_path, **given)
    for line in import_model(order):
        click.echo(line)


def _pictures_and_model(command: Command) -> Command:
    """What every command about pictures takes."""
    model = click.option("--model", help="name, name@version or name@alias.  [default: GRADCAM_DEFAULT_MODEL]")
    frames = click.option("--frames", "as_frames", is_flag=True, help="PICTURES are one input together, oldest first.")
    pictures = click.argument("pictures", nargs=-1, required=True, type=click.Path(allow_dash=True, path_type=Path))
    return pictures(model(frames(command)))


@commands.command(cls=PredictCommand)
@_pictures_and_model
@click.option("--top-k", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many classes to list.")
def predict(pictures: Sequence[Path], model: str | None, as_frames: bool, **given: Any) -> None:  # noqa: ANN401  click's
    """What the model sees in PICTURES, files or - for the standard input; needs no server."""
    from gradcam_service.core.options import PredictOptions

    options = validated(PredictOptions, given)
    outcome, local = Outcome(pictures, as_frames), None
    for picture, data in outcome.readable():
        local = local or opened(model)
        with outcome.of(picture):
            result = local.predict(data, options)
            if len(pictures) > 1 and not as_frames:
                click.echo(f"{picture}:")
            click.echo(result.prediction)
            warn(result.warnings)
    sys.exit(outcome.code)


@commands.command(cls=ExplainCommand)
@_pictures_and_model
@click.option(
    "--target",
    multiple=True,
    help="Class, answer, action or word, by name or index, or JSON.  [default: the top one; every word]",
)
@click.option("--against", multiple=True, help="Class that targets are compared with, or rest for all; repeatable.")
@click.option("--method", help="One of the model's methods, or all for a grid of them.  [default: the model's own]")
@click.option("--output", type=click.Choice(["overlay", "heatmap"]), default="overlay", show_default=True)
@click.option("-o", "file", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Picture to write.")
def explain(
    pictures: Sequence[Path],
    model: str | None,
    as_frames: bool,
    file: Path,
    **given: Any,  # noqa: ANN401  click's
) -> None:
    """Where the model looks in PICTURES, files or - for the standard input; needs no server.

    With several targets, each one's picture has its label in its name; with several pictures, theirs.
    """
    from gradcam_service.core.options import ExplainOptions

    target = _targets(given["target"], given.pop("against"))
    options = validated(ExplainOptions, {**given, "target": target, "format": _encoding(file)})
    _refuse_what_would_not_show(options)
    # One that is named twice would be drawn twice into the same file; frames are drawn into the newest's.
    drawn = pictures[-1:] if as_frames else tuple(dict.fromkeys(pictures))
    named = [("stdin" if path == STDIN else path.stem, place) for place, path in enumerate(drawn)]
    files = dict(zip(drawn, a_file_each(file, named), strict=True))
    outcome, local = Outcome(pictures if as_frames else drawn, as_frames), None
    for picture, data in outcome.readable():
        local = local or opened(model)
        with outcome.of(picture), _watched(local, options, picture == drawn[0]) as watched:
            draw = _draw_all if options.method == "all" else _draw
            draw(watched, picture.name, data, options, files[picture])
    sys.exit(outcome.code)


def _refuse_what_would_not_show(options: ExplainOptions) -> None:
    """Raise ``click.UsageError`` for an option of drawing that the picture couldn't show."""
    if options.method == "all":
        if options.output == ["heatmap"]:
            raise click.UsageError("--method all draws overlays; --output heatmap needs one method")
        if options.legend:
            raise click.UsageError("--method all draws a legend of its own; --legend needs one method")
    elif options.output == ["heatmap"]:
        if options.format != "png":
            raise click.UsageError("a heatmap is a PNG; use -o with a name ending in .png, or --output overlay")
        for name in {"alpha", "outline", "legend"} & options.model_fields_set:
            raise click.UsageError(f"--{name} is of overlays; a heatmap has none")


@contextmanager
def _watched(local: Local, options: ExplainOptions, first: bool) -> Iterator[Local]:
    """The same model, of whose passes a terminal is told: before the first how long they take, then how far it is."""
    if not sys.stderr.isatty():
        yield local
        return
    names = local.model.card.method_names() if options.method == "all" else [options.explained_by(local.model.card)]
    passes = local.passes(options, names)
    if first and passes > _FEW and (told := foretold(passes, local.pace(passes))):
        click.echo(told, err=True)
    with tqdm(total=passes, unit=" passes", leave=False, delay=1) as bar:
        yield replace(local, progress=bar.update)


def _draw_all(local: Local, name: str, data: Picture, options: ExplainOptions, file: Path) -> None:
    """Write the grid of all methods."""
    from gradcam_service.gallery import gallery

    grid, notes = gallery(local, name, data, options, local.model.card.method_names())
    grid.save(file)
    click.echo(f"every method → {file}")
    for note in notes:
        click.echo(f"    but {note}")


def _draw(local: Local, name: str, data: Picture, options: ExplainOptions, file: Path) -> None:
    """Write a picture for each target, and a strip of them where they are words."""
    result = local.explain(data, options)
    named = [(each.name, getattr(each.target, "index", place)) for place, each in enumerate(result.explained())]
    if local.model.card.speaks:  # files in the order of the words, of which some come twice
        digits = len(str(named[-1][1]))
        named = [(f"{index:0{digits}}-{word}", index) for word, index in named]
    for explanation, written in zip(result.explanations, a_file_each(file, named), strict=True):
        drawn = explanation.overlay or explanation.heatmap
        assert drawn is not None
        written.write_bytes(drawn.data)
        note = f"; empty, {explanation.emptiness}" if explanation.empty else ""
        click.echo(f"{explanation.target}  → {written}{note}")
    if local.model.card.speaks and len(result.explanations) > 1:
        _strip(result.explanations, options).save(file)
        click.echo(f"{result.prediction.caption.text} → {file}")
    warn(result.warnings)


def _strip(words: Sequence[Explanation], options: ExplainOptions) -> Image.Image:
    """The pictures of a caption's words beside each other."""
    from PIL import Image

    from gradcam_service.images.grid import labelled_grid

    names = (f"{each.name} (nothing)" if each.empty else each.name for each in words)
    drawn = zip(names, (each.overlay or each.heatmap for each in words), strict=True)
    tiles = [(name, Image.open(io.BytesIO(picture.data))) for name, picture in drawn if picture is not None]
    return labelled_grid(tiles, {each.kind for each in words}, options.colormap)


@commands.command()
@click.argument("data")
@click.option("--model", help="name, name@version or name@alias.  [default: GRADCAM_DEFAULT_MODEL]")
@click.option("--methods", callback=separated, help="Separated by commas, or all.  [default: the model's own]")
@click.option("--protocols", callback=separated, help="Likewise.  [default: all that need no more than the maps]")
@click.option(
    "--set", "settings", multiple=True, metavar="PROTOCOL.OPTION=VALUE", help="Such as pointing.tolerance=15."
)
@click.option("--boxes", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of VOC XML files.")
@click.option(
    "--classes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of what DATA calls the model's classes, a line each, in the model's order.",
)
@click.option("--limit", type=click.IntRange(1), help="Most pictures, drawn by lot; of scenes the first.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of whatever is random.")
@click.option("--resume", is_flag=True, help="Go on with what a report's folder has.")
@click.option("-o", "report", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to make.")
def evaluate(model: str | None, **given: Any) -> None:  # noqa: ANN401  click's values
    """Whether the model's maps are to be trusted: protocols and metrics over DATA, and a report of them.

    DATA is a folder of class folders, a COCO JSON file, a CSV of file,label[,x0,y0,x1,y1][,group][,question], or the
    word scenes or easy-vqa. docs/evaluation.md has the protocols.
    """
    from gradcam_service.cli_evaluate import Order
    from gradcam_service.cli_evaluate import evaluate as carry_out

    carry_out(opened(model), Order(**given))


@commands.command()
@click.argument("name")
@click.option("--layer", default="auto", show_default=True, help="auto, or a layer that every path crosses.")
@click.option("-o", "file", type=click.Path(dir_okay=False, path_type=Path), required=True, help="ONNX file to write.")
def export(name: str, layer: str, file: Path) -> None:
    """The model NAME (name@version, name@alias) with its Grad-CAM as one ONNX file, for any ONNX Runtime.

    Inputs image and target, outputs scores and heatmap; what else a caller needs is in the file's metadata. A Python
    program beside it asks it of pictures, as the service would be asked, without this package.
    """
    if file.suffix != ".onnx":
        raise click.UsageError(f"{file} must end in .onnx")
    if file.stem in {*sys.stdlib_module_names, "numpy", "onnxruntime", "PIL"} or not file.stem.isprintable():
        raise click.UsageError(f"{file.stem!r} is a module's name or unprintable; choose another for -o")
    program = file.with_suffix(".py")
    from gradcam_service import export

    if program.exists() and not export.is_ours(program):
        raise click.UsageError(f"{program} is there, and would be overwritten; choose another name for -o")
    local = opened(name)
    export.export(local, layer, file)
    click.echo(f"{local.key} and its Grad-CAM → {file}, and how to ask it → {program}")


@commands.command("compile")
@click.argument("name")
@click.option("--layers", callback=separated, help="Layers beside the default one, separated by commas.")
@click.option("-o", "folder", type=click.Path(path_type=Path), required=True, help="REPOSITORY/NAME/VERSION to make.")
def compile_(name: str, layers: tuple[str, ...], folder: Path) -> None:
    """Make a version of the model NAME (name@version, name@alias) that predicts and explains without torch.

    It has the gradient at its default layer, and at those that are named; methods that take the gradient at the picture
    need the full model. It is compared with that on real pictures before it gets its name.
    """
    local = opened(name)
    from gradcam_service.compiled.write import compile_model

    compile_model(local.in_torch("a compilation"), local.folder(), local.key, layers, folder)
    click.echo(f"{local.key}, compiled → {folder}")


def _targets(targets: Sequence[str], against: Sequence[str]) -> list[Any] | None:
    """What a request would say for ``--target`` and ``--against``."""
    if not against:
        return list(targets) or None
    if not targets:
        raise click.UsageError("--against needs a --target that is compared")
    others = "rest" if list(against) == ["rest"] else list(against)
    return [{"class": target, "against": others} for target in targets]


def _encoding(file: Path) -> str:
    if file.suffix.lower() not in _ENCODINGS:
        raise click.UsageError(f"{file} must end in one of {', '.join(_ENCODINGS)}")
    return _ENCODINGS[file.suffix.lower()]
