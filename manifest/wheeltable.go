package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// installer is the content of INSTALLER.
const installer = "sitefs\n"

// wheelMeta is what a wheel's table says of the wheel, so that compiling a tree
// over known wheels reads nothing else of them.
type wheelMeta struct {
	Name         string
	Version      string
	DistInfo     string   // path in the environment
	RequiresDist []string `json:",omitempty"`
}

// tableBuilder collects the nodes of one wheel.
type tableBuilder struct {
	*tree.Builder
	venv   *venv
	record record
	placed map[string]digest.Digest
}

// wheelTable returns the table of a wheel for v: everything that installing it
// puts into the environment, INSTALLER and RECORD included. Created is when the
// wheel entered the store, in Unix seconds.
func wheelTable(info *wheel.Info, v *venv, created int64, readBlob func(digest.Digest) ([]byte, error)) ([]byte, error) {
	meta := wheelMeta{Name: info.Name, Version: info.Version, DistInfo: v.site + "/" + info.DistInfo, RequiresDist: info.RequiresDist}
	b := &tableBuilder{
		Builder: tree.NewBuilder(v.layout()),
		venv:    v,
		record:  record{site: v.site},
		placed:  make(map[string]digest.Digest, len(info.Files)),
	}
	for i := range info.Files {
		if err := b.file(info.Name, &info.Files[i], readBlob); err != nil {
			return nil, err
		}
	}
	for _, e := range v.scripts(info.EntryPoints) {
		p := bin + "/" + e.Name
		if err := b.Template(p, true, v.script(e)); err != nil {
			return nil, fmt.Errorf("entry point %q: %w", e.Name, err)
		}
		b.record.addUnhashed(p)
	}
	if err := b.own(meta.DistInfo+"/INSTALLER", []byte(installer)); err != nil {
		return nil, err
	}
	b.record.addUnhashed(meta.DistInfo + "/RECORD")
	if err := b.Inline(meta.DistInfo+"/RECORD", false, b.record.bytes()); err != nil {
		return nil, err
	}
	var err error
	if b.Meta, err = json.Marshal(meta); err != nil {
		return nil, err
	}
	return b.Build(created)
}

// file adds a file of the wheel.
func (b *tableBuilder) file(name string, f *wheel.File, readBlob func(digest.Digest) ([]byte, error)) error {
	p := b.venv.path(name, f)
	if f.Digest.IsZero() {
		return fmt.Errorf("file %q has no digest", p)
	}
	if d, ok := b.placed[p]; ok && d == f.Digest {
		return nil // two schemes of the wheel lead to one place, with one content
	}
	b.placed[p] = f.Digest
	if f.Python {
		content, err := readBlob(f.Digest)
		if err != nil {
			return fmt.Errorf("script %q: %w", p, err)
		}
		b.record.addUnhashed(p)
		return b.Template(p, true, shippedScript(content))
	}
	b.record.add(p, f.Digest, f.Size)
	err := b.File(p, f.Exec, f.Size, f.Digest)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("file %q is there twice, with two contents", p)
	case errors.Is(err, tree.ErrNotDir):
		return fmt.Errorf("%w: another file of the wheel takes the place of a directory", err)
	}
	return err
}

// own adds a file that the installer writes.
func (b *tableBuilder) own(p string, content []byte) error {
	b.record.add(p, digest.Of(content), int64(len(content)))
	return b.Inline(p, false, content)
}

// path returns where a file of the distribution name goes.
func (v *venv) path(name string, f *wheel.File) string {
	switch f.Scheme {
	case wheel.Purelib, wheel.Platlib:
		return v.site + "/" + f.Path
	case wheel.Headers:
		return v.headers + "/" + name + "/" + f.Path
	case wheel.Scripts:
		return bin + "/" + f.Path
	}
	return f.Path
}
