package interp

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sitefs/sitefs/manifest/tag"
)

// tags returns what packaging.tags.sys_tags() returns in the interpreter.
func (r *report) tags() ([]tag.Tag, error) {
	platforms, err := r.platforms()
	if err != nil {
		return nil, err
	}
	version := r.Version[:2]
	nodot := r.VersionNodot
	if nodot == "" {
		nodot = fmt.Sprintf("%d%d", r.Version[0], r.Version[1])
	}
	switch r.Implementation {
	case "cpython":
		tags := tag.CPython(version, r.cpythonABIs(), platforms)
		return append(tags, tag.Compatible(version, "cp"+nodot, platforms)...), nil
	case "pypy":
		tags := tag.Generic("pp"+nodot, r.genericABIs(), platforms)
		return append(tags, tag.Compatible(version, "pp3", platforms)...), nil
	}
	tags := tag.Generic(r.Implementation+nodot, r.genericABIs(), platforms)
	return append(tags, tag.Compatible(version, "", platforms)...), nil
}

// cpythonABIs returns the ABIs that the CPython loads, its own first. A debug
// build loads the extensions of a release build since 3.8.
func (r *report) cpythonABIs() []string {
	abi := fmt.Sprintf("cp%d%d", r.Version[0], r.Version[1])
	if r.GILDisabled {
		abi += "t"
	}
	if r.Debug {
		return []string{abi + "d", abi}
	}
	return []string{abi}
}

// genericABIs reads the ABI out of the suffix of extension modules:
// .pypy310-pp73-x86_64-linux-gnu.so is pypy310_pp73.
func (r *report) genericABIs() []string {
	parts := strings.Split(r.ExtSuffix, ".")
	if len(parts) < 3 || parts[1] == "" {
		return nil
	}
	words := strings.Split(parts[1], "-")
	n := len(words)
	switch {
	case strings.HasPrefix(words[0], "pypy"):
		n = min(n, 2)
	case strings.HasPrefix(words[0], "graalpy"):
		n = min(n, 3)
	}
	return []string{tag.Normalize(strings.Join(words[:n], "-"))}
}

// platforms returns the platform tags, best first.
func (r *report) platforms() ([]string, error) {
	if r.Markers.PlatformSystem == "Darwin" {
		major, minor, err := twoNumbers(r.MacRelease)
		if err != nil {
			return nil, fmt.Errorf("its macOS release: %w", err)
		}
		arch := r.MacMachine
		if r.Bits == 32 {
			arch = "i386"
		}
		return tag.MacPlatforms(major, minor, arch), nil
	}
	machine, ok := strings.CutPrefix(tag.Normalize(r.Platform), "linux_")
	if !ok {
		return []string{tag.Normalize(r.Platform)}, nil
	}
	libc, err := parseLibc(r.Libc)
	if err != nil {
		return nil, err
	}
	if r.SoftFloat {
		libc = tag.Libc{}
	}
	return tag.LinuxPlatforms(machine, r.Bits == 32, libc), nil
}

// parseLibc reads "glibc 2.36" or "musl 1.2.5". What distributions append to the
// numbers is ignored.
func parseLibc(s string) (tag.Libc, error) {
	name, version, ok := strings.Cut(s, " ")
	if !ok {
		return tag.Libc{}, nil
	}
	major, minor, err := twoNumbers(version)
	if err != nil {
		return tag.Libc{}, fmt.Errorf("its C library %q: %w", s, err)
	}
	return tag.Libc{Name: name, Major: major, Minor: minor}, nil
}

// twoNumbers reads the numbers that "2.36-9" begins with.
func twoNumbers(s string) (major, minor int, err error) {
	a, rest, ok := strings.Cut(s, ".")
	n := 0
	for n < len(rest) && '0' <= rest[n] && rest[n] <= '9' {
		n++
	}
	major, errMajor := strconv.Atoi(a)
	minor, errMinor := strconv.Atoi(rest[:n])
	if !ok || errMajor != nil || errMinor != nil {
		return 0, 0, fmt.Errorf("version %q does not begin with two numbers", s)
	}
	return major, minor, nil
}
