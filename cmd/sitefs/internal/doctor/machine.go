package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/confine"
	"github.com/sitefs/sitefs/store/materialize"
)

// A Machine is what checks look at, several at a time. New fills it with this one; a
// test puts in what it wants to be found.
type Machine struct {
	OS      string // as runtime.GOOS has it
	Version string // of sitefs
	Kernel  string // name, release and version, as uname(1) has them

	UID              int
	Home, User, Host string
	RealHome         string // without symbolic links

	Dir   string // where environments are to be, absolute; it need not be there
	Store string

	Files  fs.FS // everything from / on
	Getenv func(name string) string
	Now    func() time.Time

	LookPath func(program string) (string, error)
	Output   func(ctx context.Context, program string, args ...string) (string, error)
	Xattr    func(path, name string) (string, error)

	OpenDevice func() error // /dev/fuse
	Mount      func(rung string) (mount.Kernel, error)
	Namespace  func(ctx context.Context) error
	Confined   func() []string
	Mounts     func(ctx context.Context) ([]mount.Status, error)
	Log        func(dir string) (string, error) // of the mount at dir

	OpenStore func() error
	Links     func(store, dir string) (*materialize.Finding, error)
	Names     func(dir string) (Names, error)
	Space     func(dir string) (Space, error)
	MaxFiles  func() (uint64, error)

	Python func(ctx context.Context) (*interp.Python, error)
}

// Space is what a file system has left for this user.
type Space struct {
	Bytes uint64

	// Files is how many can be made, of TotalFiles; that is 0 where there is no
	// such limit.
	Files, TotalFiles uint64
}

// New returns this machine, for a sitefs of some version and environments in dir.
func New(version, dir string) (*Machine, error) {
	m := &Machine{
		OS:         runtime.GOOS,
		Version:    version,
		UID:        os.Getuid(),
		Files:      os.DirFS("/"),
		Getenv:     os.Getenv,
		Now:        time.Now,
		LookPath:   exec.LookPath,
		Output:     output,
		Xattr:      xattr,
		OpenDevice: openDevice,
		Mount:      tryMount,
		Namespace:  session.ProbeNamespace,
		Confined:   confined,
		Mounts:     mount.List,
		Log:        readLog,
		Links:      materialize.Probe,
		Names:      tryNames,
		Space:      spaceOf,
		MaxFiles:   maxFiles,
	}
	var err error
	if m.Dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if m.Store, err = store.DefaultDir(); err != nil {
		return nil, err
	}
	m.OpenStore = sync.OnceValue(func() error { return openStore(m.Store) })
	m.Python = func(ctx context.Context) (*interp.Python, error) {
		return interp.Find(ctx, interp.Request{Dir: m.existing(m.Dir)}, nil)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, os.NewSyscallError("uname", err)
	}
	m.Kernel = strings.Join([]string{unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:])}, " ")
	m.Host = unix.ByteSliceToString(u.Nodename[:])
	m.Home = os.Getenv("HOME")
	m.User = os.Getenv("USER")
	if known, err := user.Current(); err == nil { // without an entry in passwd(5) the environment has to do
		m.User = known.Username
		if m.Home == "" {
			m.Home = known.HomeDir
		}
	}
	if m.RealHome, err = filepath.EvalSymlinks(m.Home); err != nil {
		m.RealHome = m.Home // not there: nothing is in it
	}
	return m, nil
}

// read returns a file, "" where it can't be read.
func (m *Machine) read(path string) string {
	b, err := fs.ReadFile(m.Files, relative(path))
	if err != nil {
		return ""
	}
	return string(b)
}

func (m *Machine) stat(path string) (fs.FileInfo, error) { return fs.Stat(m.Files, relative(path)) }

// exists reports whether there is a file of that path.
func (m *Machine) exists(path string) bool {
	_, err := m.stat(path)
	return err == nil
}

// relative returns an absolute path as fs.FS has it.
func relative(path string) string {
	if path == "/" {
		return "."
	}
	return strings.TrimPrefix(filepath.Clean(path), "/")
}

// existing returns the folder in which something is made for dir: dir, or the nearest
// folder above it that is there and is no environment, which is made beside its place.
func (m *Machine) existing(dir string) string {
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if fi, err := m.stat(dir); err == nil && fi.IsDir() && !m.exists(filepath.Join(dir, "pyvenv.cfg")) {
			break
		}
	}
	return dir
}

// output runs a program and returns the first line of what it prints.
func output(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, outputTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return line, err
}

// outputTimeout is for programs that print their version; uv does in 20 ms, and a
// pyenv shim of pip in a second.
const outputTimeout = 20 * time.Second

func xattr(path, name string) (string, error) {
	value := make([]byte, 1024)
	n, err := unix.Getxattr(path, name, value)
	if err != nil {
		return "", err
	}
	return string(value[:n]), nil
}

// openDevice opens the device and closes it.
func openDevice() error {
	f, err := os.OpenFile(fuseDevice, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// tryMount mounts on a folder of its own.
func tryMount(rung string) (_ mount.Kernel, err error) {
	dir, err := os.MkdirTemp("", "sitefs-doctor-")
	if err != nil {
		return mount.Kernel{}, err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	return mount.Probe(dir, rung)
}

// confined returns what would hold back a worker of this machine.
func confined() []string {
	held := make(chan []string, 1)
	confine.Go(confine.Rules{Read: []string{"/"}}, func(h []string) { held <- h })
	return <-held
}

// readLog returns the log of the mount at dir. Package mount says where it is.
func readLog(dir string) (string, error) {
	state, err := mount.StateDir(dir)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(state, "log"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// openStore finds out whether the store in dir can be used, and written to. One that
// is to be made in an empty directory is a fs.ErrNotExist too.
func openStore(dir string) error {
	s, err := store.Open(dir, store.Options{Existing: true})
	if errors.Is(err, store.ErrFormat) {
		if entries, rerr := os.ReadDir(dir); rerr == nil && len(entries) == 0 {
			return fs.ErrNotExist
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return errors.Join(fmt.Errorf("%w: %q: %w", store.ErrReadOnly, dir, err), s.Close())
	}
	return s.Close()
}

func spaceOf(dir string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return Space{Bytes: st.Bavail * uint64(st.Bsize), Files: st.Ffree, TotalFiles: st.Files}, nil
}

// maxFiles returns how many files a process may have open.
func maxFiles() (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	return limit.Cur, nil
}

// readDir returns the names in a folder.
func readDir(files fs.FS, dir string) ([]string, error) {
	entries, err := fs.ReadDir(files, relative(dir))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}
