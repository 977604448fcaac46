// Package materialize writes a tree to a real directory and puts it in its place.
//
// It keeps one promise: a directory that it is asked for is the old environment or
// the new one, whole, at every moment, whatever fails and whenever the process or
// the machine dies. The new one is written beside the old one, under a name that
// nobody uses, compared with the tree, made durable, and only then exchanged with
// it. What a killed run leaves is removed by the next one.
//
// How a file gets its bytes is a [Mode]. What the pair of file systems can do is
// found out once, with a real file, by [Probe]; an error that comes later is never
// taken for an answer to that question, but ends the run with nothing changed. A
// mode that was asked for by name never becomes another one.
//
// The package never writes to a file that it did not make: files of the old
// environment are linked or copied into the new one, never moved or opened for
// writing, and nothing is written through a symlink.
package materialize

import (
	"context"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// A Source is the store as this package sees it. Its methods may be called
// concurrently.
type Source interface {
	// Dir returns the store's directory, an absolute path.
	Dir() string

	// OpenTree opens a tree for a venv at the absolute path prefix. One that the
	// store doesn't have is [fs.ErrNotExist].
	OpenTree(d digest.Digest, prefix string) (*tree.Tree, error)

	// AddRoot notes durably that the environment dir needs the blobs of a tree from
	// now on.
	AddRoot(dir string, id digest.Digest) error

	// OpenBlob opens the bytes of a file; the caller closes the descriptor.
	OpenBlob(d digest.Digest) (fd int, err error)

	// BlobPath returns the absolute path of a blob, for a symlink to it.
	BlobPath(d digest.Digest) string

	// MakeLinks makes sure that there is an inode to link to for each of these files
	// of a tree: several for several of one content, mode and time.
	MakeLinks(ctx context.Context, files []tree.Attr) error

	// Link makes name in the directory dir a hard link to inode n of a file with the
	// content, the mode and the time of a, the first one being 0. If MakeLinks has to
	// make that first it is [fs.ErrNotExist], if it takes no more links [unix.EMLINK].
	Link(a tree.Attr, n int, dir int, name string) error

	// DropLinks has MakeLinks make all inodes of these files anew.
	DropLinks(files []tree.Attr) error
}

// Options are what [Materialize] can be told. The zero value is fine.
type Options struct {
	Mode         Mode         // Auto unless set
	Prefix       string       // the absolute path at which the environment will be seen; "" is where it is put
	Bytecode     Bytecode     // may be nil
	Compiled     bool         // Bytecode has every module that compiles
	Force        bool         // replace a directory that isn't an environment of ours
	InStore      bool         // the directory is one that the store has for environments
	DiscardExtra bool         // leave out what the user added to the old environment
	Deep         bool         // read every file again and compare its digest
	Workers      int          // directories that are written at a time; 0 means a good number
	Progress     Progress     // may be nil
	Version      string       // of the program, for the mark
	Warn         func(string) // told in one sentence what the user should know; may be nil
}

// Progress is told how far a run is that has something to do.
type Progress interface {
	BeginWrite(size int64) // bytes in all
	Wrote(size int64)      // so many more of them; calls may come at the same time
	EndWrite()
}

// Bytecode has the .pyc files of sources.
type Bytecode interface {
	// OpenCode opens what the source of that digest, size in bytes and
	// modification time in Unix seconds compiles to at an optimisation level:
	// size bytes from the descriptor's first one on. The caller closes it. What
	// isn't there is [fs.ErrNotExist].
	OpenCode(source digest.Digest, sourceSize, mtime int64, optimize int) (fd int, size int64, err error)

	// CodeName returns the name that the .pyc file of stem + ".py" has in
	// __pycache__.
	CodeName(stem string, optimize int) string
}

// A Report says what was done.
type Report struct {
	Tree   string `json:"tree"`   // digest
	Dest   string `json:"dest"`   // absolute path
	Mode   string `json:"mode"`   // the one that was used, never "auto"
	Reason string `json:"reason"` // why that one: a sentence

	// Unchanged says that DEST was the environment already. Of the counts only Files
	// and Bytes are told then.
	Unchanged bool `json:"unchanged"`

	Files int   `json:"files"` // regular files and symlinks of the tree
	Dirs  int   `json:"dirs"`  // its directories, the top one included
	Bytes int64 `json:"bytes"` // the sizes of the regular files

	// How the regular files came about. A link mode copies where there is nothing to
	// share: files made for this environment and, except in mode hardlink, empty ones.
	Cloned    int `json:"cloned"`
	Linked    int `json:"linked"` // hard links
	Symlinked int `json:"symlinked"`
	Copied    int `json:"copied"`
	Reused    int `json:"reused"` // taken over from the old environment

	Bytecode int `json:"bytecode"` // .pyc files, which no other count includes

	Kept []string `json:"kept,omitempty"` // what the user had added, relative paths
}

// add adds the counts of s.
func (r *Report) add(s *Report) {
	r.Files += s.Files
	r.Dirs += s.Dirs
	r.Bytes += s.Bytes
	r.Cloned += s.Cloned
	r.Linked += s.Linked
	r.Symlinked += s.Symlinked
	r.Copied += s.Copied
	r.Reused += s.Reused
	r.Bytecode += s.Bytecode
}
