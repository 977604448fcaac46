// Package interp finds a Python interpreter and learns from it what an
// environment needs to know: its tags, its marker values, its paths, its
// bytecode's magic number.
//
// An interpreter is asked once, by running it isolated (-I -S -B), and its answer
// is kept by the identity of its binary ([Key]); nothing is derived that it can
// say itself. What comes out is always a base interpreter: a virtual
// environment's python leads to the one it was made from, a pyenv shim to what
// it runs now. The package installs no Python, writes no file, and never runs
// code of an environment: no site module, no .pth file.
package interp

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/marker"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/tag"
)

// ErrNoPython is wrapped by every error that says that no interpreter, or not
// the one that was asked for, can be used.
var ErrNoPython = errors.New("no usable Python")

// A Python is a base interpreter, as it describes itself.
type Python struct {
	Executable     string // as sys._base_executable reports it: stable links are kept
	Home           string // its directory, for pyvenv.cfg
	Found          string // the absolute path that led to it: itself, a shim, a virtual environment's python
	Key            string // its identity, see the function Key; that of Found is the same
	Source         string // why Find chose it, such as "/proj/.python-version"; "" from Probe
	Implementation string // sys.implementation.name: cpython, pypy
	Version        [3]int
	FullVersion    string // platform.python_version(): 3.14.0rc2
	VersionInfo    string // 3.12.1, for pyvenv.cfg
	CacheTag       string // cpython-312, in the names of .pyc files
	ExtSuffix      string // .cpython-312-x86_64-linux-gnu.so
	Magic          string // the bytecode's magic number, hexadecimal
	Platform       string // sysconfig.get_platform(): linux-x86_64
	GILDisabled    bool   // a free-threaded build
	Libc           string // "glibc 2.36", "musl 1.2", or "" where it is neither
	Layout         Layout
	Markers        marker.Environment // its Context and what follows are the caller's
	Tags           []tag.Tag          // what it takes, best first
}

// A Layout says where a virtual environment of an interpreter keeps things,
// relative to its root, with slashes.
type Layout struct {
	Purelib string // lib/python3.12/site-packages
	Platlib string // the same: lib64 is a link to lib
	Scripts string // bin
	Headers string // include/site/python3.12; a project's are in a folder of its name
	Data    string // "", the root
}

// String names the interpreter for a message: CPython 3.12.1 (/usr/bin/python3).
func (p *Python) String() string {
	threads := ""
	if p.GILDisabled {
		threads = " free-threaded"
	}
	return fmt.Sprintf("%s %s%s (%s)", p.Markers.PlatformPythonImplementation, p.FullVersion, threads, p.Executable)
}

// Release returns the three numbers of the version, which is what
// requires-python is about: as in pip, 3.14.0rc2 satisfies >=3.14.
func (p *Python) Release() pyver.Version {
	v, err := pyver.Parse(p.VersionInfo)
	if err != nil {
		return pyver.Version{} // three numbers always parse; the zero Version satisfies nothing
	}
	return v
}

// isPrerelease reports whether the interpreter is an alpha, beta or candidate.
func (p *Python) isPrerelease() bool {
	v, err := pyver.Parse(strings.TrimSuffix(p.FullVersion, "+"))
	return err == nil && v.IsPrerelease()
}

// oldest is the first Python that sitefs serves: before 3.8 an interpreter does
// not know the manylinux tags, virtual environments or paths of today.
var oldest = [2]int{3, 8}

