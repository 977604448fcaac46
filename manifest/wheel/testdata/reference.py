"""Reads what package wheel reads, with Python's own library.

One request per line of standard input, one answer per line of standard
output, both JSON: {"kind": "zip" | "record" | "points", "data": base64}
gives {"result": ...} or {"error": text}.
"""

import base64
import configparser
import csv
import hashlib
import importlib.metadata
import io
import json
import sys
import zipfile

GROUPS = ("console_scripts", "gui_scripts")
ZSTANDARD = 93  # zipfile reads it from Python 3.14 on


def read_zip(data):
    archive = zipfile.ZipFile(io.BytesIO(data))
    return [
        [i.filename, None if i.compress_type == ZSTANDARD else hashlib.sha256(archive.read(i)).hexdigest()]
        for i in archive.infolist()
    ]


def read_record(data):
    return [row for row in csv.reader(io.StringIO(data.decode(), newline="")) if row]


class Distribution(importlib.metadata.Distribution):
    def __init__(self, text):
        self.text = text

    def read_text(self, filename):
        return self.text

    def locate_file(self, path):
        return path


def last_of_each(points):
    found = {}
    for group in GROUPS:
        for p in points:
            if p.group == group:
                found.pop(p.name, None)
                found[p.name] = [p.name, p.module, p.attr, group == "gui_scripts"]
    return list(found.values())


def by_importlib(text):
    try:
        return last_of_each(Distribution(text).entry_points)
    except TypeError:  # a line without "=", which may be in a group of no concern
        lines = [x for x in text.splitlines() if "=" in x or x.strip().startswith("[")]
        return last_of_each(Distribution("\n".join(lines)).entry_points)


def by_configparser(text):
    """None where the syntax of configparser gives the text another meaning."""
    if any(x[:1].isspace() and x.strip() for x in text.splitlines()):
        return None  # it continues the line before
    parser = configparser.ConfigParser(delimiters="=", interpolation=None, strict=False, default_section="")
    parser.optionxform = str
    try:
        parser.read_file(io.StringIO(text, newline=None))
    except configparser.Error:
        return None
    point = importlib.metadata.EntryPoint
    points = [point(name, value, g) for g in GROUPS if parser.has_section(g) for name, value in parser.items(g)]
    return sorted(last_of_each(points))


def read_points(data):
    text = data.decode("utf-8-sig")
    return {"importlib": by_importlib(text), "configparser": by_configparser(text)}


READ = {"zip": read_zip, "record": read_record, "points": read_points}

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"result": READ[request["kind"]](base64.b64decode(request["data"]))}
    except Exception as e:
        answer = {"error": repr(e)}
    print(json.dumps(answer), flush=True)
