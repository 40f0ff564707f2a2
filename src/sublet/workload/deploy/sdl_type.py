"""The grammar of Akash's SDL 2.0 and 2.1, as types.

Field by field what akash-network/chain-sdk reads; what it passes over without a word
(unknown keys below ``services``) is refused here. Not here: what must fit together
(``sdl_check``), sizes (``quantity``).
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Port = Annotated[int, Meta(ge=1, le=65_535)]
Quantity = Annotated[
    str,
    Meta(
        min_length=1,
        extra={"cure": "write a number with Ki, Mi, Gi, Ti (or k, M, G, T): 512Mi"},
    ),
]
ServiceName = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z]([-a-z0-9]*[a-z0-9])?\Z",
        extra={"cure": "name a service with a-z, 0-9 and -, beginning with a letter"},
    ),
]
EndpointName = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z]+[-_0-9a-z]+\Z",
        extra={"cure": "name an endpoint with two characters or more of a-z 0-9 - _"},
    ),
]
Image = Annotated[
    str,
    Meta(min_length=1, extra={"cure": "name an image with its tag: nginx:1.27"}),
]
Mount = Annotated[
    str,
    Meta(pattern=r"/.*", extra={"cure": "write an absolute path: /data"}),
]
Texts = tuple[str, ...]
TRUE = frozenset({"true", "on", "yes"})  # of attributes, which are texts
FALSE = frozenset({"false", "off", "no"})
NextCase = Literal[
    "error", "timeout", "500", "502", "503", "504", "403", "404", "429", "off"
]


class Grammar(Struct, frozen=True, kw_only=True):
    """What all parts of the grammar have in common: nothing but being one."""


class Endpoint(Grammar, frozen=True):
    """An address of its own."""

    kind: Literal["ip"]


class HttpOptions(Grammar, frozen=True):
    """What a public ingress does; 0 for its default."""

    max_body_size: Annotated[int, Meta(ge=0, le=104_857_600)] = 0  # bytes
    read_timeout: Annotated[int, Meta(ge=0, le=60_000)] = 0  # ms
    send_timeout: Annotated[int, Meta(ge=0, le=60_000)] = 0  # ms
    next_tries: Annotated[int, Meta(ge=0, le=(1 << 32) - 1)] = 0
    next_timeout: Annotated[int, Meta(ge=0, le=(1 << 32) - 1)] = 0
    next_cases: tuple[NextCase, ...] = ()
    proxy_buffer_size: Annotated[int, Meta(ge=0, le=1_048_576)] = 0  # bytes


class ExposeTo(Grammar, frozen=True):
    """Who reaches a port."""

    is_global: bool = field(name="global", default=False)
    service: str = ""
    ip: str = ""  # an endpoint's name


class Expose(Grammar, frozen=True):
    """A port that others reach."""

    port: Port
    external_port: Port = field(name="as", default=0)  # 0 for the same
    proto: Literal["TCP", "UDP", "tcp", "udp"] = "TCP"
    accept: Texts | None = None  # host names
    to: tuple[ExposeTo, ...] = ()
    http_options: HttpOptions = HttpOptions()


class Dependency(Grammar, frozen=True):
    """Another service; Akash reads and ignores it, here it is the order of starts."""

    service: str = ""


class Credentials(Grammar, frozen=True):
    """For a private registry."""

    host: Annotated[str, Meta(min_length=1)]
    username: Annotated[str, Meta(min_length=1)]
    password: Annotated[
        str, Meta(min_length=6, extra={"cure": "write six characters or more"})
    ]
    email: Annotated[
        str, Meta(min_length=5, extra={"cure": "write a whole address: me@example.org"})
    ] = ""

    def __repr__(self) -> str:
        return f"Credentials(host={self.host!r}, username={self.username!r}, …)"


class VolumeMount(Grammar, frozen=True):
    """Where a service finds a volume."""

    mount: Mount = ""
    read_only: bool = field(name="readOnly", default=False)


class Permissions(Grammar, frozen=True):
    """What a service may ask its provider about itself."""

    read: tuple[Literal["deployment", "logs", "events"], ...] = ()


class Params(Grammar, frozen=True):
    """What a service is given besides."""

    storage: dict[str, VolumeMount] | None = None
    permissions: Permissions | None = None
    tee: Literal["cpu", "cpu-gpu"] | None = None


class Service(Grammar, frozen=True):
    """One program, as an image."""

    image: Image
    command: Texts | None = None
    args: Texts | None = None
    env: Texts | None = None
    expose: tuple[Expose, ...] | None = None
    dependencies: tuple[Dependency, ...] = ()
    params: Params | None = None
    credentials: Credentials | None = None


class CpuAttributes(Grammar, frozen=True):
    """What kind of CPU."""

    arch: str | None = None


class Cpu(Grammar, frozen=True):
    """CPUs: 0.5, or 500m."""

    units: Annotated[str, Meta(extra={"cure": "write CPUs: 0.5, 2, or 500m"})]
    attributes: CpuAttributes | None = None


class Memory(Grammar, frozen=True):
    """Memory."""

    size: Quantity


class StorageAttributes(Grammar, frozen=True):
    """What kind of volume; texts, as Akash has them."""

    persistent: str | None = None
    storage_class: Literal["default", "beta1", "beta2", "beta3", "ram"] | None = field(
        name="class", default=None
    )


class Volume(Grammar, frozen=True):
    """Disk."""

    size: Quantity
    name: str = ""
    attributes: StorageAttributes | None = None


class GpuModel(Grammar, frozen=True):
    """One of the alternatives."""

    model: Annotated[
        str,
        Meta(
            pattern=r"\A[A-Za-z0-9_.*-]{1,64}\Z",
            extra={"cure": 'add a model without blanks: rtx4090, h100, or "*" for any'},
        ),
    ]
    ram: Quantity | None = None  # at least
    interface: Literal["pcie", "sxm"] | None = None


class GpuVendor(Grammar, frozen=True):
    """NVIDIA alone."""

    nvidia: tuple[GpuModel, ...] | None


class GpuAttributes(Grammar, frozen=True):
    """What kind of GPU."""

    vendor: Annotated[
        GpuVendor, Meta(extra={"cure": "add a vendor: vendor: {nvidia: }"})
    ]


class Gpu(Grammar, frozen=True):
    """GPUs."""

    units: Annotated[int, Meta(ge=0, le=24)] = 0
    attributes: GpuAttributes | None = None


class Resources(Grammar, frozen=True):
    """What one copy of a service has."""

    cpu: Cpu
    memory: Memory
    storage: Volume | tuple[Volume, ...]
    gpu: Gpu | None = None


class Compute(Grammar, frozen=True):
    """A compute profile."""

    resources: Resources


def volumes_of(compute: Compute) -> tuple[Volume, ...]:
    """Give a profile's volumes, of whichever form."""
    storage = compute.resources.storage
    return (storage,) if isinstance(storage, Volume) else storage


