// Package posix holds a file system to what Linux programs count on: every call
// that changes or reads files, with every error that it is defined to have.
//
// A [Case] is one such rule, small and named. It runs in a folder of its own that
// holds a few files to start from, and where those come from is told by an
// [Origin]: an overlay has to treat what lies in its lower layer like what was
// made a moment ago. [Place.Try] runs a case and returns what it complains about;
// it fails no test itself, so that a test can also ask whether a case is able to
// fail.
//
// A case runs on a thread of its own, as the user that the place is for. The rules
// are those that ext4 keeps (there all cases pass); what a place may do
// differently, it says in a field of [Place]. [Exercise] is the same for the bytes
// of one file, by chance.
package posix

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// A Case is one rule, and how it is tried.
type Case struct {
	Name string // GROUP/WHAT, unlike every other
	Who  Who    // whom it is about
	New  bool   // it starts from nothing, so an origin makes no difference
	Try  func(*C)

	Large bool // it is many thousand calls: once may be enough
}

// Who says as whom a case can be tried.
type Who int

const (
	Anybody  Who = iota
	Ordinary     // somebody whom a mode can keep out
	Root         // root in a place that other users can reach: see [C.as]
)

// An Origin says where the files come from that a case starts with.
type Origin string

const (
	Made     Origin = "made"      // by the test, a moment ago
	Lower    Origin = "lower"     // the lower layer's, never touched
	CopiedUp Origin = "copied-up" // the lower layer's, each changed once
	Renamed  Origin = "renamed"   // the lower layer's, by another name there
)

// Origins are those that a place with a lower layer has.
func Origins() []Origin { return []Origin{Made, Lower, CopiedUp, Renamed} }

// A Place is a directory to try cases in, on the file system that they are about.
type Place struct {
	Dir      string // everything is made beneath it; the user may write there
	UID, GID int    // whose thread tries the cases

	// LowerDir holds a folder for each case and each origin but Made, filled with
	// what [Fixture] says. Its file system shows them as a lower layer's.
	LowerDir string

	Others    bool // users other than the mount's can reach it
	NoDevices bool // device files are refused with EPERM
	NoACL     bool // access control lists are refused with EOPNOTSUPP
	NoTrusted bool // so are attributes in trusted.

	// Outside is a folder on another file system, for what has to fail then.
	Outside string
}

// text is what the fixture's files begin with.
const text = "The quick brown fox jumps over the lazy dog.\n"

// big is the content of the largest file of the fixture: three pages and a bit,
// no two alike.
var big = func() string {
	var b strings.Builder
	for i := 0; b.Len() < 3*4096+57; i++ {
		fmt.Fprintf(&b, "%d ", i)
	}
	return b.String()[:3*4096+57]
}()

// Fixture returns the files that a case finds in its folder, with their contents.
// They have mode 0644, and their folders 0755.
func Fixture() map[string]string {
	return map[string]string{
		"file":         text,
		"other":        "other " + text,
		"big":          big,
		"dir/inner":    "inner " + text,
		"dir/sub/deep": "deep " + text,
		"full/one":     "1",
		"full/two":     "2",
	}
}

// Folder is where in its LowerDir a place has the files of a case and an origin.
// They are renamed into it from a folder beside it for Renamed.
func (k Case) Folder(o Origin) string {
	name := strings.NewReplacer("/", "-", " ", "-").Replace(k.Name)
	return string(o) + "/" + name
}

// before is what Folder is called until it is renamed.
func before(folder string) string { return folder + ".before" }

// LowerFiles returns what a LowerDir has to hold for some cases.
func LowerFiles(cases []Case) map[string]string {
	files := make(map[string]string)
	for _, k := range cases {
		for _, o := range Origins() {
			if k.New || o == Made {
				continue
			}
			folder := k.Folder(o)
			for name, content := range Fixture() {
				if o == Renamed {
					folder = before(k.Folder(o))
					// The files are renamed as well, not only the folder they are in.
					name += ".before"
				}
				files[filepath.Join(folder, name)] = content
			}
		}
	}
	return files
}

