// Package wheelhouse gives tests and benchmarks wheels: real ones that a list
// names, and small ones made on the spot.
//
// A list ([ReadList]) pins wheel files by SHA-256. [Fetch] has the user's own pip
// bring what is missing into a cache ([Dir]) that all checkouts share. [Serve]
// offers a directory of wheels as a package index on loopback, with faults on
// request, and [PylockURL] and [PylockPath] write the lock file for them. [Make]
// builds a wheel.
//
// A file in the cache has the bytes its list pins: it is checked before it gets
// its name and never written again. Only Fetch uses the network, and no address
// of an index is known here: pip asks the one it is configured for.
package wheelhouse

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A Wheel is one line of a list: a wheel file and its content.
type Wheel struct {
	Filename string
	Digest   digest.Digest
	Size     int64 // bytes
}

// Name returns the distribution's name as the file name spells it.
func (w Wheel) Name() string { return strings.SplitN(w.Filename, "-", 3)[0] }

// Version returns the version as the file name spells it.
func (w Wheel) Version() string { return strings.SplitN(w.Filename, "-", 3)[1] }

// platforms returns the platform tags of the file name ("manylinux_2_28_x86_64").
func (w Wheel) platforms() []string {
	stem := strings.TrimSuffix(w.Filename, ".whl")
	return strings.Split(stem[strings.LastIndexByte(stem, '-')+1:], ".")
}

// Dir returns the directory of the cache: $SITEFS_TEST_WHEELS, else
// sitefs-test/wheels in the user's cache directory. It need not exist yet.
func Dir() string {
	if dir := os.Getenv("SITEFS_TEST_WHEELS"); dir != "" {
		return dir
	}
	base, err := os.UserCacheDir()
	if err != nil { // no home directory, as in a bare container
		base = os.TempDir()
	}
	return filepath.Join(base, "sitefs-test", "wheels")
}

// ReadList reads a list from a file. Its form is [ParseList]'s.
func ReadList(file string) ([]Wheel, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := ParseList(data)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", file, err)
	}
	return list, nil
}

// ParseList reads one wheel a line: file name, SHA-256 in hexadecimal and size in
// bytes, separated by white space. Empty lines and lines that start with # are
// skipped. An error begins with the number of the line.
func ParseList(data []byte) ([]Wheel, error) {
	var list []Wheel
	seen := make(map[string]bool)
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		w, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		if seen[w.Filename] {
			return nil, fmt.Errorf("%d: %q is listed twice", n, w.Filename)
		}
		seen[w.Filename] = true
		list = append(list, w)
	}
	return list, lines.Err()
}

func parseLine(line string) (Wheel, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return Wheel{}, fmt.Errorf("found %d fields, want file name, SHA-256 and size", len(fields))
	}
	name := fields[0]
	if !isWheelName(name) {
		return Wheel{}, fmt.Errorf("%q is not the file name of a wheel", name)
	}
	sum, err := digest.Parse(fields[1])
	if err != nil {
		return Wheel{}, err
	}
	size, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || size <= 0 {
		return Wheel{}, fmt.Errorf("size %q is not a number of bytes", fields[2])
	}
	return Wheel{Filename: name, Digest: sum, Size: size}, nil
}

// isWheelName reports whether name has the five or six parts of a wheel's file
// name. What the parts may hold is the concern of package tag, which is under test.
func isWheelName(name string) bool {
	stem, ok := strings.CutSuffix(name, ".whl")
	dashes := strings.Count(stem, "-")
	return ok && (dashes == 4 || dashes == 5) && !strings.ContainsAny(name, `/\`)
}

// Path returns where a wheel of a list lies in the cache, present or not.
func (w Wheel) Path() string { return filepath.Join(Dir(), w.Filename) }

// Missing returns the wheels of a list that the cache lacks. A file of the right
// size counts as present: [Fetch] checked its digest before it got its name.
func Missing(list []Wheel) []Wheel {
	var missing []Wheel
	for _, w := range list {
		if info, err := os.Stat(w.Path()); err != nil || info.Size() != w.Size {
			missing = append(missing, w)
		}
	}
	return missing
}

// byName orders wheels as an index lists them.
func byName(a, b Wheel) int {
	return cmp.Or(
		strings.Compare(canonical(a.Name()), canonical(b.Name())),
		strings.Compare(a.Filename, b.Filename),
	)
}

// canonical is the name normalisation of PEP 503.
func canonical(name string) string {
	var b strings.Builder
	dash := false
	for _, c := range strings.ToLower(name) {
		if strings.ContainsRune("-_.", c) {
			dash = true
			continue
		}
		if dash {
			b.WriteByte('-')
			dash = false
		}
		b.WriteRune(c)
	}
	if dash {
		b.WriteByte('-')
	}
	return b.String()
}
