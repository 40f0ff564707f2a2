"""A file system of the worst kind that is still allowed: a page cache over a disk.

What is written lives in the cache; only fsync moves a file's pages, and only fsync of a
folder moves its names, to the "disk". A power cut leaves what the disk has (and, where
asked, a random part of the rest, page by page). A write can find the disk full, an
fsync can fail; the pages that it was for count as clean from then on, and are lost, as
on Linux. Told to be a ``journal``, it keeps a file's names with the file's fsync, as the
journal of ext4 or XFS does, and as PostgreSQL takes for granted. In memory, one thread,
told what to do by extended attributes of its root.

    python -m tests.rig.frail_disk MOUNT

``disk.py`` mounts it and speaks to it. Files that end in ``-shm`` are memory that
SQLite shares, not data: they never fail.
"""

import errno
import json
import os
import random
import stat
import sys
import time

os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
from mfusepy import FUSE, FuseOSError, Operations, fuse_get_context

PAGE = 4_096
BLOCKS = 1 << 24
COMMAND = "user.command"
STATE = "user.state"


class Node:
    """A file or a folder: what is seen of it, and what a power cut would leave."""

    def __init__(self, mode: int, number: int) -> None:
        uid, gid, _ = fuse_get_context()
        self.mode, self.uid, self.gid, self.number = mode, uid, gid, number
        self.changed_ns = time.time_ns()
        self.live = bytearray()
        self.stable = bytearray()
        self.dirty: set[int] = set()
        self.is_memory = False
        self.children: dict[str, Node] = {}
        self.stable_children: dict[str, Node] = {}

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if len(self.live) < offset:
            self.truncate(offset)
        self.live[offset:end] = data
        self.dirty.update(range(offset // PAGE, -(-end // PAGE)))
        self.changed_ns = time.time_ns()

    def truncate(self, size: int) -> None:
        old = len(self.live)
        del self.live[size:]
        self.live.extend(bytes(max(0, size - old)))
        low, high = sorted((old, size))
        self.dirty.update(range(low // PAGE, -(-high // PAGE)))
        self.changed_ns = time.time_ns()

    def keep(self, pages: set[int]) -> None:
        """Move pages to the disk; the length goes with the last of them."""
        for page in pages:
            start = page * PAGE
            chunk = self.live[start : start + PAGE]
            if len(self.stable) < start:
                self.stable.extend(bytes(start - len(self.stable)))
            self.stable[start : start + PAGE] = chunk
        if pages >= self.dirty:
            del self.stable[len(self.live) :]
            self.stable.extend(bytes(len(self.live) - len(self.stable)))
        self.dirty -= pages

    def sync(self) -> None:
        self.keep(set(self.dirty))
        self.stable_children = dict(self.children)

    def lose(self, chance: random.Random | None) -> None:
        """What is not on the disk is gone; or, by chance, had got there by itself."""
        if chance is not None:
            self.keep({page for page in sorted(self.dirty) if chance.random() < 0.5})
        self.live, self.dirty = bytearray(self.stable), set()
        self.children = dict(self.stable_children)


class FrailDisk(Operations):
    """The operations; each counts, and may be told to fail."""

    use_ns = True

    def __init__(self) -> None:
        self.root: Node | None = None
        self.numbers = 1
        self.open_nodes: dict[int, Node] = {}
        self.handles = 0
        self.counts = {"write": 0, "fsync": 0}
        self.plan: dict[str, object] = {}  # what happens to the n-th "write" or "fsync"
        self.is_full = False
        self.is_off = False
        self.is_journal = False
        self.seed: int | None = None  # of what gets to the disk by chance
        self.fired = 0

    # ---- told ---------------------------------------------------------------------

    def setxattr(self, path, name, value, options, position=0):
        if name != COMMAND:
            raise FuseOSError(errno.ENOTSUP)
        order = json.loads(value)
        match order["do"]:
            case "plan":  # {"on": write|fsync, "at": n, "then": full|error|cut, ...}
                self.counts = {"write": 0, "fsync": 0}
                self.plan, self.fired = order, 0
            case "heal":
                self.plan, self.is_full = {}, False
            case "cut":
                self._cut(order)
            case "on":
                self._turn_on()
            case "journal":
                self.is_journal = True
            case "sync":
                for node in self._all(self.root):
                    node.sync()
        return 0

    def getxattr(self, path, name, position=0):
        if name != STATE:
            raise FuseOSError(errno.ENODATA)
        state = {**self.counts, "fired": self.fired, "is_off": self.is_off}
        return json.dumps(state).encode()

    def _cut(self, order) -> None:
        self.is_off, self.is_full, self.plan = True, False, {}
        self.seed = order.get("seed")

    def _turn_on(self) -> None:
        """What a power cut took is seen to be gone now: whoever was there is, too."""
        if self.is_off:
            chance = None if self.seed is None else random.Random(self.seed)
            for node in self._all(self.root):
                node.lose(chance)
        self.is_off = False

    def _all(self, node: Node) -> list[Node]:
        """Give each node once, seen or on the disk, in one order for one history."""
        found: dict[int, Node] = {}
        queue = [node]
        while queue:
            node = queue.pop()
            if node.number not in found:
                found[node.number] = node
                queue += [*node.stable_children.values(), *node.children.values()]
        return list(found.values())

    def _meet(self, what: str, node: Node | None, *, grows: bool = True) -> None:
        """Count an operation, and let happen what was planned for it."""
        self._check_on()
        if self.plan.get("growing") and not grows:
            return
        self.counts[what] += 1
        if self.is_full and what == "write":
            raise FuseOSError(errno.ENOSPC)
        plan = self.plan
        if plan.get("on") != what or self.counts[what] != plan["at"]:
            return
        self.fired += 1
        match plan["then"]:
            case "full":
                self.is_full = bool(plan.get("stays"))
                raise FuseOSError(errno.ENOSPC)
            case "error":
                if node is not None:
                    node.dirty = set()  # taken for clean from now on: that is the trap
                raise FuseOSError(errno.EIO)
            case "cut":
                self._cut(plan)
                raise FuseOSError(errno.EIO)

    def _check_on(self) -> None:
        if self.is_off:
            raise FuseOSError(errno.EIO)

    # ---- names --------------------------------------------------------------------

    def init(self, path):
        self.root = self._make(stat.S_IFDIR | 0o755)
        self.root.uid, self.root.gid = os.getuid(), os.getgid()

    def _make(self, mode: int) -> Node:
        self.numbers += 1
        return Node(mode, self.numbers)

    def _find(self, path: str) -> Node:
        node = self.root
        for name in path.split("/"):
            if name:
                try:
                    node = node.children[name]
                except KeyError:
                    raise FuseOSError(errno.ENOENT) from None
        return node

    def _parent(self, path: str) -> tuple[Node, str]:
        folder, _, name = path.rpartition("/")
        return self._find(folder), name

    def _handle(self, node: Node) -> int:
        self.handles += 1
        self.open_nodes[self.handles] = node
        return self.handles

    def getattr(self, path, fh=None):
        node = self.open_nodes[fh] if fh else self._find(path)
        return {
            "st_mode": node.mode,
            "st_ino": node.number,
            "st_nlink": 1,
            "st_uid": node.uid,
            "st_gid": node.gid,
            "st_size": len(node.live),
            "st_blocks": -(-len(node.live) // 512),
            "st_mtime": node.changed_ns,
            "st_ctime": node.changed_ns,
            "st_atime": node.changed_ns,
        }

    def readlink(self, path):
        return self._find(path).live.decode()

    def symlink(self, target, source):
        self._check_on()
        folder, name = self._parent(target)
        node = folder.children[name] = self._make(stat.S_IFLNK | 0o777)
        node.write(source.encode(), 0)
        node.sync()

    def mkdir(self, path, mode):
        self._check_on()
        folder, name = self._parent(path)
        folder.children[name] = self._make(stat.S_IFDIR | mode)

    def create(self, path, mode, flags):
        if not path.endswith("-shm"):
            self._meet("write", None)
        folder, name = self._parent(path)
        node = folder.children[name] = self._make(stat.S_IFREG | stat.S_IMODE(mode))
        node.is_memory = name.endswith("-shm")
        return self._handle(node)

    def unlink(self, path):
        self._check_on()
        folder, name = self._parent(path)
        del folder.children[name]

    def rmdir(self, path):
        if self._find(path).children:
            raise FuseOSError(errno.ENOTEMPTY)
        self.unlink(path)

    def rename(self, old, new):
        self._check_on()
        source, name = self._parent(old)
        target, final = self._parent(new)
        target.children[final] = source.children.pop(name)

    def chmod(self, path, mode):
        node = self._find(path)
        node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)

    def chown(self, path, uid, gid):
        node = self._find(path)
        # -1 comes as it is, or as the largest unsigned number.
        node.uid = node.uid if uid in (-1, 0xFFFFFFFF) else uid
        node.gid = node.gid if gid in (-1, 0xFFFFFFFF) else gid

    def utimens(self, path, times=None):
        self._find(path).changed_ns = times[1] if times else time.time_ns()

    def readdir(self, path, fh):
        return [".", "..", *self.open_nodes[fh].children]

    def statfs(self, path):
        free = 0 if self.is_full else BLOCKS // 2
        return {
            "f_bsize": PAGE,
            "f_frsize": PAGE,
            "f_blocks": BLOCKS,
            "f_bfree": free,
            "f_bavail": free,
            "f_files": BLOCKS,
            "f_ffree": BLOCKS,
            "f_favail": BLOCKS,
            "f_namemax": 255,
        }

    # ---- contents -----------------------------------------------------------------

    def open(self, path, flags):
        return self._handle(self._find(path))

    def opendir(self, path):
        return self._handle(self._find(path))

    def release(self, path, fh):
        del self.open_nodes[fh]
        return 0

    releasedir = release

    def read(self, path, size, offset, fh):
        node = self.open_nodes[fh]
        if not node.is_memory:
            self._check_on()
        return bytes(node.live[offset : offset + size])

    def write(self, path, data, offset, fh):
        node = self.open_nodes[fh]
        if not node.is_memory:
            grows = offset + len(data) > len(node.live)
            self._meet("write", None, grows=grows)
        node.write(data, offset)
        return len(data)

    def truncate(self, path, length, fh=None):
        node = self.open_nodes[fh] if fh else self._find(path)
        if not node.is_memory:
            self._check_on()
            if length > len(node.live):
                self._meet("write", None)
        node.truncate(length)

    def flush(self, path, fh):
        return 0

    def fsync(self, path, datasync, fh):
        node = self.open_nodes[fh]
        if not node.is_memory:
            self._meet("fsync", node)
        node.sync()
        if self.is_journal:
            self._keep_names(path, node)

    def _keep_names(self, path: str, node: Node) -> None:
        """Put the names on the disk by which a file is found now."""
        folder, reached = self.root, []
        for name in path.split("/"):
            if name:
                child = folder.children.get(name)
                if child is None:
                    return  # renamed or removed since it was opened
                reached.append((folder, name, child))
                folder = child
        if folder is node:
            for parent, name, child in reached:
                parent.stable_children[name] = child

    fsyncdir = fsync


def main() -> None:
    FUSE(
        FrailDisk(),
        sys.argv[1],
        foreground=True,
        nothreads=True,
        allow_other=os.getuid() == 0,
        default_permissions=True,
        attr_timeout=0,
        entry_timeout=0,
        fsname="frail-disk",
    )


if __name__ == "__main__":
    main()
