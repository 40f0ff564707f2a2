"""The system calls that no job needs and many escapes do: a seccomp filter.

A deny list over "allow": renders, trainers and browsers of the world call the rest.
``compile_filter`` gives the BPF program as bytes, which bubblewrap loads just before
it starts the job. Built over libseccomp by ``pyseccomp``.
"""

import errno
import tempfile
from functools import cache

from sublet.base.errors import Unavailable

# Each of these answers EPERM, as it would without the capability.
DENIED = (
    # other namespaces, other mounts
    *("unshare", "setns", "mount", "umount", "umount2", "pivot_root", "chroot"),
    *("move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("mount_setattr", "open_by_handle_at", "name_to_handle_at"),
    # large, young or privileged parts of the kernel
    *("bpf", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("userfaultfd", "perf_event_open", "fanotify_init", "quotactl", "quotactl_fd"),
    # other processes' memory and secrets
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd"),
    *("keyctl", "add_key", "request_key"),
    # the machine itself
    *("kexec_load", "kexec_file_load", "reboot", "syslog", "acct", "vhangup"),
    *("init_module", "finit_module", "delete_module", "create_module"),
    *("swapon", "swapoff", "settimeofday", "clock_settime", "clock_adjtime"),
    *("adjtimex", "sethostname", "setdomainname", "iopl", "ioperm", "modify_ldt"),
    *("nfsservctl", "uselib", "ustat", "sysfs", "lookup_dcookie", "vm86", "vm86old"),
)

FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6; no netlink, packet, vsock, alg …
NAMESPACE_FLAGS = (
    *(0x00020000, 0x02000000, 0x04000000, 0x08000000),  # NEWNS, CGROUP, UTS, IPC
    *(0x10000000, 0x20000000, 0x40000000),  # USER, PID, NET
)
TERMINAL_IOCTLS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: type into a terminal


@cache
def compile_filter() -> bytes:
    """Build the filter for this machine's architecture, once.

    Raises:
        Unavailable: libseccomp is not installed.
    """
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise Unavailable(
            "libseccomp is not installed; apt install libseccomp2, and "
            "pip install 'sublet[provider]'"
        ) from error
    refuse = pyseccomp.ERRNO(errno.EPERM)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    arch = pyseccomp.system_arch()
    for name in DENIED:
        if pyseccomp.resolve_syscall(arch, name) >= 0:  # this machine has it
            rules.add_rule(refuse, name)
    # One rule can look at an argument once only, so "none of" is many rules. The last
    # one also stops numbers whose upper half the kernel would ignore.
    unknown = pyseccomp.ERRNO(errno.EAFNOSUPPORT)
    for family in range(max(FAMILIES)):
        if family not in FAMILIES:
            rules.add_rule(unknown, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    above = pyseccomp.Arg(0, pyseccomp.GT, max(FAMILIES))
    rules.add_rule(unknown, "socket", above)
    for flag in NAMESPACE_FLAGS:
        masked = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag)
        rules.add_rule(refuse, "clone", masked)
    # Its flags lie in memory, where a filter cannot look; without it, libc uses clone.
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    for request in TERMINAL_IOCTLS:
        masked = pyseccomp.Arg(1, pyseccomp.MASKED_EQ, 0xFFFFFFFF, request)
        rules.add_rule(refuse, "ioctl", masked)
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