class SignedBy(Grammar, frozen=True):
    """Whose word for the attributes counts."""

    any_of: Texts | None = field(name="anyOf", default=None)
    all_of: Texts | None = field(name="allOf", default=None)


class Coin(Grammar, frozen=True):
    """A price for one block."""

    denom: Literal["uakt", "uact"]
    amount: Annotated[
        str,
        Meta(
            pattern=r"\A[0-9]{1,30}(\.[0-9]{1,18})?\Z",
            extra={"cure": "write a number above 0: 1000"},
        ),
    ]


class Placement(Grammar, frozen=True):
    """A placement profile."""

    pricing: dict[str, Coin]
    attributes: dict[str, str] | None = None
    signed_by: SignedBy = field(name="signedBy", default_factory=SignedBy)


class Profiles(Grammar, frozen=True):
    """Both kinds of profiles."""

    compute: dict[str, Compute]
    placement: dict[str, Placement]


class Placed(Grammar, frozen=True):
    """How many copies of a service, and of what size."""

    profile: str
    count: Annotated[int, Meta(ge=1, le=(1 << 32) - 1)]


class Reclamation(Grammar, frozen=True):
    """How long before it is taken back the tenant wants to hear of it."""

    min_window: Annotated[
        str,
        Meta(
            pattern=r"\A[1-9][0-9]{0,8}(s|m|h)\Z",
            extra={"cure": "write one number with one unit, s, m or h: 24h"},
        ),
    ]


class Stack(Grammar, frozen=True):
    """The whole file."""

    version: Annotated[
        Literal["2.0", "2.1"],
        Meta(extra={"cure": 'write version: "2.0" or version: "2.1", with the quotes'}),
    ]
    services: dict[ServiceName, Service]
    profiles: Profiles
    deployment: dict[str, dict[str, Placed]]
    endpoints: dict[EndpointName, Endpoint] | None = None
    include: Texts = ()
    reclamation: Reclamation | None = None


_COMPOSE = "is Compose's; remove it or deploy the Compose file itself"
HABITS = {
    "environment": "write env:, a list of NAME=value",
    "depends_on": "write dependencies:, a list of - service: NAME",
    "depends-on": "write dependencies:, a list of - service: NAME",
    "restart": "remove it; SDL has no word for it",
    "links": "remove it: write expose: with to: - service: NAME where it is reached",
    "cmd": "write command:, a list",
    "entrypoint": "write command:, a list; its arguments go to args:",
    "ports": "write expose:, a list of - port: N with to: - global: true",
    "volumes": "write params: storage: NAME: mount: /path, and the volume's size "
    "under the compute profile's storage:",
    "container_name": f"it {_COMPOSE}",
    "networks": f"it {_COMPOSE}",
    "build": "build the image first and name it under image:",
    "healthcheck": f"it {_COMPOSE}",
    "servcie": "did you mean service?",
    "amd": "only nvidia is known to the market; remove it, or ask for no GPU model",
    "intel": "only nvidia is known to the market; remove it, or ask for no GPU model",
    "limits": "write the sizes themselves under resources:",
    "requests": "write the sizes themselves under resources:",
}
