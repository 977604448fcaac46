package repair

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store/verify"
)

// A mending is the repair of one distribution with the files of a wheel.
type mending struct {
	*rescue
	d    *verify.Distribution
	info *wheel.Info

	rows map[string]wheel.RecordRow // of RECORD, by path in the environment
	anew bool                       // RECORD has to be written
}

// written are the files of a dist-info folder that are the installer's own, so no
// wheel lists them.
var written = []string{"INSTALLER", "REQUESTED", "direct_url.json", "RECORD", "RECORD.jws", "RECORD.p7s", "uv_cache.json", "uv_build.json"}

// place returns where a file of the wheel is in the environment.
func (m *mending) place(f *wheel.File) string {
	python := path.Base(path.Dir(m.d.Site)) // python3.12
	switch f.Scheme {
	case wheel.Headers:
		return path.Join("include/site", python, m.info.Name, f.Path)
	case wheel.Scripts:
		return path.Join("bin", f.Path)
	case wheel.Data:
		return f.Path
	}
	return path.Join(m.d.Site, f.Path)
}

// accept says why the wheel can't be the one that d was installed from.
func (m *mending) accept() error {
	m.rows = map[string]wheel.RecordRow{}
	for _, row := range m.d.Rows {
		if p, ok := m.d.Path(row.Path); ok {
			m.rows[p] = row
		}
	}
	if m.d.Broken == nil {
		m.anew = !m.d.Finished
		return m.compareRecord()
	}
	m.anew = true
	what := fmt.Sprintf("%v, so %s was taken", m.d.Broken, m.info.Filename)
	if m.d.Tags != nil {
		if err := m.compareTags(); err != nil {
			return err
		}
		m.note(what + " by its tags, which are those that WHEEL has; RECORD is written anew")
		return nil
	}
	left, err := m.compareLeft()
	switch {
	case err != nil:
		return err
	case left > 0:
		m.note(what + " because all that is left of the package is in it; RECORD is written anew")
	default:
		m.note(what + " for its name and version, which is all that is left of the package; RECORD is written anew")
	}
	return nil
}

func (m *mending) note(text string) {
	m.report.Notes = append(m.report.Notes, Reason{m.d.String(), text})
}

// compareRecord holds the wheel's files to the rows, and the rows to the files.
func (m *mending) compareRecord() error {
	ours := make(map[string]bool, len(m.info.Files))
	for i := range m.info.Files {
		f := &m.info.Files[i]
		p := m.place(f)
		ours[p] = true
		row, ok := m.rows[p]
		if !ok {
			return fmt.Errorf("RECORD doesn't list %q", p)
		}
		if !f.Python && sum(row) != f.Digest {
			return fmt.Errorf("RECORD lists another %q", p)
		}
	}
	for p := range m.rows {
		if !ours[p] && !m.isInstallers(p) {
			return fmt.Errorf("RECORD lists %q, which is not in it", p)
		}
	}
	return nil
}

// isInstallers reports whether the installer, or Python, made the file at p.
func (m *mending) isInstallers(p string) bool {
	dir, name := path.Split(p)
	switch dir = path.Clean(dir); {
	case dir == m.d.Info:
		return slices.Contains(written, name)
	case dir == "bin":
		_, ok := m.entryPoint(name)
		return ok
	}
	return path.Base(dir) == "__pycache__"
}

// compareTags holds the wheel's tags to those in WHEEL.
func (m *mending) compareTags() error {
	got, want := slices.Sorted(slices.Values(m.info.Tags)), slices.Sorted(slices.Values(m.d.Tags))
	if !slices.Equal(got, want) {
		return fmt.Errorf("its tags are %s, WHEEL says %s", strings.Join(got, " "), strings.Join(want, " "))
	}
	return nil
}

// compareLeft holds what is left of the package to the wheel's files, and returns
// how many of them there are.
func (m *mending) compareLeft() (left int, err error) {
	for i := range m.info.Files {
		f := &m.info.Files[i]
		if f.Python {
			continue // no environment has it as the wheel does
		}
		p := m.place(f)
		state, err := m.look(p, f)
		switch {
		case err != nil:
			return 0, err
		case state == edited:
			return 0, fmt.Errorf("%q is another", p)
		case state == same:
			left++
		}
	}
	return left, nil
}

// A state is what is at the path of a file that a wheel has.
type state uint8

