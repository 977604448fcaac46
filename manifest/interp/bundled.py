# Where this Python keeps the wheel of pip that ensurepip installs: its path on
# standard output, or why there is none on standard error. A distributor may keep
# wheels elsewhere (WHEEL_PKG_DIR), and may pack ensurepip apart from Python.
import glob
import os
import sys
import sysconfig

try:
    import ensurepip
except ImportError as e:
    sys.exit(str(e))
folders = [
    sysconfig.get_config_var("WHEEL_PKG_DIR") or "",
    os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"),
]
name = "pip-{}-*.whl".format(ensurepip.version())
for folder in folders:
    if folder:
        found = glob.glob(os.path.join(glob.escape(folder), name))
        if found:
            print(found[0])
            sys.exit()
sys.exit("no {} in {}".format(name, " or ".join(f for f in folders if f)))
