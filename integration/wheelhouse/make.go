package wheelhouse

import (
	"archive/zip"
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/csv"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A Spec says what a made wheel holds.
type Spec struct {
	Name    string
	Version string
	Tag     string // "" means py3-none-any

	// Files are the members beside the dist-info directory, name to content.
	// ".data" members are named whole: "demo-1.0.data/scripts/demo". A name here
	// that Make would write itself (METADATA, WHEEL, entry_points.txt) takes its
	// place.
	Files map[string]string
	// Executable names the files with mode 0755; others have 0644.
	Executable []string

	Console map[string]string // console scripts: name to "module:attribute"
	GUI     map[string]string // gui scripts

	Requires       []string // Requires-Dist
	Extras         []string // Provides-Extra
	RequiresPython string
}

// Filename returns the wheel's file name.
func (s Spec) Filename() string { return s.stem() + "-" + s.tag() + ".whl" }

func (s Spec) tag() string { return cmp.Or(s.Tag, "py3-none-any") }

// stem is the name and version as a wheel spells them.
func (s Spec) stem() string {
	return strings.ReplaceAll(canonical(s.Name), "-", "_") + "-" + s.Version
}

// Make builds a wheel: valid, unless the files of the spec make it otherwise, and
// the same bytes every time. The archive is laid out as build tools do it: no data
// descriptors, the dist-info directory last, RECORD at its end.
func Make(s Spec) ([]byte, error) {
	files := s.members()
	exec := make(map[string]bool)
	for _, name := range s.Executable {
		if _, ok := s.Files[name]; !ok {
			return nil, fmt.Errorf("executable %q is not among the files", name)
		}
		exec[name] = true
	}
	distInfo := s.stem() + ".dist-info/"
	record := distInfo + "RECORD"
	names := slices.Sorted(maps.Keys(files))
	slices.SortStableFunc(names, func(a, b string) int {
		return last(strings.HasPrefix(a, distInfo)) - last(strings.HasPrefix(b, distInfo))
	})
	var archive, rows bytes.Buffer
	z := archiver{zip: zip.NewWriter(&archive)}
	r := csv.NewWriter(&rows)
	for _, name := range names {
		data := []byte(files[name])
		if err := z.add(name, data, exec[name]); err != nil {
			return nil, err
		}
		r.Write([]string{name, "sha256=" + digest.Of(data).Record(), fmt.Sprint(len(data))})
	}
	r.Write([]string{record, "", ""})
	r.Flush()
	if err := z.add(record, rows.Bytes(), false); err != nil {
		return nil, err
	}
	if err := z.zip.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}

// last orders what is to come last after all else.
func last(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// Write makes a wheel and puts it into a directory.
func Write(dir string, s Spec) (Wheel, error) {
	data, err := Make(s)
	if err != nil {
		return Wheel{}, fmt.Errorf("making %s: %w", s.Filename(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, s.Filename()), data, 0o666); err != nil {
		return Wheel{}, err
	}
	return Wheel{Filename: s.Filename(), Digest: digest.Of(data), Size: int64(len(data))}, nil
}

// members returns all members but RECORD.
func (s Spec) members() map[string]string {
	distInfo := s.stem() + ".dist-info/"
	all := map[string]string{
		distInfo + "METADATA": s.metadata(),
		distInfo + "WHEEL":    s.wheel(),
	}
	if e := s.entryPoints(); e != "" {
		all[distInfo+"entry_points.txt"] = e
	}
	maps.Copy(all, s.Files)
	return all
}

func (s Spec) metadata() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Metadata-Version: 2.1\nName: %s\nVersion: %s\n", s.Name, s.Version)
	if s.RequiresPython != "" {
		fmt.Fprintf(&b, "Requires-Python: %s\n", s.RequiresPython)
	}
	for _, r := range s.Requires {
		fmt.Fprintf(&b, "Requires-Dist: %s\n", r)
	}
	for _, e := range s.Extras {
		fmt.Fprintf(&b, "Provides-Extra: %s\n", e)
	}
	return b.String()
}

// wheel writes one Tag line for each tag of a compressed set ("py2.py3-none-any").
func (s Spec) wheel() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Wheel-Version: 1.0\nGenerator: wheelhouse\nRoot-Is-Purelib: %t\n", strings.HasSuffix(s.tag(), "-any"))
	parts := strings.Split(s.tag(), "-")
	if len(parts) != 3 {
		fmt.Fprintf(&b, "Tag: %s\n", s.tag())
		return b.String()
	}
	for _, python := range strings.Split(parts[0], ".") {
		for _, abi := range strings.Split(parts[1], ".") {
			for _, platform := range strings.Split(parts[2], ".") {
				fmt.Fprintf(&b, "Tag: %s-%s-%s\n", python, abi, platform)
			}
		}
	}
	return b.String()
}

func (s Spec) entryPoints() string {
	var b strings.Builder
	for _, group := range []struct {
		name    string
		scripts map[string]string
	}{{"console_scripts", s.Console}, {"gui_scripts", s.GUI}} {
		if len(group.scripts) == 0 {
			continue
		}
		fmt.Fprintf(&b, "[%s]\n", group.name)
		for _, name := range slices.Sorted(maps.Keys(group.scripts)) {
			fmt.Fprintf(&b, "%s = %s\n", name, group.scripts[name])
		}
	}
	return b.String()
}

// An archiver writes members. It keeps its deflater: a new one for each member
// takes most of the time of a wheel of 10,000 small files.
type archiver struct {
	zip      *zip.Writer
	deflater *flate.Writer
}

// deflate returns data compressed.
func (z *archiver) deflate(data []byte) ([]byte, error) {
	var deflated bytes.Buffer
	if z.deflater == nil {
		var err error
		if z.deflater, err = flate.NewWriter(&deflated, flate.DefaultCompression); err != nil {
			return nil, err
		}
	} else {
		z.deflater.Reset(&deflated)
	}
	if _, err := z.deflater.Write(data); err != nil {
		return nil, err
	}
	err := z.deflater.Close()
	return deflated.Bytes(), err
}

// add writes one deflated member. Sizes and CRC stand in the local header:
// zip.Writer by itself would put them into a data descriptor.
func (z *archiver) add(name string, data []byte, exec bool) error {
	deflated, err := z.deflate(data)
	if err != nil {
		return err
	}
	h := &zip.FileHeader{
		Name:               name,
		Method:             zip.Deflate,
		CRC32:              crc32.ChecksumIEEE(data),
		CompressedSize64:   uint64(len(deflated)),
		UncompressedSize64: uint64(len(data)),
		ReaderVersion:      20,
	}
	//lint:ignore SA1019 CreateRaw writes this field and not Modified.
	h.ModifiedDate = 1<<5 | 1 // 1980-01-01, where the format's time begins
	const utf8Name = 0x800    // bit 11, APPNOTE appendix D
	if !isASCII(name) {
		h.Flags = utf8Name
	}
	h.SetMode(0o644)
	if exec {
		h.SetMode(0o755)
	}
	w, err := z.zip.CreateRaw(h)
	if err != nil {
		return err
	}
	_, err = w.Write(deflated)
	return err
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= 0x80 })
}
