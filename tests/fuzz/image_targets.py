"""What a stranger packed, and what a driver's package says of its GPUs."""

import hashlib
import json
import tarfile
import tempfile
from pathlib import Path

from sublet.adapter.cdi import parse_cdi
from sublet.adapter.image_unpack import RefusedImage, unpack
from tests.fuzz.target import target
from tests.image_rig import BUSYBOX_CONFIG, entry, pack_layer

_MANY = 1 << 20
# What its ``main`` answers with a line, as it does a RefusedImage.
_ANSWERS = (RefusedImage, tarfile.TarError, EOFError, UnicodeError, OSError)

_LAYER = pack_layer(
    [
        entry("etc/passwd", "job:x:1000:1000::/home/job:/bin/sh\n", mode=0o644),
        entry("app/run", "#!/bin/sh\n"),
        entry("app/.wh.old", ""),
    ]
)
_CONFIG = json.dumps({"config": {**BUSYBOX_CONFIG, "User": "job"}}).encode()
_WORDS = ('"digest"', '"sha256:', '"config"', '"layers"', "null", "../", "/etc/passwd")


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _manifest(config: bytes, layer: bytes) -> bytes:
    parts = {"config": _part(config), "layers": [_part(layer)]}
    return json.dumps({"schemaVersion": 2, **parts}).encode()


def _part(content: bytes) -> dict[str, str]:
    return {"digest": f"sha256:{_name(content)}"}


def _unpack(manifest: bytes, config: bytes, layer: bytes) -> None:
    """Unpack it; nothing may come to lie beside the folder that it goes to."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("source", "out"):
            (place / name).mkdir()
        for content in (config, layer):
            (place / "source" / _name(content)).write_bytes(content)
        (place / "source" / "manifest.json").write_bytes(manifest)
        try:
            unpack(
                "layers",
                place / "source",
                place / "out",
                bytes_max=_MANY,
                files_max=1_000,
            )
        finally:
            assert {path.name for path in place.iterdir()} == {"source", "out"}
            assert {path.name for path in (place / "out").iterdir()} <= {"root"}
            assert len(list((place / "source").iterdir())) == 3


@target(
    "image_manifest",
    seeds=[_manifest(_CONFIG, _LAYER)],
    words=_WORDS,
    answers=_ANSWERS,
)
def _image_manifest(raw: bytes) -> None:
    _unpack(raw, _CONFIG, _LAYER)


@target("image_config", seeds=[_CONFIG], words=_WORDS, answers=_ANSWERS)
def _image_config(raw: bytes) -> None:
    _unpack(_manifest(raw, _LAYER), raw, _LAYER)


@target(
    "image_layer",
    seeds=[_LAYER],
    words=["../../", "ustar", ".wh..wh..opq", "././@PaxHeader"],
    answers=_ANSWERS,
)
def _image_layer(raw: bytes) -> None:
    _unpack(_manifest(_CONFIG, raw), _CONFIG, raw)


_CDI = {
    "cdiVersion": "0.6.0",
    "kind": "nvidia.com/gpu",
    "devices": [
        {
            "name": "0",
            "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]},
        }
    ],
    "containerEdits": {
        "env": ["NVIDIA_VISIBLE_DEVICES=void"],
        "deviceNodes": [{"path": "/dev/nvidiactl", "hostPath": "/dev/nvidiactl"}],
        "mounts": [{"hostPath": "/usr/lib/l.so", "containerPath": "/usr/lib/l.so"}],
    },
}
_CDI_WORDS = ("&a", "*a", "!!python/object", "<<: ", "- ", "? ", "|", "%YAML", "---")


@target("cdi_json", seeds=[json.dumps(_CDI)], words=['"devices"', "null"])
def _cdi_json(raw: bytes) -> None:
    parse_cdi(raw, source="nvidia.json")


_CDI_YAML = """\
cdiVersion: 0.6.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  mounts:
  - {hostPath: /usr/lib/l.so, containerPath: /usr/lib/l.so}
"""


@target("cdi_yaml", seeds=[_CDI_YAML], words=_CDI_WORDS)
def _cdi_yaml(raw: bytes) -> None:
    parse_cdi(raw, source="nvidia.yaml")
