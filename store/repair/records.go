package repair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store/verify"
)

// Wheels is told which distributions are damaged and returns what yields, of one of
// them, the wheels that it may have been installed from, by its name and version:
// those that are easily had first. Where neither RECORD nor WHEEL is left nothing
// tells the builds of a version apart, so they are to be the one that an installer
// would choose. The files of each are in the source. After an error there is no
// other.
type Wheels func(ctx context.Context, damaged []*verify.Distribution) func(d *verify.Distribution) iter.Seq2[*wheel.Info, error]

// Options is what [Records] can be told. The zero value is fine.
type Options struct {
	// DiscardChanges replaces edited files too.
	DiscardChanges bool
}

// Records restores in the environment at dir, which pip or uv made, the files of
// the packages in which verify.Records found something missing or changed.
//
// A wheel is used only if it lists what the package's RECORD does. Where no RECORD
// is left its tags must be those in the package's WHEEL, and where that is gone
// too all that is left of the package must be the wheel's; the report says so, and
// RECORD is written anew. A file whose bytes are the first ones of the right ones,
// with nothing or zeros behind, was cut off and is restored; any other difference
// is an edit.
//
// What couldn't be repaired, whole packages too, is in the report. The error says
// that nothing was, or that ctx ended. It wraps [ErrBusy] if another repair is
// under way.
func Records(ctx context.Context, dir string, src Source, found *verify.Result, wheels Wheels, o Options) (*Report, error) {
	all, err := verify.Installed(dir)
	if err != nil {
		return nil, err
	}
	w, err := open(dir)
	if err != nil {
		return nil, err
	}
	r := &rescue{workshop: w, Options: o, ctx: ctx, dir: dir, src: src, wheels: wheels}
	err = r.run(all, found)
	w.report.sort()
	return w.report, errors.Join(err, w.clear(), w.close())
}

// A rescue is the repair of an environment that pip or uv made.
type rescue struct {
	*workshop
	Options
	ctx    context.Context
	dir    string
	src    Source
	wheels Wheels
	heads  []string       // first lines of scripts that run the environment's Python
	uv     bool           // uv made the environment
	owners map[string]int // how many packages list a path
}

func (r *rescue) run(all []*verify.Distribution, found *verify.Result) error {
	r.lookAround()
	r.owners = map[string]int{}
	for _, d := range all {
		for _, p := range d.Paths() {
			r.owners[p]++
		}
	}
	claimed := map[string]bool{}
	var bad []*verify.Distribution
	for _, d := range all {
		if damaged(d, found, claimed) && r.canBeHad(d) {
			bad = append(bad, d)
		}
	}
	wheels := r.wheels(r.ctx, bad)
	for _, d := range bad {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		r.distribution(d, wheels(d))
	}
	for _, p := range found.Missing {
		if !claimed[p] {
			r.report.fail(p, errors.New("no package lists it: make the environment again"))
		}
	}
	if err := r.finish(r.ctx); err != nil {
		return err
	}
	for _, d := range found.Bytecode {
		r.remove(d.Path)
	}
	return nil
}

// damaged reports whether something is wrong with d, and notes in claimed which
// findings are about it.
func damaged(d *verify.Distribution, found *verify.Result, claimed map[string]bool) bool {
	bad := map[string]bool{}
	for _, p := range found.Missing {
		bad[p] = true
	}
	for _, list := range [][]verify.Difference{found.Changed, found.Mode} {
		for _, d := range list {
			bad[d.Path] = true
		}
	}
	any := d.Broken != nil
	for _, p := range d.Paths() {
		for ; p != "."; p = path.Dir(p) { // a directory that is missing stands for all in it
			if bad[p] {
				claimed[p], any = true, true
			}
		}
	}
	return any
}

