package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/internal/catalog"
)

// What the catalog knows of a wheel and of a tree.
type (
	WheelEntry = catalog.Wheel
	TreeEntry  = catalog.Tree
)

// catalogWait bounds the wait for another process that has the catalog open.
// That one needs milliseconds; to fill it anew for a store of thousands of
// wheels, a second.
const catalogWait = 10 * time.Second

// Wheels returns the wheels of the store, ordered by digest.
func (s *Store) Wheels(ctx context.Context) (list []WheelEntry, err error) {
	if s.noCatalog() != nil {
		stored, err := s.listDigests("wheels", infoSuffix)
		return readAll(s, stored, s.wheelEntry), err
	}
	err = s.index(ctx, nil, func(c *catalog.Catalog) (err error) {
		list, err = c.Wheels()
		return err
	})
	return list, err
}

// Trees returns the trees of the store, ordered by digest.
func (s *Store) Trees(ctx context.Context) (list []TreeEntry, err error) {
	if s.noCatalog() != nil {
		stored, err := s.listDigests("trees", "")
		return readAll(s, stored, s.treeEntry), err
	}
	err = s.index(ctx, nil, func(c *catalog.Catalog) (err error) {
		list, err = c.Trees()
		return err
	})
	return list, err
}

// WheelByHash returns the digest of the wheel whose file has a hash, given by
// hashlib's name of the algorithm and in lower-case hexadecimal. For sha256 it
// costs one stat; for others it opens the catalog, which needs a store that can
// be written to.
func (s *Store) WheelByHash(ctx context.Context, alg, hex string) (d digest.Digest, ok bool, err error) {
	if alg == "sha256" {
		if d, err = digest.Parse(hex); err != nil {
			return digest.Digest{}, false, err
		}
		return d, s.HasWheel(d), nil
	}
	if digest.NewHash(alg) == nil {
		return digest.Digest{}, false, nil
	}
	err = s.index(ctx, nil, func(c *catalog.Catalog) (err error) {
		d, ok, err = c.WheelByHash(alg, hex)
		return err
	})
	return d, ok, err
}

// indexWheels enters committed wheels into the catalog. They are in the store
// whether it succeeds or not: whoever opens the catalog next catches up.
func (s *Store) indexWheels(changed map[digest.Digest]*wheelRecord) {
	if err := s.index(context.Background(), changed, func(*catalog.Catalog) error { return nil }); err != nil {
		s.warn(fmt.Sprintf("the catalog lacks what was just stored and will catch up the next time: %v", err))
	}
}

// catalogRoom is what must be free for the catalog to be opened. Badger writes
// through memory maps of sparse files, where a full disk is no error but a
// SIGBUS. It touches less than 1 MB of them.
const catalogRoom = 16 << 20

// noCatalog returns why the catalog can't be opened, if it can't.
func (s *Store) noCatalog() error {
	if s.readOnly != nil {
		return fmt.Errorf("open the catalog: %w", s.readOnly)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return fmt.Errorf("statfs %q: %w", s.dir, err)
	}
	return s.checkSpace("the catalog", need{bytes: catalogRoom}, &st)
}

// index opens the catalog, brings it into line with the store's files, of which
// those of changed may differ from what it knows, and calls use.
func (s *Store) index(ctx context.Context, changed map[digest.Digest]*wheelRecord, use func(*catalog.Catalog) error) (err error) {
	if err := s.noCatalog(); err != nil {
		return err
	}
	c, damage, err := catalog.Open(ctx, s.path("catalog"), catalogWait)
	if err != nil {
		return s.diskError(err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if damage != nil {
		s.warn(fmt.Sprintf("the catalog is made anew from the store's files: %v", damage))
	}
	return s.diskError(s.indexOpen(c, changed, use))
}

func (s *Store) indexOpen(c *catalog.Catalog, changed map[digest.Digest]*wheelRecord, use func(*catalog.Catalog) error) error {
	var ch catalog.Change
	if err := s.compareWheels(c, changed, &ch); err != nil {
		return err
	}
	if err := s.compareTrees(c, &ch); err != nil {
		return err
	}
	if err := c.Apply(ch); err != nil {
		return err
	}
	return use(c)
}

// compareWheels adds to ch what the catalog doesn't know of the store's wheels,
// and what it knows of wheels that are gone.
func (s *Store) compareWheels(c *catalog.Catalog, changed map[digest.Digest]*wheelRecord, ch *catalog.Change) error {
	known, err := c.Wheels()
	if err != nil {
		return err
	}
	stored, err := s.listDigests("wheels", infoSuffix)
	if err != nil {
		return err
	}
	missing := setOf(stored)
	for _, w := range known {
		if !missing[w.Digest] {
			ch.DropWheels = append(ch.DropWheels, w)
		} else if changed[w.Digest] == nil {
			delete(missing, w.Digest)
		}
	}
	ch.PutWheels = readAll(s, slices.Collect(maps.Keys(missing)), s.wheelEntry)
	return nil
}

func (s *Store) wheelEntry(d digest.Digest) (WheelEntry, error) {
	rec, info, err := s.wheel(d)
	if err != nil {
		return WheelEntry{}, err
	}
	return WheelEntry{
		Digest: d, Name: info.Name, Version: info.Version, Filename: info.Filename,
		Size: rec.Size, Unpacked: info.Size(), Files: len(info.Files),
		Added: time.Unix(rec.Added, 0).UTC(), Hashes: rec.Hashes,
	}, nil
}

// compareTrees does for trees what compareWheels does for wheels.
func (s *Store) compareTrees(c *catalog.Catalog, ch *catalog.Change) error {
	known, err := c.Trees()
	if err != nil {
		return err
	}
	stored, err := s.listDigests("trees", "")
	if err != nil {
		return err
	}
	missing := setOf(stored)
	for _, t := range known {
		if !missing[t.Digest] {
			ch.DropTrees = append(ch.DropTrees, t)
		}
		delete(missing, t.Digest)
	}
	ch.PutTrees = readAll(s, slices.Collect(maps.Keys(missing)), s.treeEntry)
	return nil
}

func (s *Store) treeEntry(d digest.Digest) (TreeEntry, error) {
	b, err := os.ReadFile(s.path(treeName(d)))
	if err != nil {
		return TreeEntry{}, err
	}
	t, err := tree.Open(b, "/", s)
	if err != nil {
		return TreeEntry{}, fmt.Errorf("%q: %w", s.path(treeName(d)), err)
	}
	return TreeEntry{Digest: d, Layout: t.Layout(), Created: time.Unix(t.Created(), 0).UTC(), Wheels: len(t.Wheels()), Size: int64(len(b))}, nil
}

// readAll makes the entries of what is stored. What is damaged is said and left
// out: it must not hide the rest.
func readAll[T any](s *Store, stored []digest.Digest, read func(digest.Digest) (T, error)) []T {
	var list []T
	for _, d := range stored {
		e, err := read(d)
		switch {
		case err == nil:
			list = append(list, e)
		case !errors.Is(err, fs.ErrNotExist): // or else removed since it was listed
			s.warn(err.Error())
		}
	}
	return list
}

func setOf(list []digest.Digest) map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(list))
	for _, d := range list {
		set[d] = true
	}
	return set
}
