package tag

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/sitefs/sitefs/manifest/pyver"
)

// A WheelName is the parts of a wheel's file name.
type WheelName struct {
	Name       string // normalized, see pyver.CanonicalName
	RawName    string // as written
	Version    pyver.Version
	RawVersion string // as written
	Build      Build
	Tags       []Tag // in the order written
}

// A Build is a build tag, "1000abc". The zero Build is the absence of one.
type Build struct {
	Number int
	Suffix string
	Set    bool
}

// String returns the tag as a file name has it, "" where there is none.
func (b Build) String() string {
	if !b.Set {
		return ""
	}
	return strconv.Itoa(b.Number) + b.Suffix
}

// Compare orders build tags: none is lowest, then by number, then by suffix. Of
// two wheels that fit equally well the one with the higher tag is chosen.
func (b Build) Compare(o Build) int {
	switch {
	case b.Set != o.Set && b.Set:
		return 1
	case b.Set != o.Set:
		return -1
	}
	return cmp.Or(cmp.Compare(b.Number, o.Number), strings.Compare(b.Suffix, o.Suffix))
}

// ParseWheelName reads the file name of a wheel:
// name-version(-build)?-python-abi-platform.whl.
func ParseWheelName(filename string) (WheelName, error) {
	w, err := parseWheelName(filename)
	if err != nil {
		return WheelName{}, fmt.Errorf("wheel file name %q: %w", filename, err)
	}
	return w, nil
}

func parseWheelName(filename string) (WheelName, error) {
	var w WheelName
	stem, ok := strings.CutSuffix(filename, ".whl")
	if !ok {
		return w, errors.New("no .whl at the end")
	}
	parts := strings.Split(stem, "-")
	if len(parts) != 5 && len(parts) != 6 {
		return w, fmt.Errorf("%d parts between dashes, want 5 or 6: name-version(-build)-python-abi-platform", len(parts))
	}
	w.RawName, w.RawVersion = parts[0], parts[1]
	if !isEscapedName(w.RawName) {
		return w, fmt.Errorf("%q is not a project's name of letters, digits, dots and single underscores", w.RawName)
	}
	w.Name = pyver.CanonicalName(w.RawName)
	var err error
	if w.Version, err = pyver.Parse(w.RawVersion); err != nil {
		return w, err
	}
	if len(parts) == 6 {
		if w.Build, err = parseBuild(parts[2]); err != nil {
			return w, err
		}
	}
	w.Tags, err = Parse(strings.Join(parts[len(parts)-3:], "-"))
	return w, err
}

// isEscapedName reports whether s may stand as the name in a wheel's file name.
// Letters of any script pass: builders have written them.
func isEscapedName(s string) bool {
	for _, r := range s {
		if r != '_' && r != '.' && !unicode.IsLetter(r) && !unicode.IsNumber(r) {
			return false
		}
	}
	return s != "" && !strings.Contains(s, "__")
}

func parseBuild(s string) (Build, error) {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	number, err := strconv.Atoi(s[:n])
	if err != nil {
		return Build{}, fmt.Errorf("build tag %q does not begin with a number that fits 64 bits", s)
	}
	return Build{Number: number, Suffix: s[n:], Set: true}, nil
}

// A SdistName is the parts of a source distribution's file name.
type SdistName struct {
	Name    string // normalized
	Version pyver.Version
}

// ParseSdistName reads the file name of a source distribution:
// name-version.tar.gz, or .zip.
func ParseSdistName(filename string) (SdistName, error) {
	stem, ok := strings.CutSuffix(filename, ".tar.gz")
	if !ok {
		stem, ok = strings.CutSuffix(filename, ".zip")
	}
	if !ok {
		return SdistName{}, fmt.Errorf("sdist file name %q has no .tar.gz or .zip at the end", filename)
	}
	dash := strings.LastIndexByte(stem, '-')
	if dash <= 0 {
		return SdistName{}, fmt.Errorf("sdist file name %q is not name-version", filename)
	}
	v, err := pyver.Parse(stem[dash+1:])
	if err != nil {
		return SdistName{}, fmt.Errorf("sdist file name %q: %w", filename, err)
	}
	return SdistName{pyver.CanonicalName(stem[:dash]), v}, nil
}
