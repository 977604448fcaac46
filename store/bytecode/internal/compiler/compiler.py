# A compiler process of sitefs. It answers requests from standard input on file
# descriptor 3, so that nothing an interpreter prints can be taken for an answer.
#
#   request  optimisation, length of the name, length of the source; name; source
#   reply    status, length of the payload; payload
#
# The status is one byte, every other number four, little-endian. The first
# reply is unasked: cache tag, magic number and process id.
#
# It loads no file: what it needs is part of the interpreter, or was loaded at its
# start.
import sys

sys.path[:] = [p for p in sys.path if p]  # "" is the working directory

import encodings  # every start has loaded it; the others are no files
import marshal
import posix

try:
    from _frozen_importlib_external import MAGIC_NUMBER
except ImportError:
    from importlib.util import MAGIC_NUMBER

DONE, FAILED, EXHAUSTED = 0, 1, 2
MAX_REPLY = int(sys.argv[1])
MAX_REASON = 500

requests = open(0, "rb")
replies = open(3, "wb")


def number():
    return int.from_bytes(requests.read(4), "little")


def reply(status, payload):
    replies.write(bytes([status]) + len(payload).to_bytes(4, "little"))
    replies.write(payload)
    replies.flush()


def reason(e):
    text = "%s: %s" % (type(e).__name__, e)
    return text[:MAX_REASON].encode("utf-8", "backslashreplace")


# Codecs and the names of characters are loaded when a source uses them. Where the
# library has gone since the start, a failure is no fault of the source.
def need_library():
    file = getattr(encodings, "__file__", None)
    if file:
        try:
            encodings.__spec__.loader.get_data(file)
        except OSError as e:
            sys.exit("the interpreter's standard library is gone: %s" % e)


def code(source, name, optimisation):
    return marshal.dumps(
        compile(source, name, "exec", dont_inherit=True, optimize=optimisation)
    )


def answer(optimisation):
    length = number()
    size = number()
    name = requests.read(length).decode("utf-8", "surrogateescape")
    try:
        payload = code(requests.read(size), name, optimisation)
    except MemoryError:
        return EXHAUSTED, b"MemoryError: it is nested too deeply, or takes more memory than a compiler has"
    except Exception as e:
        need_library()
        return FAILED, reason(e)
    if len(payload) > MAX_REPLY:
        return FAILED, b"%d bytes of bytecode, at most %d are kept" % (len(payload), MAX_REPLY)
    return DONE, payload


def main():
    hello = "%s %s %d" % (sys.implementation.cache_tag, MAGIC_NUMBER.hex(), posix.getpid())
    reply(DONE, hello.encode())
    while True:
        optimisation = requests.read(4)
        if not optimisation:
            return
        status, payload = answer(int.from_bytes(optimisation, "little"))
        reply(status, payload)


main()