// A report is what probe.py prints, and what the cache keeps.
type report struct {
	Executable     string            `json:"executable"`
	Implementation string            `json:"implementation"`
	Version        [3]int            `json:"version"`
	VersionNodot   string            `json:"version_nodot"`
	CacheTag       string            `json:"cache_tag"`
	ExtSuffix      string            `json:"ext_suffix"`
	Magic          string            `json:"magic"`
	Platform       string            `json:"platform"`
	Bits           int               `json:"bits"`
	Debug          bool              `json:"debug"`
	GILDisabled    bool              `json:"gil_disabled"`
	Libc           string            `json:"libc"`
	MacRelease     string            `json:"mac_release"`
	MacMachine     string            `json:"mac_machine"`
	Paths          map[string]string `json:"paths"`
	Markers        struct {
		OSName                       string `json:"os_name"`
		SysPlatform                  string `json:"sys_platform"`
		PlatformMachine              string `json:"platform_machine"`
		PlatformPythonImplementation string `json:"platform_python_implementation"`
		PlatformRelease              string `json:"platform_release"`
		PlatformSystem               string `json:"platform_system"`
		PlatformVersion              string `json:"platform_version"`
		PythonVersion                string `json:"python_version"`
		PythonFullVersion            string `json:"python_full_version"`
		ImplementationName           string `json:"implementation_name"`
		ImplementationVersion        string `json:"implementation_version"`
	} `json:"markers"`

	SoftFloat bool `json:"soft_float"` // found by sitefs: an ARM that runs no manylinux wheel
}

// python checks a report and turns it into a Python.
func (r *report) python() (*Python, error) {
	if r.Implementation == "" || !filepath.IsAbs(r.Executable) {
		return nil, fmt.Errorf("its answer names no implementation or no absolute path (%q, %q)", r.Implementation, r.Executable)
	}
	if slices.Compare(r.Version[:2], oldest[:]) < 0 {
		return nil, fmt.Errorf("it is Python %d.%d.%d, and sitefs needs %d.%d or newer", r.Version[0], r.Version[1], r.Version[2], oldest[0], oldest[1])
	}
	layout, err := r.layout()
	if err != nil {
		return nil, err
	}
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	m := r.Markers
	return &Python{
		Executable:     r.Executable,
		Home:           filepath.Dir(r.Executable),
		Implementation: r.Implementation,
		Version:        r.Version,
		FullVersion:    m.PythonFullVersion,
		VersionInfo:    fmt.Sprintf("%d.%d.%d", r.Version[0], r.Version[1], r.Version[2]),
		CacheTag:       r.CacheTag,
		ExtSuffix:      r.ExtSuffix,
		Magic:          r.Magic,
		Platform:       r.Platform,
		GILDisabled:    r.GILDisabled,
		Libc:           r.Libc,
		Layout:         layout,
		Tags:           tags,
		Markers: marker.Environment{
			OSName:                       m.OSName,
			SysPlatform:                  m.SysPlatform,
			PlatformMachine:              m.PlatformMachine,
			PlatformPythonImplementation: m.PlatformPythonImplementation,
			PlatformRelease:              m.PlatformRelease,
			PlatformSystem:               m.PlatformSystem,
			PlatformVersion:              m.PlatformVersion,
			PythonVersion:                m.PythonVersion,
			PythonFullVersion:            m.PythonFullVersion,
			ImplementationName:           m.ImplementationName,
			ImplementationVersion:        m.ImplementationVersion,
		},
	}, nil
}

func (r *report) layout() (Layout, error) {
	// Where the platform's directory is lib64, a venv has a link of that name to
	// lib: one directory, one path.
	platlib := strings.Replace(r.Paths["platlib"], "/venv/lib64/", "/venv/lib/", 1)
	l := Layout{
		// What pip and the wheel specification have agreed on: no letter t.
		Headers: fmt.Sprintf("include/site/python%d.%d", r.Version[0], r.Version[1]),
	}
	for _, p := range []struct {
		name, path string
		to         *string
	}{
		{"purelib", r.Paths["purelib"], &l.Purelib},
		{"platlib", platlib, &l.Platlib},
		{"scripts", r.Paths["scripts"], &l.Scripts},
	} {
		relative, ok := strings.CutPrefix(p.path, "/venv/")
		if !ok || relative == "" {
			return l, fmt.Errorf("its %s directory %q is not inside the environment", p.name, p.path)
		}
		*p.to = relative
	}
	if l.Purelib != l.Platlib {
		return l, fmt.Errorf("it keeps pure packages in %q and others in %q, and sitefs serves one directory", l.Purelib, l.Platlib)
	}
	return l, nil
}
