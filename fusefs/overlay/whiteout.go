package overlay

import (
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
)

// whiteouts are names of one empty file where DIR's file system has hard links: to make
// one costs a fifth of making a file (ext4), and removing a package makes thousands.
// FS.mu guards it.
type whiteouts struct {
	file   string // in the staging area; "": none yet
	links  int    // of it
	unable bool   // there are no hard links
}

const (
	// whiteoutMode is of an empty file that nobody need read.
	whiteoutMode = 0o600

	// mostLinks is well below what ext4 (65,000) and btrfs (65,535) allow.
	mostLinks = 30_000
)

// blank returns the step that makes an empty file at a path. mu is held for writing.
func (f *FS) blank(to string) upper.Step {
	w := &f.whiteouts
	if w.file == "" || w.links == mostLinks {
		w.renew(f.dir)
	}
	if w.unable {
		return upper.MakeFile(to, whiteoutMode)
	}
	w.links++
	return upper.Hardlink(w.file, to)
}

// renew makes the file, and tries to link it.
func (w *whiteouts) renew(d *upper.Dir) {
	if w.unable {
		return
	}
	w.drop(d)
	w.unable = true
	fd, file, err := d.StageFile(whiteoutMode)
	if err != nil {
		return
	}
	if unix.Close(fd) != nil || d.Do(0, nil, upper.Hardlink(file, d.TrashPath())) != nil {
		d.Discard(file)
		return
	}
	w.file, w.unable = file, false
}

// drop removes the file; its links stay.
func (w *whiteouts) drop(d *upper.Dir) {
	if w.file != "" {
		d.Discard(w.file)
	}
	*w = whiteouts{}
}
