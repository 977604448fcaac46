package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/internal/blob"
)

// linksFolder holds second inodes of blobs, which environments of hard links share:
//
//	links/ab/cdef…-MODE-MTIME[.N]
//
// Mode (octal) and modification time (Unix seconds) belong to the inode, so there is
// one for each that a content is linked with. A number follows when the file system
// takes no more links to the one before. No mount serves them: what root writes into
// such an environment reaches other ones of its kind, never a blob.
const linksFolder = "links"

// linkName returns the name of inode n for a file of a tree.
func linkName(a tree.Attr, n int) string {
	name := linksFolder + "/" + blob.Path(a.Digest) + "-" + strconv.FormatUint(uint64(linkMode(a)), 8) + "-" + strconv.FormatInt(a.Mtime, 10)
	if n > 0 {
		name += "." + strconv.Itoa(n)
	}
	return name
}

func linkMode(a tree.Attr) uint32 {
	if a.Exec {
		return 0o755
	}
	return 0o644
}

// MakeLinks makes what [Store.Link] links to, for files of a tree whose contents,
// modes or times differ: all that isn't there yet, durably and at the price of one
// sync. What has visibly been changed through an environment is made anew.
func (s *Store) MakeLinks(ctx context.Context, files []tree.Attr) error {
	absent, err := s.absentLinks(files)
	if err != nil || len(absent) == 0 {
		return err
	}
	return s.makeLinks(ctx, absent, 0)
}

// absentLinks returns those of files that have no inode as it was made. Where all
// is there, this is what MakeLinks costs, so all processors look.
func (s *Store) absentLinks(files []tree.Attr) ([]tree.Attr, error) {
	has := make([]bool, len(files))
	var g errgroup.Group
	part := len(files)/runtime.GOMAXPROCS(0) + 1
	for from := 0; from < len(files); from += part {
		g.Go(func() error {
			for i := from; i < min(from+part, len(files)); i++ {
				var err error
				if has[i], err = s.hasLink(files[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var absent []tree.Attr
	for i, a := range files {
		if !has[i] {
			absent = append(absent, a)
		}
	}
	return absent, nil
}

// hasLink reports whether there is an inode for a, as it was made.
func (s *Store) hasLink(a tree.Attr) (bool, error) {
	st, err := s.statLink(a, 0)
	return err == nil && st != nil && uint32(st.Mode) == unix.S_IFREG|linkMode(a) && st.Size == a.Size && st.Mtim.Sec == a.Mtime && st.Mtim.Nsec == 0, err
}

// statLink describes inode n for a; nil means that there is none.
func (s *Store) statLink(a tree.Attr, n int) (*unix.Stat_t, error) {
	var st unix.Stat_t
	name := linkName(a, n)
	err := unix.Fstatat(int(s.root.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, s.diskError(&fs.PathError{Op: "stat", Path: s.path(name), Err: err})
	}
	return &st, nil
}

// RenewLinks makes all inodes of files of a tree anew, whatever they look like.
// Environments that link to the ones before keep them.
func (s *Store) RenewLinks(ctx context.Context, files []tree.Attr) error {
	for n := 0; len(files) > 0; n++ {
		if err := s.makeLinks(ctx, files, n); err != nil {
			return err
		}
		var more []tree.Attr
		for _, a := range files {
			st, err := s.statLink(a, n+1)
			if err != nil {
				return err
			}
			if st != nil {
				more = append(more, a)
			}
		}
		files = more
	}
	return nil
}

// makeLinks makes inode n for each file.
func (s *Store) makeLinks(ctx context.Context, files []tree.Attr, n int) (err error) {
	if err := s.checkLinkSpace(len(files)); err != nil {
		return err
	}
	st, err := s.newStage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	if err := os.Mkdir(s.path(linksFolder), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return s.diskError(err)
	}
	var staged []string
	var step blob.Step
	for _, a := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		file, err := s.stageLink(st, a)
		if err != nil {
			return s.diskError(err)
		}
		staged = append(staged, file)
		step.Place = append(step.Place, blob.Placement{Staged: file, Name: linkName(a, n), Replace: true})
	}
	if err := st.Sync(staged); err != nil {
		return s.diskError(err)
	}
	return s.diskError(st.Place(step))
}

// checkLinkSpace sees that there are inodes for so many files. Their bytes may well
// be shared with the blobs.
func (s *Store) checkLinkSpace(files int) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return fmt.Errorf("statfs %q: %w", s.dir, err)
	}
	return s.checkSpace("what hard links lead to", need{files: int64(files)}, &st)
}

// stageLink copies a blob, by its blocks if the file system can.
func (s *Store) stageLink(st *stage, a tree.Attr) (staged string, err error) {
	from, err := s.OpenBlob(a.Digest)
	if err != nil {
		return "", err
	}
	defer unix.Close(from)
	f, err := st.Create()
	if err != nil {
		return "", err
	}
	n, err := f.Copy(from)
	if err == nil && n != a.Size {
		err = fmt.Errorf("blob %v has %d bytes, want %d: the store is damaged", a.Digest, n, a.Size)
	}
	if err == nil {
		err = f.SetAttr(linkMode(a), a.Mtime)
	}
	staged, closeErr := f.Close()
	return staged, errors.Join(err, closeErr)
}

// Link makes name in the directory dir a hard link to a file with the content, the
// mode and the time of a. Where [Store.MakeLinks] has to make that first, the error
// is [fs.ErrNotExist]. The directory must be on the mount of the store.
func (s *Store) Link(a tree.Attr, dir int, name string) error {
	n, made := 0, 0
	for {
		err := s.link(int(s.root.Fd()), linkName(a, n), dir, name)
		switch {
		case err == nil:
			return nil
		case err == unix.EINTR:
		case err == unix.EMLINK:
			n++
		case err == unix.ENOENT && made != n: // the inode that is to follow a full one
			if err := s.makeLinks(context.Background(), []tree.Attr{a}, n); err != nil {
				return err
			}
			made = n
		default:
			return s.diskError(&os.LinkError{Op: "link", Old: s.path(linkName(a, n)), New: name, Err: err})
		}
	}
}

// linkat is [Store.link] outside of tests.
func linkat(fromDir int, from string, toDir int, to string) error {
	return unix.Linkat(fromDir, from, toDir, to, 0)
}
