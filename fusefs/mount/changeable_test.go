package mount_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// A changeable serves the files of a folder, which may be made and written to
// through the mount. All that a successor must know is in the folder.
type changeable struct {
	fuse.RawFileSystem
	dir      string
	notify   *mount.Notifier
	progress func()
	patience time.Duration // with a worker that hangs
}

// forgetName is a file of which a write has the kernel forget what it knows.
const forgetName = "forget"

// askName is a file to which the number of a node is written; the folder's name with
// askName at its end is the file that then tells whether the kernel knows it.
const askName = "ask"

// stuckName is a file that is made while the kernel is told to forget something in
// its folder; by the first worker that is to make it, never.
const stuckName = "stuck"

// longName is a file that takes longer to be made than anybody is patient, and gets on.
const longName = "long"

// attr fills in the attributes of a file.
func (c changeable) attr(name string, out *fuse.Attr) fuse.Status {
	var st syscall.Stat_t
	if err := syscall.Lstat(filepath.Join(c.dir, name), &st); err != nil {
		return fuse.ToStatus(err)
	}
	out.FromStat(&st)
	if name == "." {
		out.Ino = fuse.FUSE_ROOT_ID
	}
	return fuse.OK
}

// name returns the file that a node stands for.
func (c changeable) name(node uint64) (string, fuse.Status) {
	if node == fuse.FUSE_ROOT_ID {
		return ".", fuse.OK
	}
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return "", fuse.ToStatus(err)
	}
	for _, e := range list {
		var st syscall.Stat_t
		if syscall.Lstat(filepath.Join(c.dir, e.Name()), &st) == nil && st.Ino == node {
			return e.Name(), fuse.OK
		}
	}
	return "", fuse.ENOENT
}

// open opens the file that a node stands for.
func (c changeable) open(node uint64) (*os.File, fuse.Status) {
	name, status := c.name(node)
	if !status.Ok() {
		return nil, status
	}
	f, err := os.OpenFile(filepath.Join(c.dir, name), os.O_RDWR, 0)
	return f, fuse.ToStatus(err)
}

func (c changeable) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	out.EntryValid, out.AttrValid = math.MaxInt32, math.MaxInt32
	status := c.attr(name, &out.Attr)
	if status == fuse.ENOENT {
		return fuse.OK // a name that the kernel remembers to be free
	}
	out.NodeId = out.Attr.Ino
	return status
}

func (c changeable) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.AttrValid = math.MaxInt32
	name, status := c.name(in.NodeId)
	if !status.Ok() {
		return status
	}
	return c.attr(name, &out.Attr)
}

func (c changeable) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	f, status := c.open(in.NodeId)
	if !status.Ok() {
		return status
	}
	defer f.Close()
	if size, ok := in.GetSize(); ok {
		if err := f.Truncate(int64(size)); err != nil {
			return fuse.ToStatus(err)
		}
	}
	return c.attr(filepath.Base(f.Name()), &out.Attr)
}

func (c changeable) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if name == stuckName && os.Mkdir(c.dir+".stuck", 0o700) == nil {
		// The kernel forgets when this is answered, which it never is.
		go c.notify.Entry(fuse.FUSE_ROOT_ID, "any")
		select {}
	}
	if name == longName {
		tick := time.NewTicker(c.patience / 20)
		defer tick.Stop()
		for range 60 {
			<-tick.C
			c.progress()
		}
	}
	// It may have been made by a worker that did not live to say so.
	err := os.WriteFile(filepath.Join(c.dir, name), nil, os.FileMode(in.Mode).Perm())
	if err != nil {
		return fuse.ToStatus(err)
	}
	return c.Lookup(cancel, &in.InHeader, name, &out.EntryOut)
}

func (c changeable) Read(_ <-chan struct{}, in *fuse.ReadIn, b []byte) (fuse.ReadResult, fuse.Status) {
	f, status := c.open(in.NodeId)
	if !status.Ok() {
		return nil, status
	}
	defer f.Close()
	n, err := f.ReadAt(b, int64(in.Offset))
	if n == 0 && err != nil && !strings.Contains(err.Error(), "EOF") {
		return nil, fuse.ToStatus(err)
	}
	return fuse.ReadResultData(b[:n]), fuse.OK
}

