"""Unpacks an image's layers into a root folder: a program of its own, in a sandbox.

Run as ``unpack.py KIND SOURCE OUT BYTES_MAX FILES_MAX``; it imports nothing but the
standard library, for inside there is nothing else. ``OUT/root`` gets the files,
``OUT/about.json`` what the image says of itself. Exit code 3 with one line on stdout:
the image is refused.

What a stranger packed is written by these rules, whatever it says: paths are resolved
below the root, by us, link by link, and nothing is ever written through a link that
leads out of it; device nodes, pipes, owners, extended attributes and setuid bits are
left out; everything can be read by everyone; sizes and counts have an end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
import tarfile
from pathlib import Path, PurePosixPath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

REFUSED = 3
# What every sandbox mounts something on; in an image nobody can make them later.
FOLDERS = ("proc", "dev", "tmp", "run", "sys", "work", "run/nvidia", "run/sublet")
FILES = ("run/init",)
_JSON_BYTES_MAX = 4 << 20
_LAYERS_MAX = 512
_LINKS_MAX = 40  # on the way of one path, as the kernel has it
_PARTS_MAX = 256
_ACCOUNTS_BYTES_MAX = 1 << 20
_BLOCK_BYTES = 1 << 20
_TIME_S_MAX = 1 << 33
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_BLOB = re.compile(r"\Asha256:([0-9a-f]{64})\Z")


class RefusedImage(Exception):
    """The image is not what it should be; says why, for its tenant."""


class Root:
    """A root folder in the making. Nobody else writes there meanwhile."""

    def __init__(self, path: Path, *, bytes_max: int, files_max: int) -> None:
        self._path = str(path)
        self._bytes_left = bytes_max
        self._files_left = files_max
        self._known: dict[tuple[str, ...], str] = {}  # folders, to their real paths
        path.mkdir(mode=0o755)

    # ---- paths --------------------------------------------------------------------

    def resolve(self, parts: tuple[str, ...], *, makes: bool) -> str | None:
        """Give the real path of a folder; None where there is none and none is made.

        Links are followed as the image's own programs would: from its root.
        """
        if parts in self._known:
            return self._known[parts]
        real: list[str] = []
        rest = list(reversed(parts))
        links = 0
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del real[-1:]
                continue
            path = "/".join((self._path, *real, part))
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                if not makes:
                    return None
                self._count(0)
                os.mkdir(path, 0o755)
                mode = stat.S_IFDIR
            if stat.S_ISLNK(mode):
                links += 1
                if links > _LINKS_MAX:
                    raise RefusedImage(f"{_show(parts)} goes in circles")
                target = os.readlink(path)
                if target.startswith("/"):
                    real = []
                rest += reversed(target.split("/"))
            elif stat.S_ISDIR(mode):
                real.append(part)
            elif makes:  # a file of a lower layer that is a folder here
                self._remove(path)
                rest.append(part)
            else:
                return None
            if len(real) + len(rest) > _PARTS_MAX:
                raise RefusedImage(f"{_show(parts)} is too deep")
        found = "/".join((self._path, *real))
        self._known[parts] = found
        return found

    def _remove(self, path: str) -> None:
        """Remove whatever stands at a real path; follows no link."""
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
        if not stat.S_ISREG(mode):
            self._known.clear()

    def _count(self, size: int) -> None:
        self._files_left -= 1
        self._bytes_left -= size
        if self._files_left < 0:
            raise RefusedImage("it holds more files than this provider takes")
        if self._bytes_left < 0:
            raise RefusedImage("unpacked, it is larger than this provider takes")

    # ---- one layer ----------------------------------------------------------------

    def apply(self, layer: Path) -> None:
        """Lay one layer over what is there: first what it takes away, then the rest."""
        for parts, member in self._read(layer):
            if parts and parts[-1].startswith(_WHITEOUT):
                self._white_out(parts)
            elif member.size < 0:
                raise RefusedImage(f"{_show(parts)} has no size")
        with tarfile.open(layer, "r:") as tar:
            for parts, member in _members(tar):
                if parts and not parts[-1].startswith(_WHITEOUT):
                    self._put(parts, member, tar)

    def _read(self, layer: Path) -> Iterator[tuple[tuple[str, ...], tarfile.TarInfo]]:
        with tarfile.open(layer, "r:") as tar:
            for count, (parts, member) in enumerate(_members(tar)):
                if count > self._files_left:
                    raise RefusedImage("it holds more files than this provider takes")
                yield parts, member

    def _white_out(self, parts: tuple[str, ...]) -> None:
        *folder, name = parts
        place = self.resolve(tuple(folder), makes=False)
        if place is None:
            return
        if name == _OPAQUE:
            for entry in os.listdir(place):
                self._remove(f"{place}/{entry}")
            return
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise RefusedImage(f"{_show(parts)} takes away what has no name")
        if not hidden.startswith(_WHITEOUT):  # others are a file system's own
            self._remove(f"{place}/{hidden}")

    def _put(
        self, parts: tuple[str, ...], member: tarfile.TarInfo, tar: tarfile.TarFile
    ) -> None:
        *folder, name = parts
        if member.isdir():
            place = f"{self.resolve(tuple(folder), makes=True)}/{name}"
            if not os.path.isdir(place) or os.path.islink(place):
                self._remove(place)
                self._count(0)
                os.mkdir(place, 0o755)
            return
        if not (member.isreg() or member.issym() or member.islnk()):
            return  # a device, a pipe: no job gets one from here
        place = f"{self.resolve(tuple(folder), makes=True)}/{name}"
        if member.islnk():
            self._link(place, parts, member.linkname)
            return
        self._remove(place)
        if member.issym():
            self._count(len(member.linkname))
            if not member.linkname or "\0" in member.linkname:
                raise RefusedImage(f"{_show(parts)} links nowhere")
            os.symlink(member.linkname, place)
            self._known.clear()
            return
        self._count(member.size)
        mode = 0o755 if member.mode & 0o111 else 0o644
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        source = tar.extractfile(member)
        with os.fdopen(os.open(place, flags, mode), "wb") as file:
            if source is not None:
                shutil.copyfileobj(source, file, _BLOCK_BYTES)
        # Compiled Python knows its source by its time.
        at_s = int(member.mtime) if 0 <= member.mtime <= _TIME_S_MAX else 0
        os.utime(place, (at_s, at_s), follow_symlinks=False)

    def _link(self, place: str, parts: tuple[str, ...], linkname: str) -> None:
        *folder, name = _split(linkname)
        other = self.resolve(tuple(folder), makes=False)
        source = f"{other}/{name}"
        if other is None or not os.path.lexists(source):
            raise RefusedImage(f"{_show(parts)} is a link to what is not there")
        if not stat.S_ISREG(os.lstat(source).st_mode):
            raise RefusedImage(f"{_show(parts)} is a hard link to what is no file")
        if source == place:
            return
        self._remove(place)
        self._count(0)
        os.link(source, place, follow_symlinks=False)

    # ---- the end ------------------------------------------------------------------

    def make_mount_points(self) -> None:
        """Make what sandboxes mount on: real folders, whatever the image had there."""
        for point in FOLDERS:
            path = f"{self._path}/{point}"
            if os.path.islink(path) or not os.path.isdir(path):
                self._remove(path)
                os.mkdir(path, 0o755)
        for point in FILES:
            path = f"{self._path}/{point}"
            self._remove(path)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o755))

    def find_user(self, text: str) -> tuple[int, int]:
        """Say whom an image wants to be: ``USER[:GROUP]``, by number or by name."""
        user, _, group = text.partition(":")
        uid, gid = 0, 0
        if user.isascii() and user.isdigit():
            uid = int(user)
            gid = next((int(r[3]) for r in self._rows("passwd") if r[2] == user), 0)
        elif user:
            found = [row for row in self._rows("passwd") if row[0] == user]
            if not found:
                raise RefusedImage(f"its user {user[:64]!r} is not in its /etc/passwd")
            uid, gid = int(found[0][2]), int(found[0][3])
        if group.isascii() and group.isdigit():
            gid = int(group)
        elif group:
            groups = [row for row in self._rows("group") if row[0] == group]
            if not groups:
                raise RefusedImage(f"its group {group[:64]!r} is not in its /etc/group")
            gid = int(groups[0][2])
        if not (0 <= uid < 1 << 31 and 0 <= gid < 1 << 31):
            raise RefusedImage("its user has a number that nobody has")
        return uid, gid

    def _rows(self, name: str) -> list[list[str]]:
        place = self.resolve(("etc",), makes=False)
        if place is None:
            return []
        try:
            handle = os.open(f"{place}/{name}", os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return []
        with os.fdopen(handle, "rb") as file:
            text = file.read(_ACCOUNTS_BYTES_MAX).decode(errors="replace")
        rows = [line.split(":") for line in text.splitlines()]
        least = 4 if name == "passwd" else 3
        numbers = (2, 3) if name == "passwd" else (2,)
        return [
            row
            for row in rows
            if len(row) >= least
            and all(row[n].isascii() and row[n].isdigit() for n in numbers)
            and all(len(row[n]) < 11 for n in numbers)
        ]

    def has_folder(self, path: str) -> bool:
        """Say whether a path is a folder of the image."""
        return self.resolve(_split(path), makes=False) is not None


def _members(
    tar: tarfile.TarFile,
) -> Iterator[tuple[tuple[str, ...], tarfile.TarInfo]]:
    while True:
        try:
            member = tar.next()
        except (ValueError, OverflowError, IndexError, RecursionError) as error:
            raise RefusedImage(f"a layer is damaged: {error}") from error
        if member is None:
            return
        tar.members = []  # type: ignore[attr-defined]  # else it remembers them all
        yield _split(member.name), member


def _split(path: str) -> tuple[str, ...]:
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise RefusedImage(f"{_show(parts)} leaves its folder")
    if "\0" in path or len(parts) > _PARTS_MAX:
        raise RefusedImage(f"{_show(parts)} is no path")
    return parts


def _show(parts: tuple[str, ...]) -> str:
    return ascii("/".join(parts)[:120])


# ---- the whole image --------------------------------------------------------------


def _read_json(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(_JSON_BYTES_MAX + 1)
    if len(content) > _JSON_BYTES_MAX:
        raise RefusedImage("its description is too large")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedImage("its description is not JSON") from error
    if not isinstance(found, dict):
        raise RefusedImage("its description is no object")
    return found


def _blob(source: Path, descriptor: object) -> Path:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    match = _BLOB.match(digest) if isinstance(digest, str) else None
    if match is None:
        raise RefusedImage("its manifest names a part without a sha256")
    path = source / match[1]
    if not path.is_file():
        raise RefusedImage("a part that its manifest names is not there")
    return path


def _texts(found: object, name: str) -> list[str]:
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise RefusedImage(f"{name} is no list of texts")
    return found


def unpack(
    kind: str, source: Path, out: Path, *, bytes_max: int, files_max: int
) -> dict[str, Any]:
    """Unpack an image; give what it says of itself.

    Args:
        kind: ``layers``: a folder as skopeo writes it; ``tar``: one archive of a root.
        source: that folder, or the archive.
        out: a folder; gets ``root``.
        bytes_max: of all files together.
        files_max: of files, folders and links together, whatever becomes of them.

    Raises:
        RefusedImage: it is none, or one that is not taken.
    """
    config: dict[str, Any] = {}
    layers = [source]
    if kind == "layers":
        manifest = _read_json(source / "manifest.json")
        described = _read_json(_blob(source, manifest.get("config")))
        found = described.get("config") or {}
        config = found if isinstance(found, dict) else {}
        listed = manifest.get("layers")
        if not isinstance(listed, list) or len(listed) > _LAYERS_MAX:
            raise RefusedImage(f"it has no list of at most {_LAYERS_MAX} layers")
        layers = [_blob(source, layer) for layer in listed]
    root = Root(out / "root", bytes_max=bytes_max, files_max=files_max)
    for layer in layers:
        root.apply(layer)
    user = config.get("User") or ""
    directory = config.get("WorkingDir") or ""
    if not isinstance(user, str) or not isinstance(directory, str):
        raise RefusedImage("its user or folder is no text")
    uid, gid = root.find_user(user)
    root.make_mount_points()
    if not directory.startswith("/") or not root.has_folder(directory):
        directory = ""
    return {
        "env": _texts(config.get("Env"), "Env"),
        "entrypoint": _texts(config.get("Entrypoint"), "Entrypoint"),
        "cmd": _texts(config.get("Cmd"), "Cmd"),
        "directory": str(PurePosixPath(directory)) if directory else "",
        "uid": uid,
        "gid": gid,
    }


def main(argv: list[str]) -> int:
    """Unpack what the arguments name; 0, or REFUSED with a line that says why."""
    kind, source, out, bytes_max, files_max = argv
    os.umask(0o022)
    try:
        about = unpack(
            kind,
            Path(source),
            Path(out),
            bytes_max=int(bytes_max),
            files_max=int(files_max),
        )
    except RefusedImage as fault:
        sys.stdout.write(f"{fault}\n")
        return REFUSED
    except (tarfile.TarError, EOFError, UnicodeError) as fault:
        why = ascii(str(fault))[:200]
        sys.stdout.write(f"a layer is no tar archive, or damaged: {why}\n")
        return REFUSED
    except OSError as fault:
        sys.stdout.write(f"it cannot be unpacked: {fault.strerror}\n")
        return REFUSED
    content = json.dumps(about).encode()
    with Path(out, "about.json").open("xb") as file:
        file.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
