package view

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/manifest/tree"
)

const (
	// blockSize is ext4's, which is what du is compared with.
	blockSize = 4096

	// sectorSize is the unit of st_blocks (stat(2)).
	sectorSize = 512

	// inlineLink is the length from which ext4 gives a symlink a block of its own.
	inlineLink = 60
)

// entry fills in the reply to a name.
func (f *FS) entry(id uint64, a *tree.Attr, out *fuse.EntryOut) {
	out.NodeId = id
	out.Generation = 1 // node IDs are never used again
	out.EntryValid = forever
	out.AttrValid = forever
	f.attr(id, a, &out.Attr)
}

// attr fills in what stat(2) shows.
func (f *FS) attr(id uint64, a *tree.Attr, out *fuse.Attr) {
	size := size(a)
	*out = fuse.Attr{
		Ino:    id,
		Size:   size,
		Blocks: blocks(a, size),
		// One time for all three: nothing is ever accessed or changed later than
		// it was made.
		Atime:   uint64(a.Mtime),
		Mtime:   uint64(a.Mtime),
		Ctime:   uint64(a.Mtime),
		Mode:    mode(a),
		Nlink:   nlink(a),
		Owner:   f.owner,
		Blksize: blockSize,
	}
}

func mode(a *tree.Attr) uint32 {
	switch {
	case a.Kind == tree.Dir:
		return syscall.S_IFDIR | 0o755
	case a.Kind == tree.Symlink:
		return syscall.S_IFLNK | 0o777
	case a.Exec:
		return syscall.S_IFREG | 0o755
	}
	return syscall.S_IFREG | 0o644
}

// size of a directory is one block: the tree's figure is of what lies below.
func size(a *tree.Attr) uint64 {
	if a.Kind == tree.Dir {
		return blockSize
	}
	return uint64(a.Size)
}

// blocks counts as ext4 does, in whole blocks.
func blocks(a *tree.Attr, size uint64) uint64 {
	if a.Kind == tree.Symlink && size < inlineLink {
		return 0
	}
	return (size + blockSize - 1) / blockSize * (blockSize / sectorSize)
}

// nlink of a directory counts its name, its "." and the ".." of each directory
// in it; find(1) relies on that to know when it has seen the last one.
func nlink(a *tree.Attr) uint32 {
	if a.Kind == tree.Dir {
		return 2 + a.Subdirs
	}
	return 1
}
