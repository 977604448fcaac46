package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

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
// one for each that a content is linked with. Further ones have a number: paths of
// one environment share none, and a file system takes only so many links to one. No
// mount serves them: what root writes into such an environment reaches other ones of
// its kind, never a blob.
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

// A link is an inode of a file of a tree.
type link struct {
	tree.Attr
	n int
}

func (l link) name() string { return linkName(l.Attr, l.n) }

// MakeLinks makes what [Store.Link] links to: an inode for each of these files of a
// tree, so several for several that are alike. It makes all that aren't there yet,
// durably and at the price of one sync, and anew those that visibly are not as they
// were made.
func (s *Store) MakeLinks(ctx context.Context, files []tree.Attr) error {
	absent, err := s.absentLinks(numbered(files))
	if err != nil || len(absent) == 0 {
		return err
	}
	return s.makeLinks(ctx, absent)
}

// numbered gives each file an inode of its own.
func numbered(files []tree.Attr) []link {
	links := make([]link, len(files))
	next := make(map[string]int)
	for i, a := range files {
		first := linkName(a, 0)
		links[i] = link{a, next[first]}
		next[first]++
	}
	return links
}

// absentLinks returns those of links that aren't there as they were made. All
// processors look.
func (s *Store) absentLinks(links []link) ([]link, error) {
	has := make([]bool, len(links))
	var g errgroup.Group
	part := len(links)/runtime.GOMAXPROCS(0) + 1
	for from := 0; from < len(links); from += part {
		g.Go(func() error {
			for i := from; i < min(from+part, len(links)); i++ {
				var err error
				if has[i], err = s.hasLink(links[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var absent []link
	for i, l := range links {
		if !has[i] {
			absent = append(absent, l)
		}
	}
	return absent, nil
}

// hasLink reports whether an inode is there as it was made.
func (s *Store) hasLink(l link) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(s.root.Fd()), l.name(), &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, s.diskError(&fs.PathError{Op: "stat", Path: s.path(l.name()), Err: err})
	}
	return uint32(st.Mode) == unix.S_IFREG|linkMode(l.Attr) && st.Size == l.Size && st.Mtim.Sec == l.Mtime && st.Mtim.Nsec == 0, nil
}

// makeLinks makes inodes.
func (s *Store) makeLinks(ctx context.Context, links []link) (err error) {
	if err := s.checkLinkSpace(len(links)); err != nil {
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
	staged, err := s.stageLinks(ctx, st, links)
	if err != nil {
		return s.diskError(err)
	}
	var step blob.Step
	for i, l := range links {
		step.Place = append(step.Place, blob.Placement{Staged: staged[i], Name: l.name(), Replace: true})
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

// stageLinks copies the blobs of links, on all processors.
func (s *Store) stageLinks(ctx context.Context, st *stage, links []link) ([]string, error) {
	staged := make([]string, len(links))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, l := range links {
		g.Go(func() (err error) {
			if err = ctx.Err(); err == nil {
				staged[i], err = s.stageLink(st, l.Attr)
			}
			return err
		})
	}
	return staged, g.Wait()
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

// Link makes name in the directory dir a hard link to inode n of a file with the
// content, the mode and the time of a; the first one is 0. One that [Store.MakeLinks]
// has to make first is [fs.ErrNotExist], one that takes no more links is
// [unix.EMLINK]. The directory must be on the mount of the store.
func (s *Store) Link(a tree.Attr, n int, dir int, name string) error {
	from := linkName(a, n)
	for {
		err := unix.Linkat(int(s.root.Fd()), from, dir, name, 0)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return s.diskError(&os.LinkError{Op: "link", Old: s.path(from), New: name, Err: err})
		}
	}
}

// DropLinks has [Store.MakeLinks] make the inodes of files of a tree anew, all of
// them and whatever they look like. Environments that link to them keep them.
func (s *Store) DropLinks(files []tree.Attr) error {
	for _, a := range files {
		first := linkName(a, 0)
		folder, err := os.ReadDir(s.path(path.Dir(first)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.diskError(err)
		}
		for _, e := range folder {
			name := path.Dir(first) + "/" + e.Name()
			if name != first && !strings.HasPrefix(name, first+".") {
				continue
			}
			if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return s.diskError(err)
			}
		}
	}
	return nil
}
