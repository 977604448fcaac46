# What sitefs asks a Python interpreter, once: run with -I -S -B, answered with
# one JSON object on standard output. Any Python since 3.4 can run it, so that
# the old ones are refused with their version and not with a traceback.
import importlib.util
import json
import os
import platform
import sys
import sysconfig


def full_version(info):
    version = "{}.{}.{}".format(info.major, info.minor, info.micro)
    if info.releaselevel != "final":
        version += info.releaselevel[0] + str(info.serial)
    return version


def libc():
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""


def paths():
    # Never the default scheme: Debian's Python names its own.
    names = sysconfig.get_scheme_names()
    scheme = "venv" if "venv" in names else "posix_prefix"
    bases = ("base", "platbase", "installed_base", "installed_platbase")
    found = sysconfig.get_paths(scheme, dict.fromkeys(bases, "/venv"))
    return {name: found[name] for name in ("purelib", "platlib", "scripts", "data")}


uname = os.uname()
config = sysconfig.get_config_var
mac_release, _, mac_machine = platform.mac_ver() if sys.platform == "darwin" else ("", "", "")

print(json.dumps({
    "executable": getattr(sys, "_base_executable", "") or sys.executable,
    "implementation": sys.implementation.name,
    "version": sys.version_info[:3],
    "version_nodot": config("py_version_nodot") or "",
    "cache_tag": sys.implementation.cache_tag or "",
    "ext_suffix": config("EXT_SUFFIX") or "",
    "magic": "".join("{:02x}".format(b) for b in importlib.util.MAGIC_NUMBER),
    "platform": sysconfig.get_platform(),
    "bits": 64 if sys.maxsize > 2**32 else 32,
    "debug": bool(config("Py_DEBUG")),
    "gil_disabled": bool(config("Py_GIL_DISABLED")),
    "libc": libc(),
    "mac_release": mac_release,
    "mac_machine": mac_machine,
    "paths": paths(),
    "markers": {
        "implementation_name": sys.implementation.name,
        "implementation_version": full_version(sys.implementation.version),
        "os_name": os.name,
        "platform_machine": uname.machine,
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": uname.release,
        "platform_system": uname.sysname,
        "platform_version": uname.version,
        "python_full_version": platform.python_version(),
        "python_version": "{}.{}".format(*sys.version_info[:2]),
        "sys_platform": sys.platform,
    },
}))
