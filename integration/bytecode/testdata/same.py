"""Compares every .pyc served for the sources beneath a folder with what
py_compile makes of the source, and prints how many are served."""

import importlib.util
import marshal
import os
import py_compile
import sys
import tempfile
import types

HEADER = 16  # bytes, PEP 552


def file_names(code):
    found = {code.co_filename}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= file_names(const)
    return found


def difference(source, served, optimization):
    """Says how served differs, None if it does not."""
    with tempfile.TemporaryDirectory() as scratch:
        own = os.path.join(scratch, "own.pyc")
        try:
            py_compile.compile(source, cfile=own, doraise=True, optimize=int(optimization or 0))
        except py_compile.PyCompileError:
            return "it is served, and the source does not compile"
        with open(own, "rb") as f:
            wanted = f.read()
    if served[:HEADER] != wanted[:HEADER]:
        return "the header is %r, want %r" % (served[:HEADER], wanted[:HEADER])
    code = marshal.loads(served[HEADER:])
    if code != marshal.loads(wanted[HEADER:]):
        return "the code is another"
    if len(file_names(code)) != 1:
        return "it is of the files %s, want one" % file_names(code)
    return None


def main(folder, optimization):
    count = 0
    wrong = []
    for directory, _, files in os.walk(folder):
        for name in files:
            if not name.endswith(".py"):
                continue
            source = os.path.join(directory, name)
            try:
                with open(importlib.util.cache_from_source(source, optimization=optimization), "rb") as f:
                    served = f.read()
            except FileNotFoundError:
                continue
            count += 1
            problem = difference(source, served, optimization)
            if problem:
                wrong.append("%s: %s" % (source, problem))
    print(count)
    if wrong:
        sys.exit("\n".join(wrong))


sys.pycache_prefix = None
main(sys.argv[1], sys.argv[2])