const (
	absent state = iota
	same
	cutOff // the first bytes are there, and nothing or zeros behind them
	edited
)

// look compares what is at p with a file of the wheel.
func (m *mending) look(p string, f *wheel.File) (state, error) {
	there, err := openRegular(filepath.Join(m.dir, filepath.FromSlash(p)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absent, nil
	case errors.Is(err, errSpecial):
		return edited, nil
	case errors.Is(err, unix.ENOTDIR):
		return edited, m.blocked(path.Dir(p))
	case err != nil:
		return edited, err
	}
	defer there.Close()
	fd, err := m.src.OpenBlob(f.Digest)
	if err != nil {
		return edited, err
	}
	blob := os.NewFile(uintptr(fd), f.Digest.String())
	defer blob.Close()
	return compare(there, blob)
}

// errSpecial is returned for what is no regular file.
var errSpecial = errors.New("not a regular file")

// openRegular opens a regular file, or one that a symlink leads to: those of
// environments may lead into a cache. A pipe would be waited for.
func openRegular(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errSpecial
	}
	return os.Open(name)
}

// maxText is more than installers write into any file of their own.
const maxText = 16 << 20

// readRegular returns the bytes of a regular file that installers write.
func readRegular(name string) ([]byte, error) {
	f, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err == nil && len(b) > maxText {
		err = fmt.Errorf("%q has more than %d bytes", name, maxText)
	}
	return b, err
}

// compare compares what is there with what should be.
func compare(there, right io.Reader) (state, error) {
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	off := false // they differed, and zeros followed
	for {
		n, err := io.ReadFull(there, a)
		k, rightErr := io.ReadFull(right, b)
		if err := errors.Join(notEnd(err), notEnd(rightErr)); err != nil {
			return edited, err
		}
		if n > k {
			return edited, nil
		}
		i := 0
		for !off && i < n && a[i] == b[i] {
			i++
		}
		if off = off || i < n; off && len(bytes.Trim(a[i:n], "\x00")) > 0 {
			return edited, nil
		}
		switch {
		case n == k && n == len(a):
			continue
		case n == k && !off:
			return same, nil
		}
		return cutOff, nil
	}
}

// notEnd returns err unless it says that a file has ended.
func notEnd(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

// plan decides what is done about each file.
func (m *mending) plan() error {
	for i := range m.info.Files {
		f := &m.info.Files[i]
		p := m.place(f)
		mode := fs.FileMode(0o644)
		if f.Exec {
			mode = 0o755
		}
		if f.Python {
			text, err := m.read(f)
			if err != nil {
				return err
			}
			_, rest, _ := strings.Cut(text, "\n")
			m.script(p, m.eachHead("\n"+rest))
			continue
		}
		state, err := m.look(p, f)
		if err != nil {
			return err
		}
		if state == edited && m.owners[p] > 1 {
			continue // another package's, which was installed later
		}
		m.decide(p, state, mode, func(out *os.File) error { return copyBlob(out, m.src, f.Digest, f.Size) })
	}
	m.entryPoints()
	m.own()
	if m.anew {
		m.record()
	}
	return nil
}

// read returns the bytes of a file of the wheel.
func (m *mending) read(f *wheel.File) (string, error) {
	fd, err := m.src.OpenBlob(f.Digest)
	if err != nil {
		return "", err
	}
	in := os.NewFile(uintptr(fd), f.Digest.String())
	defer in.Close()
	b, err := io.ReadAll(in)
	return string(b), err
}

// decide plans to write the file at p, or to leave it.
func (m *mending) decide(p string, s state, mode fs.FileMode, write func(*os.File) error) {
	switch {
	case s == same:
		m.makeExecutable(p, mode)
		return
	case s == edited && !m.DiscardChanges:
		m.report.Kept = append(m.report.Kept, p)
		return
	}
	m.files = append(m.files, &file{path: p, mode: mode, write: write})
}

// makeExecutable gives a file that should be executable that mode if it isn't.
func (m *mending) makeExecutable(p string, mode fs.FileMode) {
	info, err := m.root.Stat(p)
	if err != nil || mode&0o100 == 0 || info.Mode()&0o100 != 0 || path.Dir(p) != "bin" {
		return
	}
	if err := m.root.Chmod(p, mode); err != nil {
		m.report.fail(p, err)
		return
	}
	m.report.Restored = append(m.report.Restored, p)
}