func (c changeable) Write(_ <-chan struct{}, in *fuse.WriteIn, b []byte) (uint32, fuse.Status) {
	f, status := c.open(in.NodeId)
	if !status.Ok() {
		return 0, status
	}
	defer f.Close()
	if filepath.Base(f.Name()) == forgetName {
		go c.forget(string(bytes.TrimSpace(b)))
	}
	if filepath.Base(f.Name()) == askName {
		go c.ask(string(b))
	}
	n, err := f.WriteAt(b, int64(in.Offset))
	return uint32(n), fuse.ToStatus(err)
}

// forget has the kernel forget a name and what it stands for.
func (c changeable) forget(name string) {
	var a fuse.Attr
	if status := c.attr(name, &a); !status.Ok() {
		fmt.Fprintln(os.Stderr, name, status)
	}
	if err := errors.Join(c.notify.Inode(a.Ino), c.notify.Entry(fuse.FUSE_ROOT_ID, name)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// ask tells whether the kernel knows a node.
func (c changeable) ask(number string) {
	node, err := strconv.ParseUint(number, 10, 64)
	known := false
	if err == nil {
		known, err = c.notify.Known(node)
	}
	if err = errors.Join(err, os.WriteFile(c.dir+askName, fmt.Appendf(nil, "%s %t", number, known), 0o600)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (c changeable) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return fuse.OK
}

func (c changeable) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

func (c changeable) GetXAttr(_ <-chan struct{}, _ *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	const value = "value"
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

// dieOnce is the reason of a worker that is killed when it is its turn.
const dieOnce = "die once"

// newChangeable returns what a worker of a test with an Upper serves, once it has the
// folder for itself.
func newChangeable(c serverConfig, s mount.Session) (mount.Worker, error) {
	if err := s.Turn(); err != nil {
		return mount.Worker{}, err
	}
	if reason, err := os.ReadFile(c.RefuseTurn); err == nil {
		if string(reason) == dieOnce {
			os.Remove(c.RefuseTurn)
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return mount.Worker{}, errors.New(string(reason))
	}
	if len(s.Files) != 1 || !sameFile(c.Lock, int(s.Files[0].Fd())) {
		return mount.Worker{}, fmt.Errorf("the mount's files are %v, want %q", s.Files, c.Lock)
	}
	// Held until the process ends.
	alone, err := os.OpenFile(c.Lock+".worker", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return mount.Worker{}, err
	}
	if err := unix.Flock(int(alone.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return mount.Worker{}, fmt.Errorf("another worker has its turn: %w", err)
	}
	return mount.Worker{FS: &held{changeable{fuse.NewDefaultRawFileSystem(), c.Upper, s.Notify, s.Progress, c.Patience}, alone}}, nil
}

// held keeps a file open.
type held struct {
	changeable
	file *os.File
}

// sameFile reports whether a descriptor is the file path.
func sameFile(path string, fd int) bool {
	var open, named unix.Stat_t
	return unix.Fstat(fd, &open) == nil && unix.Stat(path, &named) == nil && open.Ino == named.Ino && open.Dev == named.Dev
}

// lockFiles returns what [mount.Config.Files] is in a test with a Lock.
func lockFiles(path string) ([]*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%q is locked: %w", path, errors.Join(err, f.Close()))
	}
	return []*os.File{f}, nil
}

// write writes blocks of a mebibyte to a file over and over until the file STOP is
// there. The argument is PATH:STOP. At the end all blocks are as they should be.
func write(arg string) error {
	path, stop, _ := strings.Cut(arg, ":")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		for i := range byte(4) {
			if _, err := f.WriteAt(bytes.Repeat([]byte{'a' + i}, 1<<20), int64(i)<<20); err != nil {
				return err
			}
		}
		if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
			return err
		}
		if _, err := os.Lstat(stop); err == nil {
			return f.Sync()
		}
	}
}
