"""Bombs: one way each to take more than was given, or to stay longer.

``python bombs.py NAME`` prints "lit" once it begins, then goes on for as long as it
is let. Runs inside a sandbox with nothing but the standard library.
"""

import ctypes
import mmap
import os
import signal
import socket
import sys
import threading
import time

MIB = 1 << 20


def stay():
    while True:
        time.sleep(3600)


def forks():
    """Each child does the same, and computes."""
    while True:
        try:
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
        except OSError:
            sum(range(100_000))


def threads():
    kept = []
    while True:
        try:
            kept.append(threading.Thread(target=stay, daemon=True))
            kept[-1].start()
        except RuntimeError:
            sum(range(100_000))


def heap():
    kept = []
    while True:
        kept.append(b"x" * MIB)


def heap_of_children():
    """The kernel kills the largest; its parent makes another."""
    while True:
        pid = os.fork()
        if pid == 0:
            heap()
        os.waitpid(pid, 0)


def fill(handle):
    """Write until nothing fits, then go on trying."""
    content = bytes(MIB)
    while True:
        try:
            os.write(handle, content)
        except OSError:
            time.sleep(0.01)


def tmp():
    number = 0
    while True:
        number += 1
        handle = os.open(f"/tmp/{number}", os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                os.write(handle, b"x" * MIB)
        except OSError:
            time.sleep(0.01)
        os.close(handle)


def shared():
    number = 0
    while True:
        number += 1
        handle = os.open(f"/dev/shm/{number}", os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                os.write(handle, b"x" * MIB)
        except OSError:
            time.sleep(0.01)
        os.close(handle)


def memory_files():
    fill(os.memfd_create("bomb"))


def segments():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    while True:
        place = libc.shmat(libc.shmget(0, 8 * MIB, 0o1600), None, 0)
        if place in (None, ctypes.c_void_p(-1).value):
            time.sleep(0.01)
        else:
            ctypes.memset(place, 1, 8 * MIB)


def shared_maps():
    kept = []
    while True:
        kept.append(mmap.mmap(-1, MIB))
        kept[-1].write(b"x" * MIB)


def page_cache():
    """Dirty pages of one file, over and over."""
    handle = os.open("/work/cache", os.O_CREAT | os.O_RDWR)
    while True:
        for number in range(48):
            os.pwrite(handle, bytes(MIB), number * MIB)


def pipes():
    kept = []
    while True:
        try:
            reader, writer = os.pipe()
            kept.append((reader, writer))
            os.set_blocking(writer, False)
            while True:
                os.write(writer, bytes(65_536))
        except OSError:
            if len(kept) > 100_000:
                stay()


def sockets():
    """Bytes in the kernel that nobody reads."""
    kept = []
    while True:
        try:
            pair = socket.socketpair()
            kept.append(pair)
            pair[0].setblocking(False)
            while True:
                pair[0].send(bytes(65_536))
        except OSError:
            pass


def tcp():
    door = socket.create_server(("127.0.0.1", 0), backlog=64)
    kept = []
    while True:
        try:
            caller = socket.create_connection(door.getsockname())
            kept.append((caller, door.accept()[0]))
            caller.setblocking(False)
            while True:
                caller.send(bytes(65_536))
        except OSError:
            time.sleep(0.001)


def one_file():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    fill(os.open("/work/big", os.O_CREAT | os.O_WRONLY))


def many_files():
    number = 0
    while True:
        number += 1
        with open(f"/work/{number}", "wb") as file:
            file.write(bytes(8 * MIB))


def empty_files():
    number = 0
    while True:
        number += 1
        try:
            os.close(os.open(f"/work/{number}", os.O_CREAT | os.O_WRONLY))
        except OSError:
            time.sleep(0.01)


def deep_folders():
    for _ in range(10_000):
        os.mkdir("d" * 100)
        os.chdir("d" * 100)
    stay()


def hidden_folder():
    os.mkdir("/work/hidden")
    with open("/work/hidden/big", "wb") as file:
        file.write(bytes(40 * MIB))
    os.chmod("/work/hidden", 0)
    stay()


def removed_file():
    handle = os.open("/work/removed", os.O_CREAT | os.O_WRONLY)
    os.unlink("/work/removed")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    fill(handle)


def sparse_file():
    os.truncate(os.open("/work/sparse", os.O_CREAT | os.O_WRONLY), 60 * MIB)
    stay()


def swapped_folders():
    """Where the meter has just seen a folder, it finds a way into the host's."""
    os.mkdir("/work/a")
    os.symlink("/", "/work/b")
    libc = ctypes.CDLL(None)
    while True:
        libc.renameat2(-100, b"/work/a", -100, b"/work/b", 2)


def computes():
    for _ in range(7):
        if os.fork() == 0:
            break
    while True:
        sum(range(100_000))


def files_open():
    kept = []
    while True:
        try:
            kept.append(os.open("/work/bombs.py", os.O_RDONLY))
        except OSError:
            time.sleep(0.01)


def output():
    """10 GB, to both streams."""
    content = b"\x1b[2J\x1b]0;evil\x07" + bytes(MIB)
    for _ in range(5 << 10):
        os.write(1, content)
        os.write(2, content)
    stay()


def output_small():
    while True:
        os.write(1, b"x")


def stays():
    """The program ends; what it has started does not want to."""
    for number in range(4):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for signal_number in set(signal.Signals) - {
                    signal.SIGKILL,
                    signal.SIGSTOP,
                }:
                    signal.signal(signal_number, signal.SIG_IGN)
                if number % 2:
                    os.kill(os.getpid(), signal.SIGSTOP)
                stay()
            os._exit(0)
    os._exit(0)


def stops_itself():
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGSTOP)
    stay()


def kills_all():
    """Everything that it sees."""
    if os.fork() == 0:
        os.kill(-1, signal.SIGKILL)
    stay()


def signals_keeper():
    """A stop in the group, the session and whatever else takes it."""
    for pid in (0, 1, os.getppid(), -os.getpgrp()):
        for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGHUP):
            try:
                os.kill(pid, number)
            except OSError:
                pass
    stay()


if __name__ == "__main__":
    os.write(1, b"lit\n")
    globals()[sys.argv[1]]()
