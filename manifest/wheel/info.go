package wheel

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/sitefs/sitefs/manifest/digest"
)

// Info is what sitefs keeps of a wheel. It holds no machine's paths, and the
// same wheel has the same Info everywhere.
type Info struct {
	Name     string   // canonical: "my-project"
	RawName  string   // as METADATA spells it: "My.Project"
	Version  string   // normalised (PEP 440)
	Filename string   // the wheel's file name, without a directory
	Build    string   `json:",omitempty"` // build tag: "1abc"
	Tags     []string // compatibility tags of the file name, expanded: "py3-none-any"
	DistInfo string   // the *.dist-info directory as the archive spells it
	Purelib  bool     // Root-Is-Purelib

	RequiresPython string   `json:",omitempty"` // version specifiers, not parsed
	RequiresDist   []string `json:",omitempty"` // requirements, not parsed
	ProvidesExtra  []string `json:",omitempty"`

	EntryPoints []EntryPoint `json:",omitempty"` // console, then gui; names are unique

	// Files is every file to install, sorted by Scheme and Path. It lacks
	// bytecode, scripts that an entry point of the same name replaces, and what
	// an installer writes anew: RECORD, INSTALLER, REQUESTED, direct_url.json.
	Files []File

	Warnings []string `json:",omitempty"` // sorted, at most MaxWarnings
}

// MaxWarnings is how many warnings an Info holds. Nobody reads more, and a
// hostile wheel could give rise to a million.
const MaxWarnings = 100

// A File is one file to install.
type File struct {
	Scheme Scheme
	Path   string // slash-separated, relative to the scheme's root, clean
	Exec   bool   `json:",omitempty"` // mode 0755, else 0644
	Size   int64  // bytes
	// Digest is what RECORD lists. It is zero where RECORD lists a stronger hash
	// or is not to be trusted, until Extract has returned it.
	Digest digest.Digest
	// Python says that the first line starts with "#!python" and is to be
	// replaced, whole, by the venv's interpreter. Only files of Scripts have it.
	Python bool `json:",omitempty"`
}

// A Scheme is a root that files are installed under
// (packaging.python.org, "Binary distribution format", "The .data directory").
type Scheme uint8

// Purelib and Platlib are one directory in a venv.
const (
	Purelib Scheme = iota
	Platlib
	Headers // include/site/pythonX.Y/NAME
	Scripts // bin
	Data    // the venv itself
)

var schemes = [...]string{Purelib: "purelib", Platlib: "platlib", Headers: "headers", Scripts: "scripts", Data: "data"}

// String returns the key of the scheme in a .data directory.
func (s Scheme) String() string {
	if int(s) < len(schemes) {
		return schemes[s]
	}
	return fmt.Sprintf("scheme %d", uint8(s))
}

func parseScheme(key string) (Scheme, bool) {
	i := slices.Index(schemes[:], key)
	return Scheme(max(i, 0)), i >= 0
}

// MarshalText returns the key of the scheme.
func (s Scheme) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the key of a scheme.
func (s *Scheme) UnmarshalText(b []byte) error {
	v, ok := parseScheme(string(b))
	if !ok {
		return fmt.Errorf("scheme %q, want one of %q", b, schemes)
	}
	*s = v
	return nil
}

// Size returns the number of bytes of all Files.
func (info *Info) Size() int64 {
	var n int64
	for i := range info.Files {
		n += info.Files[i].Size
	}
	return n
}

// Encode returns info as JSON. Equal Infos have equal encodings.
func (info *Info) Encode() []byte {
	b, err := json.Marshal(info)
	if err != nil {
		panic(err) // every field has an encoding
	}
	return b
}

// DecodeInfo reads what Encode returned.
func DecodeInfo(b []byte) (*Info, error) {
	info := new(Info)
	if err := json.Unmarshal(b, info); err != nil {
		return nil, fmt.Errorf("description of a wheel: %w", err)
	}
	return info, nil
}

// warnf adds a warning in its sorted place and drops the last beyond
// MaxWarnings: the order in which they come, which Extract's callers choose,
// makes no difference.
func (info *Info) warnf(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	i, found := slices.BinarySearch(info.Warnings, s)
	if found || i == MaxWarnings {
		return
	}
	info.Warnings = slices.Insert(info.Warnings, i, s)
	info.Warnings = info.Warnings[:min(len(info.Warnings), MaxWarnings)]
}
