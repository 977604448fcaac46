package manifest

import (
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/tree"
)

// revision counts what this package generates: scripts, RECORD, pyvenv.cfg. It
// changes when equal wheels no longer give equal tables or when the format of
// package tree changes, so that tables made before are left alone and made
// anew. It is the value of "sitefs" in pyvenv.cfg, where a release's number
// would give every release trees of its own.
const revision = 1

// venv is how one interpreter lays out a virtual environment. Paths are
// relative to the environment's root.
type venv struct {
	py      *interp.Python
	site    string // lib/python3.12/site-packages, for pure packages and others
	headers string // include/site/python3.12; each distribution has a directory there
	minor   string // 3.12
}

const bin = "bin"

func newVenv(py *interp.Python) *venv {
	return &venv{py: py, site: py.Layout.Purelib, headers: py.Layout.Headers, minor: minorVersion(py)}
}

func minorVersion(py *interp.Python) string {
	return fmt.Sprintf("%d.%d", py.Version[0], py.Version[1])
}

// layout names everything that the table of a wheel depends on besides the
// wheel: a part to read and a part to be sure.
func (v *venv) layout() string {
	d := digest.Of([]byte(strings.Join([]string{strconv.Itoa(revision), v.site, v.headers, v.minor}, "\n")))
	name := strings.ReplaceAll(path.Dir(v.site), "/", "-")
	return name + "-" + hex.EncodeToString(d[:4])
}

// A generated is a file that comes from no wheel: inline, a template or a symlink.
type generated struct {
	path    string
	kind    tree.Kind
	content []byte
}

func inline(path, content string) generated { return generated{path, tree.Inline, []byte(content)} }

func template(path, text string) generated { return generated{path, tree.Template, []byte(text)} }

func symlink(path, target string) generated { return generated{path, tree.Symlink, []byte(target)} }

// cacheTag is the file that backup programs look for (bford.info/cachedir).
const cacheTag = "Signature: 8a477f597d28d172789f06886806bc55\n"

// files returns what every environment has and no wheel may bring.
func (v *venv) files(m *Manifest) []generated {
	files := []generated{
		inline("pyvenv.cfg", v.config(m)),
		inline(".gitignore", "*\n"),
		inline("CACHEDIR.TAG", cacheTag),
		symlink(bin+"/python", v.py.Executable),
	}
	for _, name := range v.interpreterNames() {
		files = append(files, symlink(bin+"/"+name, "python"))
	}
	if v.hasLib64() {
		files = append(files, symlink("lib64", "lib"))
	}
	for _, script := range activateScripts {
		files = append(files, template(bin+"/"+script.name, script.text(m.Prompt)))
	}
	return files
}

// interpreterNames returns the names that bin/python goes by, as venv makes them.
func (v *venv) interpreterNames() []string {
	major := strconv.Itoa(v.py.Version[0])
	names := []string{"python" + major, "python" + v.minor}
	if v.py.GILDisabled {
		names = append(names, "python"+v.minor+"t")
	}
	if v.py.Implementation == "pypy" {
		names = append(names, "pypy", "pypy"+major, "pypy"+v.minor)
	}
	return names
}

// hasLib64 reports whether venv makes the symlink: on 64-bit POSIX systems but macOS.
func (v *venv) hasLib64() bool {
	return v.py.Markers.SysPlatform == "linux" && (strings.Contains(v.py.Platform, "64") || strings.HasSuffix(v.py.Platform, "s390x"))
}

// config returns pyvenv.cfg. Python's own start-up reads home and
// include-system-site-packages, which is true where it is missing.
func (v *venv) config(m *Manifest) string {
	lines := []string{
		"home = " + v.py.Home,
		"implementation = " + v.py.Markers.PlatformPythonImplementation,
		"version_info = " + v.py.VersionInfo,
		"include-system-site-packages = " + strconv.FormatBool(m.SystemSitePackages),
		"sitefs = " + strconv.Itoa(revision),
	}
	if m.Relocatable {
		lines = append(lines, "relocatable = true")
	}
	if m.Prompt != "" {
		lines = append(lines, "prompt = "+m.Prompt)
	}
	return strings.Join(lines, "\n") + "\n"
}

// pipNames returns what pip is called in bin.
func (v *venv) pipNames() []string {
	return []string{"pip", "pip" + strconv.Itoa(v.py.Version[0]), "pip" + v.minor}
}

// noPip stands in for a pip that the environment does not have. Without it the
// shell would find another one on PATH, which installs into another Python.
const noPip = `#!/bin/sh
echo 'sitefs: error: this environment has no pip' >&2
echo 'sitefs: hint: add the package to the lock file, run with --with PACKAGE, or with --overlay DIR to install with pip' >&2
exit 1
`
