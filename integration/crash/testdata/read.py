"""Asks a mount over and over, until standard input ends, and compares.

    read.py read|map|look SUMS

SUMS lists files as sha256sum does, by their names below the working directory.
They are read or mapped, and the page cache of each is given up before, so that the
mount is asked for it. To look is to ask for names that there are not, and that
nobody has asked for. At the end the longest that one call took is printed, in
seconds, with how many things were asked for.
"""

import hashlib
import mmap
import os
import random
import sys
import threading
import time

CHUNK = 1 << 16
PAUSE = 0.001  # between look-ups: others are to be answered too

longest = 0.0
slowest = ""


def timed(what, call, *args):
    global longest, slowest
    begin = time.monotonic()
    try:
        return call(*args)
    finally:
        took = time.monotonic() - begin
        if took > longest:
            longest, slowest = took, what


def digest_read(fd, size, name):
    h = hashlib.sha256()
    while chunk := timed("read of " + name, os.read, fd, CHUNK):
        h.update(chunk)
    return h.hexdigest()


def digest_map(fd, size, name):
    h = hashlib.sha256()
    if size > 0:
        with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as m:
            for at in range(0, size, CHUNK):
                h.update(timed("fault in " + name, m.__getitem__, slice(at, at + CHUNK)))
    return h.hexdigest()


def check(name, want, digest):
    size = timed("stat of " + name, os.stat, name).st_size
    fd = timed("open of " + name, os.open, name, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        got = digest(fd, size, name)
    finally:
        os.close(fd)
    if got != want:
        sys.exit("%s has digest %s, want %s" % (name, got, want))


def check_absent(name):
    try:
        timed("look-up of " + name, os.lstat, name)
    except FileNotFoundError:
        return
    sys.exit("there is a %s, want none" % name)


def main(how, sums):
    with open(sums) as f:
        files = [line.rstrip("\n").split("  ", 1) for line in f]
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    digest = {"read": digest_read, "map": digest_map}
    count = 0
    while not ended.is_set():
        if how == "look":
            check_absent("no-such-%d" % count)
            time.sleep(PAUSE)
        else:
            want, name = random.choice(files)
            check(name, want, digest[how])
        count += 1
    print(longest, count, slowest)


main(*sys.argv[1:])