// lookAround finds out who made the environment and how its scripts begin.
func (r *rescue) lookAround() {
	config, err := readRegular(filepath.Join(r.dir, "pyvenv.cfg"))
	r.uv = err == nil && slices.ContainsFunc(strings.Split(string(config), "\n"), func(line string) bool {
		key, _, _ := strings.Cut(line, "=")
		return strings.TrimSpace(key) == "uv"
	})
	bin := filepath.Join(r.dir, "bin")
	r.heads = r.usualHeads(bin)
	entries, err := os.ReadDir(bin)
	if err != nil {
		return // then there is no script to learn from
	}
	for _, e := range entries {
		if head := headOf(filepath.Join(bin, e.Name())); strings.Contains(head, "/bin/python") && !slices.Contains(r.heads, head) {
			r.heads = append(r.heads, head)
		}
	}
}

// maxShebang is how long a first line, its end included, may be before installers
// take it for one that a kernel cuts off: BINPRM_BUF_SIZE was 128 until Linux 5.1.
const maxShebang = 127

// usualHeads returns what installers begin a script with that runs the Python in
// bin, the one to write where nothing is recorded first: a line, or where a kernel
// can't run that, three lines that sh and Python read each in its own way. There
// uv quotes the path always and pip only if it must.
func (r *rescue) usualHeads(bin string) []string {
	var heads []string
	for _, name := range []string{"python", "python3"} {
		python := bin + "/" + name
		line := "#!" + python
		if len(line) < maxShebang && !strings.ContainsAny(python, " \t") {
			heads = append(heads, line)
			continue
		}
		pip, uv := python, "'"+strings.ReplaceAll(python, "'", `'"'"'`)+"'"
		if strings.Contains(python, " ") {
			pip = `"` + python + `"`
		}
		words := []string{pip, uv}
		if r.uv {
			words = []string{uv, pip}
		}
		for _, word := range words {
			heads = append(heads, trampoline+word+" \"$0\" \"$@\"\n' '''")
		}
		heads = append(heads, line) // pip, for a script that a wheel ships
	}
	return heads
}

// trampoline begins the three lines.
const trampoline = "#!/bin/sh\n'''exec' "

// headOf returns what a script begins with, without the last line's end: its first
// line, or three. It is "" if the file is none.
func headOf(name string) string {
	f, err := openRegular(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	buf := make([]byte, unix.PathMax+len(trampoline)+maxShebang)
	n, err := io.ReadFull(f, buf)
	if notEnd(err) != nil || !bytes.HasPrefix(buf[:n], []byte("#!")) {
		return ""
	}
	lines := bytes.SplitN(buf[:n], []byte("\n"), 4)
	if bytes.HasPrefix(buf[:n], []byte(trampoline)) && len(lines) == 4 {
		return string(bytes.Join(lines[:3], []byte("\n")))
	}
	return string(lines[0])
}

// canBeHad reports whether there is a wheel of the package somewhere: in an index, or
// at the URL that it came from. If not it is not repaired.
func (r *rescue) canBeHad(d *verify.Distribution) bool {
	switch {
	case d.Origin.Editable:
		r.report.fail(d.String(), fmt.Errorf("it is installed from the sources at %s: install it again with -e", d.Origin.URL))
	case d.Origin.URL != "" && !d.Origin.IsWheel():
		r.report.fail(d.String(), fmt.Errorf("it was built from %s: install it again from there", d.Origin.URL))
	default:
		return true
	}
	return false
}

// distribution plans the repair of d with the first of the wheels that is its own.
func (r *rescue) distribution(d *verify.Distribution, wheels iter.Seq2[*wheel.Info, error]) {
	refused := errors.New("no wheel of that version was found")
	for info, err := range wheels {
		if err != nil {
			refused = err
			break
		}
		m := &mending{rescue: r, d: d, info: info}
		if err := m.accept(); err != nil {
			refused = fmt.Errorf("%s is not the wheel that it was installed from: %w", info.Filename, err)
			continue
		}
		if err := m.plan(); err != nil {
			r.report.fail(d.String(), err)
		}
		return
	}
	r.report.fail(d.String(), refused)
}
