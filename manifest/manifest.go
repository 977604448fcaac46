// Package manifest knows what an environment is: [Manifest], the portable
// description, and [Compile], which makes of it the tree that is served on one
// machine.
//
// A compiled tree is equal, byte for byte, to what pip would install, but for a
// short list that the comparison in integration/pip states. The package decides
// every collision, the same way whatever order the wheels come in, and reports
// each. It reads wheels and tables through [Store]; it touches no disk, no
// network and no mount.
package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// A Manifest is what an environment is, without a word about the machine it
// will be on.
type Manifest struct {
	Python Python
	Wheels []Wheel // any order; [Manifest.Encode] sorts them by name

	// Prompt is what activate scripts show; "" is the name of the venv's directory.
	Prompt string `json:",omitempty"`

	// SystemSitePackages adds the base interpreter's packages to sys.path.
	SystemSitePackages bool `json:",omitempty"`

	// Relocatable has scripts find their interpreter beside themselves, so that
	// a copy of the venv may be moved.
	Relocatable bool `json:",omitempty"`

	// Commit is set of a tree that came out of another one with changes that are in
	// no wheel. Compile knows nothing of them.
	Commit *Commit `json:",omitempty"`
}

// Python is the interpreter that an environment is for.
type Python struct {
	Implementation string // "cpython", "pypy"
	Version        string // "3.12"
	CacheTag       string // "cpython-312"
	FreeThreaded   bool   `json:",omitempty"`
}

// PythonOf returns what a manifest says of an interpreter.
func PythonOf(py *interp.Python) Python {
	return Python{
		Implementation: py.Implementation,
		Version:        minorVersion(py),
		CacheTag:       py.CacheTag,
		FreeThreaded:   py.GILDisabled,
	}
}

// String returns what a message says of p.
func (p Python) String() string {
	if p.FreeThreaded {
		return p.Implementation + " " + p.Version + " free-threaded"
	}
	return p.Implementation + " " + p.Version
}

// A Wheel is one distribution of an environment.
type Wheel struct {
	Digest  digest.Digest
	Name    string // canonical
	Version string

	// Requested says that the user asked for the distribution by name: it gets
	// the file REQUESTED.
	Requested bool `json:",omitempty"`

	// DirectURL is the content of direct_url.json (PEP 610), byte for byte, of a
	// distribution that came from a direct reference.
	DirectURL string `json:",omitempty"`
}

// Store is what Compile needs of a store.
type Store interface {
	// Table returns the table of a wheel for a layout; the error is
	// [io/fs.ErrNotExist] where there is none yet.
	tree.Tables

	// Info returns what the store keeps of a wheel, with every file's digest.
	Info(wheel digest.Digest) (*wheel.Info, error)

	// WheelTime returns when the wheel entered the store.
	WheelTime(wheel digest.Digest) (time.Time, error)

	// ReadBlob returns the content of a file of a wheel.
	ReadBlob(d digest.Digest) ([]byte, error)

	// PutTables keeps the tables of several wheels, by wheel, for one layout.
	PutTables(layout string, tables map[digest.Digest][]byte) error
}

// Encode returns the canonical bytes of m: JSON with the wheels sorted by name.
// Manifests that mean the same have the same bytes.
func (m *Manifest) Encode() ([]byte, error) {
	if strings.ContainsAny(m.Prompt, "\n\r\x00") {
		return nil, fmt.Errorf("prompt %q has more than one line", m.Prompt)
	}
	sorted := *m
	var err error
	if sorted.Wheels, err = m.sorted(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&sorted); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return out.Bytes(), nil
}

// sorted returns the wheels by name, each name once.
func (m *Manifest) sorted() ([]Wheel, error) {
	wheels := slices.SortedFunc(slices.Values(m.Wheels), func(a, b Wheel) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(wheels); i++ {
		if a, b := &wheels[i-1], &wheels[i]; a.Name == b.Name {
			return nil, fmt.Errorf("%s is there twice, as %s (sha256 %s) and %s (sha256 %s); an environment holds one", a.Name, a.Version, a.Digest, b.Version, b.Digest)
		}
	}
	return wheels, nil
}

// Decode reads what Encode returned, such as a tree's Meta.
func Decode(b []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	return m, nil
}
