"""The hostile program: reaches for what a job must not have, and says how it went.

Runs inside a sandbox with nothing but the standard library; knows nothing of Sublet.
``python hostile.py`` tries each attack in a process of its own and prints one
line of JSON for each: ``[name, "open" or "shut", how]``. An attack that returns has
got through; one that raises OSError, or is killed, has not.

The numbers are those of x86-64: most of these calls have no name in libc.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys

with open("/work/facts.json") as file:
    FACTS = json.load(file)  # what the attacker has learnt about its host
OUT = os.dup(1)  # not one that an attack's own children write to
libc = ctypes.CDLL(None, use_errno=True)
ATTACKS = {}
PATIENCE_S = 20


class Shut(OSError):
    """Refused in another way than by an errno."""


def attack(*arguments, name=""):
    """Add a function to the table, with its arguments."""

    def add(function):
        title = name or function.__name__.replace("_", " ")
        ATTACKS[title] = lambda: function(*arguments)
        return function

    return add


def syscall(number, *arguments):
    found = libc.syscall(
        ctypes.c_long(number),
        *(ctypes.c_long(x) if isinstance(x, int) else x for x in arguments),
    )
    if found == -1:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return found


def calls(number, *arguments):
    return lambda: syscall(number, *arguments)


def reads(path):
    def read():
        with open(path, "rb") as file:
            if not file.read(64):
                raise Shut("it is empty")

    return read


def lists(path):
    found = {f"{path}/{name}" for name in os.listdir(path)}
    # Mount points of the interpreter, which lies where it lies on the host.
    with open("/proc/self/mountinfo") as file:
        points = [line.split()[4] for line in file]
    if all(any(point.startswith(name) for point in points) for name in found):
        raise Shut("mount points only")
    return found


def writes(path, text):
    def write():
        handle = os.open(path, os.O_WRONLY)
        os.write(handle, text.encode())

    return write


def connects(family, address):
    def connect():
        with socket.socket(family, socket.SOCK_STREAM) as caller:
            caller.settimeout(3)
            caller.connect(tuple(address) if isinstance(address, list) else address)

    return connect


# ---- the provider's files -----------------------------------------------------------

for title, path in {**FACTS["secrets"], "password hashes": "/etc/shadow"}.items():
    ATTACKS[f"read: {title}"] = reads(path)
    ATTACKS[f"read: {title}, around init"] = reads("/proc/1/root" + path)
    ATTACKS[f"read: {title}, around cwd"] = reads("/proc/self/cwd/../../.." + path)
for path in ("/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/vda", "/dev/kmsg",
             "/proc/kmsg", "/root/.bashrc", "/root/.profile"):  # fmt: skip
    ATTACKS[f"read: {path}"] = reads(path)
for path in ("/root", "/home", "/var", "/run/user", "/run/1", "/sys/kernel",
             "/sys/fs/cgroup", "/sys/class/net"):  # fmt: skip
    ATTACKS[f"list: {path}"] = lambda path=path: lists(path)
ATTACKS["read: the first inode of a disk"] = calls(
    304, os.open("/", os.O_RDONLY), ctypes.c_char_p(struct.pack("iiIIQ", 8, 1, 2, 0, 0)), 0
)  # fmt: skip


@attack(name="link: a host file into the folder")
def link_out():
    os.link("/usr/bin/env", "/work/env-linked")


@attack(name="follow: a symlink to a secret")
def follow_symlink():
    os.symlink(next(iter(FACTS["secrets"].values())), "/work/way")
    reads("/work/way")()


@attack(name="make: a device")
def make_device():
    os.mknod("/work/vda", 0o60666, os.makedev(254, 0))
    reads("/work/vda")()


@attack(name="see: host paths among the mounts")
def see_mounts():
    with open("/proc/self/mountinfo") as file:
        text = file.read()
    if not any(word in text for word in FACTS["paths"]):
        raise Shut("none")


# ---- what is shared with others -----------------------------------------------------

for path in ("/usr/bin/evil", "/evil", "/etc/evil", "/run/evil", "/proc/evil"):
    ATTACKS[f"create: {path}"] = lambda path=path: open(path, "w").close()
for path in ("/etc/passwd", "/etc/hosts", "/usr/bin/env"):
    ATTACKS[f"write: {path}"] = writes(path, "x")
ATTACKS["write: the interpreter"] = writes(sys.executable, "x")
ATTACKS["change: the rights of a program"] = lambda: os.chmod("/usr/bin/env", 0o777)
ATTACKS["remount: /usr, writable"] = calls(165, b"none", b"/usr", b"", 32, 0)

# ---- settings of the kernel ---------------------------------------------------------

for path, text in {
    "/proc/sys/kernel/core_pattern": "|/work/x",
    "/proc/sys/kernel/hostname": "evil",
    "/proc/sys/vm/overcommit_memory": "1",
    "/proc/sys/net/ipv4/ip_forward": "1",
    "/proc/sys/user/max_user_namespaces": "100",
    "/proc/sysrq-trigger": "h",
    "/proc/self/uid_map": "0 0 1",
    "/proc/self/loginuid": "0",
    "/proc/self/oom_score_adj": "-1000",
    "/proc/irq/default_smp_affinity": "1",
    "/sys/kernel/uevent_helper": "/work/x",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "-1",
    "/sys/fs/cgroup/cgroup.procs": "0",
    "/sys/power/state": "mem",
}.items():
    ATTACKS[f"set: {path}"] = writes(path, text)

# ---- the provider's processes -------------------------------------------------------


@attack(name="see: the provider's processes")
def see_processes():
    for name in filter(str.isdigit, os.listdir("/proc")):
        with open(f"/proc/{name}/cmdline", "rb") as file:
            if FACTS["token"].encode() in file.read():
                return
    raise Shut("none")


PID = FACTS["pid"]
for number in (0, signal.SIGKILL):
    ATTACKS[f"signal: the provider, {int(number)}"] = lambda n=number: os.kill(PID, n)
ATTACKS["signal: its process group"] = lambda: os.killpg(PID, signal.SIGTERM)
ATTACKS["trace: the provider"] = calls(101, 16, PID, 0, 0)
ATTACKS["trace: a child"] = calls(101, 0, 0, 0, 0)
ATTACKS["read: the provider's memory"] = calls(310, PID, 0, 0, 0, 0, 0)
ATTACKS["write: the provider's memory"] = calls(311, PID, 0, 0, 0, 0, 0)
ATTACKS["take: a descriptor of init"] = lambda: syscall(438, os.pidfd_open(1), 0, 0)
ATTACKS["compare: kernel pointers"] = calls(312, 1, 1, 0, 0, 0)


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        lines = (line.rstrip().partition(":\t") for line in file)
        return {name: value for name, _, value in lines}


@attack(name="find: init outside of the filter")
def unfiltered_init():
    if all(status_of(pid).get("Seccomp") == "2" for pid in (1, "self")):
        raise Shut("filtered")


@attack(name="find: a capability")
def find_capability():
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    found = [status_of(pid).get(name, "0") for pid in (1, "self") for name in names]
    if not any(int(field, 16) for field in found):
        raise Shut("none")
    return found


@attack(name="find: a way to new privileges")
def new_privileges():
    if libc.prctl(39, 0, 0, 0, 0) == 1:
        raise Shut("no_new_privs")


# ---- becoming somebody --------------------------------------------------------------

ATTACKS["become: root"] = lambda: os.setresuid(0, 0, 0)
ATTACKS["become: another user"] = lambda: os.setresuid(1001, 1001, 1001)
ATTACKS["become: another group"] = lambda: os.setgroups([0])
ATTACKS["give: a file to root"] = lambda: os.chown("/work", 0, 0)


@attack(name="become: root, by a setuid program")
def setuid_program():
    with open("/work/su", "wb") as file, open("/usr/bin/id", "rb") as source:
        file.write(source.read())
    os.chmod("/work/su", 0o6755)
    reader, writer = os.pipe()
    options = {"file_actions": [(os.POSIX_SPAWN_DUP2, writer, 1)]}
    os.waitpid(os.posix_spawn("/work/su", ["id", "-u"], {}, **options), 0)
    os.close(writer)
    said = os.read(reader, 64).decode().strip()
    if said != "0" or os.getuid() == 0:
        raise Shut(f"uid {said}")


@attack(name="become: root, by a program of the system")
def system_setuid():
    for path in ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd"):
        if os.path.exists(path) and os.stat(path).st_mode & 0o4000:
            pid = os.posix_spawn(path, [path, "--version"], {})
            with open(f"/proc/{pid}/status") as file:
                uids = [line for line in file if line.startswith("Uid")]
            os.waitpid(pid, 0)
            if "\t0" in uids[0] and os.getuid():
                return
    raise Shut("none of them helps")


@attack(name="give: capabilities to a file")
def file_capability():
    with open("/work/capable", "w"):
        pass
    value = struct.pack("<IIIIII", 0x03000001, 0xFFFFFFFF, 0, 0, 0, 0)
    os.setxattr("/work/capable", "security.capability", value)


# ---- namespaces and mounts ----------------------------------------------------------

SPACES = {"mount": 0x20000, "cgroup": 0x2000000, "host name": 0x4000000,
          "ipc": 0x8000000, "user": 0x10000000, "process": 0x20000000,
          "network": 0x40000000, "time": 0x80}  # fmt: skip
for title, flag in SPACES.items():
    ATTACKS[f"unshare: {title} namespace"] = calls(272, flag)
for title in ("user", "network", "mount"):
    ATTACKS[f"clone: {title} namespace"] = lambda flag=SPACES[title]: clone(flag)


def clone(flag):
    if syscall(56, flag | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)


@attack(name="clone3: user namespace")
def clone3():
    arguments = struct.pack("11Q", SPACES["user"], 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
    if syscall(435, ctypes.c_char_p(arguments), len(arguments)) == 0:
        os._exit(0)


@attack(name="enter: the network of init")
def enter():
    syscall(308, os.open("/proc/1/ns/net", os.O_RDONLY), 0)


ATTACKS |= {
    "mount: tmpfs": calls(165, b"none", b"/tmp", b"tmpfs", 0, 0),
    "mount: a bind": calls(165, b"/", b"/work", b"", 4096, 0),
    "mount: proc": calls(165, b"none", b"/work", b"proc", 0, 0),
    "unmount: /work": calls(166, b"/work", 2),
    "unmount: /proc": calls(166, b"/proc", 2),
    "pivot root": calls(155, b"/work", b"/work"),
    "chroot": calls(161, b"/work"),
    "fsopen": calls(430, b"tmpfs", 0),
    "fspick": calls(433, -100, b"/usr", 0),
    "open tree": calls(428, -100, b"/usr", 1),
    "open tree with attributes": calls(467, -100, b"/usr", 1, bytes(32), 32),
    "move mount": calls(429, -100, b"/usr", -100, b"/work", 0),
    "mount attributes": calls(442, -100, b"/usr", 0, bytes(32), 32),
    "file handles": calls(303, -100, b"/usr", bytes(128), bytes(8), 0),
    "quota": calls(179, 0, b"/", 0, 0),
}

# ---- the kernel's wide doors --------------------------------------------------------

ATTACKS |= {
    "bpf": calls(321, 0, bytes(128), 128),
    "io_uring": calls(425, 8, bytes(256)),
    "userfaultfd": calls(323, 1),
    "perf events": calls(298, struct.pack("II", 1, 120) + bytes(112), 0, -1, -1, 0),
    "keys: the session's": calls(250, 0, -3, 0, 0, 0),
    "keys: a new one": calls(248, b"user", b"x", b"y", 1, -3),
    "a module": calls(175, bytes(64), 64, b""),
    "a module from a file": calls(313, 0, b"", 0),
    "remove a module": calls(176, b"loop", 0),
    "another kernel": calls(246, 0, 0, 0, 0),
    "another kernel from a file": calls(320, 0, 0, 0, b"", 0),
    "reboot": calls(169, 0xFEE1DEAD, 672274793, 0x89ABCDEF, 0),
    "the kernel's log": calls(103, 3, bytes(64), 64),
    "set the time of day": calls(164, struct.pack("QQ", 1, 0), 0),
    "set the clock": calls(227, 0, struct.pack("QQ", 1, 0)),
    "adjust the clock": calls(159, struct.pack("I", 1) + bytes(252)),
    "swap": calls(167, b"/work/x", 0),
    "accounting": calls(163, b"/work/x"),
    "fanotify": calls(300, 0, 0),
    "all ports": calls(172, 3),
    "a port": calls(173, 0x60, 1, 1),
    "segment descriptors": calls(154, 0, bytes(16), 16),
    "set the host's name": calls(170, b"evil", 4),
    "type into the terminal": lambda: fcntl.ioctl(0, 0x5412, b"x"),
    "type into a new terminal": lambda: fcntl.ioctl(os.openpty()[1], 0x5412, b"x"),
    "paste into the console": lambda: fcntl.ioctl(os.openpty()[1], 0x541C, b"\3"),
}


def run_code(code):
    """Run machine code in a process of its own; give what it returns."""
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(code)
    place = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_int)(place)()


@attack(name="32-bit system calls")
def old_calls():
    # mov eax, 26 (ptrace); xor ebx, ebx (TRACEME); int 0x80; ret
    found = run_code(b"\x53\xb8\x1a\0\0\0\x31\xdb\xcd\x80\x5b\xc3")
    if found < 0:
        raise OSError(-found, "int 0x80")


# The numbers of x32 are others: 521 is its ptrace.
ATTACKS["x32 system calls"] = calls(0x40000000 + 521, 0, 0, 0, 0)

# ---- more than its share ------------------------------------------------------------


@attack(name="schedule: real time")
def real_time():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@attack(name="schedule: by a deadline")
def deadline():
    fields = struct.pack("IIQiIQQQ", 48, 6, 0, 0, 0, 10**7, 3 * 10**7, 3 * 10**7)
    syscall(314, 0, fields, 0)


@attack(name="schedule: before others")
def nicer():
    os.setpriority(os.PRIO_PROCESS, 0, -5)


ATTACKS["schedule: disk, real time"] = calls(251, 1, 0, 1 << 13)
for title, what in {"open files": resource.RLIMIT_NOFILE, "file size": resource.RLIMIT_FSIZE,
                    "core dumps": resource.RLIMIT_CORE}.items():  # fmt: skip
    ATTACKS[f"raise: {title}"] = lambda what=what: raise_limit(what)


def raise_limit(what):
    try:
        resource.setrlimit(what, (resource.RLIM_INFINITY,) * 2)
    except ValueError as error:  # how Python says EPERM here
        raise Shut(str(error)) from None


@attack(name="open files without end")
def exhaust_files():
    kept = []
    while len(kept) < 2_000_000:
        kept.append(os.dup(0))


# ---- the network --------------------------------------------------------------------

for title, (family, address) in FACTS["doors"].items():
    ATTACKS[f"connect: {title}"] = connects(family, address)
for title, address in {
    "the internet": "192.0.2.1", "metadata": "169.254.169.254", "a router": "192.168.0.1",
    "a LAN": "10.0.0.1", "carrier NAT": "100.100.100.200", "multicast": "224.0.0.1",
}.items():  # fmt: skip
    ATTACKS[f"connect: {title}"] = connects(socket.AF_INET, [address, 80])
for title, address in {"metadata, v6": "fd00:ec2::254", "the internet, v6": "2001:db8::1",
                       "link-local, v6": "fe80::1"}.items():  # fmt: skip
    ATTACKS[f"connect: {title}"] = connects(socket.AF_INET6, [address, 80])
for title, arguments in {
    "raw IP": (2, 3, 1), "packets": (17, 3, 768), "netlink": (16, 3, 0), "vsock": (40, 1, 0),
    "kernel crypto": (38, 5, 0), "bluetooth": (31, 3, 1), "kernel connection": (41, 2, 0),
    "tipc": (30, 2, 0), "xdp": (44, 3, 0), "can": (29, 3, 1),
}.items():  # fmt: skip
    ATTACKS[f"socket: {title}"] = lambda them=arguments: socket.socket(*them)


@attack(name="send: a datagram to the internet")
def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("192.0.2.1", 53))


@attack(name="resolve: a name")
def resolve():
    try:
        socket.getaddrinfo("example.org", 80)
    except socket.gaierror as error:
        raise Shut(str(error)) from None


@attack(name="see: the host's interfaces")
def interfaces():
    with open("/proc/net/dev") as file:
        names = {line.split(":")[0].strip() for line in file if ":" in line}
    if names <= {"lo"}:
        raise Shut("loopback only")


@attack(name="see: the host's connections")
def connections():
    with open("/proc/net/unix") as file:
        if not any(word in file.read() for word in (FACTS["token"], *FACTS["paths"])):
            raise Shut("none")


# ---- one after the other ------------------------------------------------------------


def tell(name, verdict, how):
    os.write(OUT, json.dumps([name, verdict, how]).encode() + b"\n")


def attempt(name, function):
    pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE_S)
        quiet = os.open("/dev/null", os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            found = function()
        except OSError as error:
            tell(name, "shut", errno.errorcode.get(error.errno, str(error)))
        except BaseException as error:
            tell(name, "broken", repr(error))
        else:
            tell(name, "open", repr(found))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == -signal.SIGALRM:
        tell(name, "broken", "no answer")
    elif code:
        tell(name, "shut", f"killed by {signal.Signals(-code).name}")


if __name__ == "__main__":
    os.umask(0)
    for title, function in ATTACKS.items():
        attempt(title, function)
    tell("end", "", "")