// For reports whether a case can be tried in a place with files of an origin.
func (p Place) For(k Case, o Origin) bool {
	switch {
	case o != Made && (k.New || p.LowerDir == ""):
		return false
	case k.Who == Ordinary:
		return p.UID != 0
	case k.Who == Root:
		return p.UID == 0 && p.Others
	}
	return true
}

// Try tries a case and returns what it complains about, each with its line.
func (p Place) Try(k Case, o Origin) []string {
	c := &C{Place: p, Origin: o}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread's user and umask become its own, so it ends with the goroutine.
		runtime.LockOSThread()
		defer c.end()
		if err := own(p.UID, p.GID); err != nil {
			c.errorf("becoming user %d: %v", p.UID, err)
			return
		}
		if err := c.prepare(k); err != nil {
			c.errorf("making the files to start from: %v", err)
			return
		}
		k.Try(c)
	}()
	<-done
	return c.said
}

// A C is what a case is given.
type C struct {
	Place
	Origin Origin
	dir    string // the case's folder, absolute
	said   []string
	undo   []func()
}

// prepare makes the folder of a case.
func (c *C) prepare(k Case) (err error) {
	if c.Origin == Made || k.New {
		c.dir, err = os.MkdirTemp(c.Place.Dir, strings.ReplaceAll(filepath.Base(k.Name), " ", "-")+"-")
		if err == nil {
			err = os.Chmod(c.dir, 0o755) // others may look
		}
		if err != nil || k.New {
			return err
		}
		return writeFiles(c.dir, Fixture())
	}
	c.dir = filepath.Join(c.LowerDir, k.Folder(c.Origin))
	switch c.Origin {
	case CopiedUp:
		return touchAll(c.dir)
	case Renamed:
		return renameAll(c.dir)
	}
	return nil
}

// writeFiles makes files, and the folders they are in.
func writeFiles(dir string, files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// touchAll changes each file and folder of a case once, and changes it back.
func touchAll(dir string) error {
	for name, content := range Fixture() {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content+"more"), 0o644); err != nil {
			return err
		}
		if err := os.Truncate(path, int64(len(content))); err != nil {
			return err
		}
		if err := os.WriteFile(path+".new", nil, 0o644); err != nil {
			return err
		}
		if err := os.Remove(path + ".new"); err != nil {
			return err
		}
	}
	return nil
}

// renameAll gives the files of a case and their folder their names.
func renameAll(dir string) error {
	if err := os.Rename(before(dir), dir); err != nil {
		return err
	}
	for name := range Fixture() {
		path := filepath.Join(dir, name)
		if err := os.Rename(path+".before", path); err != nil {
			return err
		}
	}
	return nil
}

// cleanup has f called when the case ends, the last one first.
func (c *C) cleanup(f func()) { c.undo = append(c.undo, f) }

func (c *C) end() {
	for _, f := range slices.Backward(c.undo) {
		f()
	}
}

// path returns the absolute path of a name in the case's folder.
func (c *C) path(name string) string {
	if name == "" {
		return c.dir
	}
	return c.dir + "/" + name // as it is: a trailing slash has a meaning
}

// errorf complains, with the line of the case.
func (c *C) errorf(format string, args ...any) {
	c.said = append(c.said, c.line()+fmt.Sprintf(format, args...))
}

// fatalf complains and ends the case.
func (c *C) fatalf(format string, args ...any) {
	c.errorf(format, args...)
	runtime.Goexit()
}

// line returns the innermost line of a case that leads here.
func (c *C) line() string {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		frame, more := frames.Next()
		// Cases are literals of package variables; what they call are methods.
		if strings.Contains(frame.Function, ".init.") || strings.Contains(frame.Function, ".glob.") {
			return fmt.Sprintf("%s:%d: ", filepath.Base(frame.File), frame.Line)
		}
		if !more {
			return ""
		}
	}
}

// Cases returns all of them.
func Cases() []Case {
	return slices.Concat(
		opening, temporary, directories, unlinking, linking, symlinking, nodes,
		renaming, modes, owners, times, truncating, allocating, copying, seeking,
		attributes, contents, mapping, locking, watching, listing, names, identity,
		syncing, addresses,
	)
}
