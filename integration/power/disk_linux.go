package power

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A Disk is a loop device whose content is an image and which notes what it is
// told.
type Disk struct {
	file   *file
	server *fuse.Server
	loop   *os.File
}

// Attach makes a disk of a copy of an image. dir is an empty directory, which is a
// mount point until the disk is closed.
func Attach(dir string, content *Image) (*Disk, error) {
	f := &file{RawFileSystem: fuse.NewDefaultRawFileSystem(), image: content.Clone(), log: Log{base: content.Clone()}}
	server, err := fuse.NewServer(f, dir, &fuse.MountOptions{
		FsName:            "disk",
		Name:              "sitefs-power",
		DirectMountStrict: true,
		MaxWrite:          1 << 20, // the most that FUSE has: a write of the device is then one event
		DisableXAttrs:     true,
		// Requests are answered in the order in which they come: what stands before a
		// barrier in the log was answered before it.
		SingleThreaded: true,
	})
	if err != nil {
		return nil, err
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return nil, errors.Join(err, server.Unmount())
	}
	loop, err := attachLoop(filepath.Join(dir, fileName))
	if err != nil {
		return nil, errors.Join(err, server.Unmount())
	}
	return &Disk{f, server, loop}, nil
}

// Device returns the path of the block device.
func (d *Disk) Device() string { return d.loop.Name() }

// Now returns the number of events so far.
func (d *Disk) Now() int {
	d.file.mu.Lock()
	defer d.file.mu.Unlock()
	return d.file.log.Len()
}

// Close takes the device away, on which nothing may be mounted any more, and
// returns what the disk was told and what it holds.
func (d *Disk) Close() (*Log, *Image, error) {
	err := unix.IoctlSetInt(int(d.loop.Fd()), unix.LOOP_CLR_FD, 0)
	if err := errors.Join(err, d.loop.Close()); err != nil {
		return nil, nil, err
	}
	// The kernel lets go of the file when nobody has the device open: somebody who
	// looks at all block devices may have it a moment longer than we do.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = sandbox.Await(ctx, func() string {
		if err := d.server.Unmount(); err != nil {
			return err.Error()
		}
		return ""
	})
	if err != nil {
		return nil, nil, err
	}
	d.server.Wait()
	return &d.file.log, d.file.image, nil
}

// patience is how long the kernel may take to detach a device.
const patience = 20 * time.Second

// attachLoop puts a free loop device over a file.
func attachLoop(path string) (loop *os.File, err error) {
	backing, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("a free loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // EBUSY: somebody else was faster
			return nil, fmt.Errorf("attaching %s: %w", loop.Name(), err)
		}
	}
}

const (
	fileName = "disk"
	fileID   = fuse.FUSE_ROOT_ID + 1
)

// file is a file system of one file: the disk's content.
type file struct {
	fuse.RawFileSystem

	mu    sync.Mutex // the log is read while the device is served
	image *Image
	log   Log
}

func (f *file) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if h.NodeId != fuse.FUSE_ROOT_ID || name != fileName {
		return fuse.ENOENT
	}
	out.NodeId = fileID
	f.attr(fileID, &out.Attr)
	return fuse.OK
}

func (f *file) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (f *file) attr(node uint64, out *fuse.Attr) {
	out.Ino = node
	if node == fuse.FUSE_ROOT_ID {
		out.Mode = unix.S_IFDIR | 0o700
		return
	}
	out.Mode, out.Size, out.Nlink = unix.S_IFREG|0o600, uint64(f.image.size), 1
}

// SetAttr is asked for times, which a disk has none of.
func (f *file) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

// Open has the kernel keep no pages of the file: what the device writes is written
// here before the device says so.
func (f *file) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

func (f *file) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	buf = buf[:min(int64(in.Size), max(0, f.image.size-int64(in.Offset)))]
	f.image.read(buf, int64(in.Offset))
	return fuse.ReadResultData(buf), fuse.OK
}

func (f *file) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if int64(in.Offset)+int64(len(data)) > f.image.size {
		return 0, fuse.Status(unix.ENOSPC)
	}
	f.image.write(data, int64(in.Offset))
	f.note(event{int64(in.Offset), append([]byte{}, data...)})
	return uint32(len(data)), fuse.OK
}

func (f *file) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status {
	f.note(event{})
	return fuse.OK
}

func (f *file) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (f *file) note(e event) {
	f.mu.Lock()
	f.log.events = append(f.log.events, e)
	f.mu.Unlock()
}
