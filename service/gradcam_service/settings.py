"""Every setting, read from the environment as ``GRADCAM_<NAME>``; an empty one is not set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gradcam_service.cpus import usable
from gradcam_service.errors import BadSettings
from gradcam_service.kinds import CONSTANTS
from gradcam_service.naming import nearest
from gradcam_service.runtime import Precision

_PREFIX = "GRADCAM_"
_SHORTEST_TOKEN = 16
"""Characters; a shorter one could be guessed."""
_CLIENTS = "API_KEY"
"""No setting of the service, but the key that the command line and other callers send."""
_LINK = "tcp://"
_LINKS = r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
"""Variables by which Kubernetes tells a pod of Services, here of those named gradcam or gradcam-something:
https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables"""
_ORIGINS = r"\*|(?!https:.*:443$|http:.*:80$)https?://(\[[\da-f:.]+\]|[\w.-]+)(:\d+)?"
"""As browsers write them in ``Origin``: a scheme, a host, and a port where it isn't the scheme's own."""


class Settings(BaseSettings):
    """Settings of the service. docs/settings.md has a row for each field."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 picks a free one")
    device: str = Field(
        "auto",
        description="`auto` (every GPU, else the CPU), or `cpu` or `cuda:N`, or several of them, separated by commas, "
        "each with a worker of its own; those on one device share its cores and its memory budget",
    )
    api_processes: int | None = Field(
        None,
        ge=1,
        le=64,
        description="processes that serve HTTP; without it one, and for a GPU one for every two cores",
    )
    cpus: int | None = Field(
        None,
        ge=1,
        description="threads that compute: of all workers on one device together, and of each API process; without it "
        "as many as CPUs may be used",
    )
    model_repository: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="folders or URLs of models, separated by commas; the embedded ones come last"
    )
    embedded: bool = Field(
        True,
        description="whether the embedded models are there; without them, `GRADCAM_DEFAULT_MODEL` has to name another",
    )
    poll_seconds: float = Field(
        10.0, ge=0, description="seconds between scans of the model repositories; 0 rescans them only when told to"
    )
    precision: Precision = Field(
        "float32",
        description="of feature maps, for models that don't say: `float32`, exact; `bfloat16`, where the device has "
        "units for it and a model's answers stay what they are; `auto`, the faster of both",
    )
    compile: Literal["off", "auto"] = Field(
        "off",
        description="`auto`: models that a CPU has loaded are compiled for the next start, one at a time beside all "
        "else, which then imports torch for what compiled models can't do",
    )
    memory_budget: int = Field(
        0,
        ge=0,
        description="bytes that the parameters of loaded models may take on a device, those that a runtime holds once "
        "more included; 0 sets no bound",
    )
    cache_bytes: int = Field(
        20 * 10**9,
        ge=0,
        description="bytes that what was fetched from URLs, traced, exported or compiled may take on the disk; what is "
        "loaded stays; 0 sets no bound",
    )
    python_path: Path | None = Field(None, description="folder whose code models of source `python` may run")
    plugins: Path | None = Field(
        None,
        description=f"folder of Python files, each of which declares a {', '.join(CONSTANTS[:-1])} or {CONSTANTS[-1]}",
    )
    default_model: str = Field(
        "imagenet", description="the model of a request that names none; it is loaded at the start"
    )
    timeout_ms: int = Field(30_000, ge=1, le=600_000, description="deadline of a request that sets none, milliseconds")
    queue_size: int = Field(128, ge=1, description="images accepted and not yet answered, over all API processes")
    max_bytes_in_flight: int = Field(
        2**30, ge=1, description="bytes of bodies and of pictures to be drawn that may be held, over all API processes"
    )
    max_body_bytes: int = Field(32 * 2**20, ge=1, description="largest request body, bytes")
    max_connections: int = Field(1000, ge=1, description="most connections at a time, over all API processes")
    read_seconds: float = Field(
        30.0, gt=0, description="how long a head may take to arrive, then its body, and an answer to be taken"
    )
    max_images: int = Field(
        32, ge=1, description="most images in one request; fewer where an API process's share of the queue is smaller"
    )
    max_targets: int = Field(16, ge=1, description="most targets explained in one image")
    max_forward_passes: int = Field(
        5000, ge=1, description="most forward passes of the model that one explanation may take"
    )
    turn_seconds: float = Field(
        120.0,
        ge=1,
        description="longest that a worker may be busy with one batch, or one step of an expensive explanation, before "
        "it is taken for hung",
    )
    max_pixels: int = Field(50_000_000, ge=1, description="largest image, pixels; checked before decoding")
    max_drawn_pixels: int = Field(
        32 * 2**20,
        ge=1,
        description="most pixels of all pictures, and values of all maps, in one answer; 32 pictures of 1024×1024",
    )
    notice_seconds: float = Field(
        0.0,
        ge=0,
        description="how long a stopping process fails `/readyz` and yet accepts, for load balancers to notice",
    )
    drain_seconds: float = Field(20.0, ge=0, description="how long a stopping process may finish what it accepted")
    api_keys: Path | None = Field(
        None, description="file of the API keys that callers need, `name sha256` a line; without it none are needed"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="origins whose pages may ask from a browser, `https://app.example.com`, separated by commas; "
        "`*`: all",
    )
    allow_anonymous: bool = Field(
        False, description="whether, without API keys, an address that others can reach may be listened on"
    )
    playground: bool = Field(
        True, description="whether browsers find a page to try the service at `/`; else it leads them to `/docs`"
    )
    admin_token: SecretStr | None = Field(
        None,
        description=f"bearer token of the management calls, {_SHORTEST_TOKEN} characters at least; "
        "without it there are none",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="port of its own for `/metrics`; without it, it is where the rest is"
    )
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of its own for gRPC (the Open Inference Protocol), which is off without; 0 picks a free one",
    )
    tracing: bool = Field(
        False, description="whether spans go to the OpenTelemetry collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe record that is logged"
    )

    def for_devices(self, devices: list[str]) -> Settings:
        """These settings with as many API processes as these devices need, where it was left open.

        A GPU answers faster than one process decodes; on a CPU, one takes as much as it leaves.
        """
        if self.api_processes is not None or set(devices) == {"cpu"}:
            return self
        feeding = min(self.threads // 2, self.queue_size // self.max_images)
        return self.model_copy(update={"api_processes": max(1, feeding)})

    def default_among(self, names: Iterable[str]) -> str:
        """The default model, where there are models of these names.

        Raises:
            BadSettings: the embedded ones are left out, and no other is named. The only one isn't taken for it: what
                starts after another has been published would be refused.
        """
        known = sorted(set(names))
        if not self.embedded and "default_model" not in self.model_fields_set and self.default_model not in known:
            there = f"is to name one of {', '.join(known)}" if known else "can't name any: the repositories have none"
            raise BadSettings(f"GRADCAM_EMBEDDED=false leaves {self.default_model} out; GRADCAM_DEFAULT_MODEL {there}")
        return self.default_model

    @property
    def threads(self) -> int:
        """How many threads compute: of all workers on one device together, and of each API process."""
        return self.cpus or usable()

    def share(self, bound: int) -> int:
        """What one API process may take of a bound on all of them together."""
        return max(1, bound // (self.api_processes or 1))

    @property
    def most_images(self) -> int:
        """Most images in one request: no more than one API process can ever have under way."""
        return min(self.max_images, self.share(self.queue_size))

    @field_validator("port", "metrics_port", "grpc_port", mode="before")
    @classmethod
    def _is_no_link(cls, port: object, info: ValidationInfo) -> object:
        linked = isinstance(port, str) and port.startswith(_LINK)
        return cls.model_fields[str(info.field_name)].default if linked else port

    @field_validator("device")
    @classmethod
    def _are_devices(cls, device: str) -> str:
        if not re.fullmatch(r"auto|(cpu|cuda:[0-9]+)( *, *(cpu|cuda:[0-9]+))*", device):
            raise ValueError(
                f"{device!r} is none: auto (every GPU, else the CPU), cpu, cuda:0 (the first GPU), or several of the "
                "latter with commas between would work"
            )
        return device

    @field_validator("admin_token")
    @classmethod
    def _can_not_be_guessed(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value().strip()) < _SHORTEST_TOKEN:
            raise ValueError(f"it has fewer than {_SHORTEST_TOKEN} characters; `openssl rand -hex 32` makes a good one")
        return token

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not re.fullmatch(_ORIGINS, origin, re.ASCII | re.IGNORECASE):
                raise ValueError(
                    f"{origin!r} is no origin as browsers write it; https://app.example.com would be one, or "
                    "http://localhost:3000: no path, no default port, each subdomain by itself; or * for all"
                )
        return tuple(map(str.lower, origins))

    @field_validator("model_repository", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def misspelt(variables: Mapping[str, str]) -> Iterator[str]:
    """What to tell an operator of variables that look like settings and are none, each with the one that comes nearest.

    Args:
        variables: the environment.
    """
    known = [name.upper() for name in Settings.model_fields]
    for variable, value in variables.items():
        prefix, name = variable.upper()[: len(_PREFIX)], variable.upper()[len(_PREFIX) :]
        if (
            prefix != _PREFIX
            or name in known
            or name == _CLIENTS
            or value.startswith(_LINK)
            or re.fullmatch(_LINKS, name)
        ):
            continue
        near = nearest(name, known)
        yield f"{variable} is no setting and changes nothing" + (f"; did you mean {prefix}{near}?" if near else "")
