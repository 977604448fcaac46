package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store/internal/blob"
)

// An Ingest puts wheels into the store: any number of calls of Add, at the same
// time if you like, then Commit. Until then no wheel of them is in the store,
// and one that Add refuses leaves nothing and does not disturb the others. Of a
// large ingest that is given up, blobs of accepted wheels may stay behind: whole,
// durable, and in use by nobody.
//
// Two processes may ingest the same wheel at once: both succeed, and it is
// stored once.
type Ingest struct {
	store   *Store
	stage   *stage
	budget  budget
	workers chan struct{} // a token for each member or wheel file being read

	rounds sync.WaitGroup // at most one is under way

	mu       sync.Mutex
	blobs    map[digest.Digest]blob.Placement // of wheels that were accepted, not named yet
	placed   map[digest.Digest]bool           // named in a round that is over or under way
	placing  bool                             // a round is under way
	roundErr error
	reused   map[digest.Digest]bool // blobs the wheels rely on that were there before
	wheels   map[digest.Digest]*wheelRecord
	done     bool
}

// roundFiles is how many accepted blobs are made durable and get their names
// while other wheels are still being read. Left to Commit, this keeps the
// processors waiting for a fifth of the time that a large ingest takes.
const roundFiles = 4000

// NewIngest starts an ingest. It removes what killed processes have left.
func (s *Store) NewIngest(ctx context.Context) (*Ingest, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.readOnly != nil {
		return nil, s.readOnly
	}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	st, err := s.newStage()
	if err != nil {
		return nil, err
	}
	return &Ingest{
		store:   s,
		stage:   st,
		budget:  budget{store: s},
		workers: make(chan struct{}, runtime.GOMAXPROCS(0)),
		blobs:   map[digest.Digest]blob.Placement{},
		placed:  map[digest.Digest]bool{},
		reused:  map[digest.Digest]bool{},
		wheels:  map[digest.Digest]*wheelRecord{},
	}, nil
}

// AddOptions says what is known of a wheel and where to be lenient.
type AddOptions struct {
	// Want are the hashes the wheel file must have, lower-case hexadecimal by
	// hashlib's name of the algorithm. All that can be checked must agree; if
	// there are any, at least one must be of [digest.Strong].
	Want map[string]string

	// AllowBadRecord is [wheel.Options.AllowBadRecord].
	AllowBadRecord bool

	// UnpackLimit is how many bytes the wheel may unpack to, however well it is
	// packed; 0 means the defaults of [wheel.Options].
	UnpackLimit int64

	// Progress is told how many bytes of files have been checked since the last
	// call: in the end, Info.Size in all. It may be nil; calls may come at the
	// same time.
	Progress func(n int64)
}

func (o AddOptions) wheel() wheel.Options {
	w := wheel.Options{AllowBadRecord: o.AllowBadRecord}
	if o.UnpackLimit > 0 {
		w.MaxTotal, w.MaxRatio = o.UnpackLimit, math.MaxInt64
	}
	return w
}

// Added is what Add took in.
type Added struct {
	Digest digest.Digest // of the wheel file
	Info   *wheel.Info   // every file has its digest
	New    bool          // the store didn't have it
}

// Add checks the wheel of size bytes behind r, named filename, whole: its
// structure, its hash, and every member against RECORD. It writes those files
// that the store doesn't have. Its files are part of the store after Commit.
func (i *Ingest) Add(ctx context.Context, r io.ReaderAt, size int64, filename string, o AddOptions) (Added, error) {
	a, err := i.add(ctx, r, size, filename, o)
	if err != nil {
		return Added{}, i.store.diskError(err)
	}
	return a, nil
}

func (i *Ingest) add(ctx context.Context, r io.ReaderAt, size int64, filename string, o AddOptions) (Added, error) {
	if known, err := i.addKnown(ctx, r, size, filename, o); known.Info != nil || err != nil {
		return known, err
	}
	w, err := wheel.Open(r, size, filename, o.wheel())
	if err != nil {
		return Added{}, i.blame(ctx, err, r, size, filename, o.Want)
	}
	u, err := i.plan(w, o.Progress)
	if err != nil {
		return Added{}, err
	}
	release, err := i.budget.promise(fmt.Sprintf("wheel %q", filename), u.need)
	if err != nil {
		return Added{}, err
	}
	defer release()
	sums, err := i.read(ctx, u, r, size, filename, o.Want)
	if err != nil {
		return Added{}, errors.Join(err, u.discard())
	}
	return i.accept(u, sums, size)
}

// read hashes the file and reads its members at the same time: the second of
// the two finds the bytes in memory. A file that is not the one asked for says
// so, whatever else is wrong with it.
func (i *Ingest) read(ctx context.Context, u *unpacking, r io.ReaderAt, size int64, filename string, want map[string]string) (sums, error) {
	unpack, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	var sum sums
	g.Go(func() (err error) {
		if sum, err = i.hashFile(ctx, r, size, filename, want); err != nil {
			stop()
		}
		return err
	})
	err := u.run(unpack)
	if hashErr := g.Wait(); hashErr != nil {
		return sums{}, hashErr
	}
	if err == nil {
		err = ctx.Err() // the last member may have been under way already
	}
	return sum, err
}

// blame returns why the file is not the one that was asked for, or else err,
// which says what is wrong with it.
func (i *Ingest) blame(ctx context.Context, err error, r io.ReaderAt, size int64, filename string, want map[string]string) error {
	if len(want) == 0 {
		return err
	}
	if _, hashErr := i.hashFile(ctx, r, size, filename, want); hashErr != nil {
		return hashErr
	}
	return err
}

// addKnown takes in a wheel that the store has already, by the digest it must
// have: the file is held to it, its members have been checked before.
func (i *Ingest) addKnown(ctx context.Context, r io.ReaderAt, size int64, filename string, o AddOptions) (Added, error) {
	d, err := digest.Parse(o.Want["sha256"])
	if err != nil || !i.store.HasWheel(d) {
		return Added{}, nil
	}
	sums, err := i.hashFile(ctx, r, size, filename, o.Want)
	if err != nil {
		return Added{}, err
	}
	return i.acceptKnown(d, sums)
}

// acceptKnown notes what may be new about a wheel that the store has: hashes it
// can be found by. It does so even when the record has them: the catalog may
// not.
func (i *Ingest) acceptKnown(d digest.Digest, sums sums) (Added, error) {
	rec, info, err := i.store.wheel(d)
	if err != nil {
		return Added{}, err
	}
	if len(sums.others) > 0 {
		rec.replaces = true
		maps.Copy(sums.others, rec.Hashes)
		rec.Hashes = sums.others
		i.mu.Lock()
		i.wheels[d] = rec
		i.mu.Unlock()
	}
	return Added{Digest: d, Info: info}, nil
}

// accept makes the files of a checked wheel part of the ingest.
func (i *Ingest) accept(u *unpacking, sums sums, size int64) (Added, error) {
	d := sums.sha256
	if i.store.HasWheel(d) {
		a, err := i.acceptKnown(d, sums)
		return a, errors.Join(err, u.discard())
	}
	info := u.info()
	i.adopt(u, d, &wheelRecord{Added: i.store.now().Unix(), Size: size, Hashes: sums.others, Wheel: info.Encode()})
	return Added{Digest: d, Info: info, New: true}, u.discard()
}

// adopt takes over the staged files of a wheel, but for those that it has.
func (i *Ingest) adopt(u *unpacking, d digest.Digest, rec *wheelRecord) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.wheels[d] = rec
	maps.Copy(i.reused, u.reused)
	for sum, p := range u.staged {
		if _, twice := i.blobs[sum]; !twice && !i.placed[sum] {
			i.blobs[sum] = p
			delete(u.staged, sum)
		}
	}
	if len(i.blobs) >= i.store.roundFiles && !i.placing {
		i.startRound()
	}
}

// startRound has the blobs that were accepted so far placed in the background.
// The caller holds mu.
func (i *Ingest) startRound() {
	blobs := i.blobs
	i.blobs = map[digest.Digest]blob.Placement{}
	for sum := range blobs {
		i.placed[sum] = true
	}
	i.placing = true
	i.rounds.Go(func() {
		err := i.placeBlobs(blobs)
		i.mu.Lock()
		defer i.mu.Unlock()
		i.placing = false
		i.roundErr = errors.Join(i.roundErr, err)
	})
}

func (i *Ingest) placeBlobs(blobs map[digest.Digest]blob.Placement) error {
	step := blob.Step{Place: slices.Collect(maps.Values(blobs))}
	staged := make([]string, len(step.Place))
	for n, p := range step.Place {
		staged[n] = p.Staged
	}
	if err := i.stage.Sync(staged); err != nil {
		return err
	}
	return i.stage.Place(step)
}

// Commit makes every wheel that was accepted part of the store: blobs first,
// then, when their names are durable, what says that the wheels are there.
func (i *Ingest) Commit() error {
	if i.done {
		return errors.New("commit: the ingest has ended")
	}
	if err := i.commit(); err != nil {
		return fmt.Errorf("commit %d wheels: %w", len(i.wheels), errors.Join(i.store.diskError(err), i.Close()))
	}
	if err := i.Close(); err != nil {
		return err
	}
	if len(i.wheels) > 0 {
		i.store.indexWheels(i.wheels)
	}
	return nil
}

func (i *Ingest) commit() error {
	i.rounds.Wait()
	if i.roundErr != nil {
		return i.roundErr
	}
	var blobs, wheels blob.Step
	var staged []string
	for _, p := range i.blobs {
		blobs.Place = append(blobs.Place, p)
		staged = append(staged, p.Staged)
	}
	for sum := range i.reused {
		blobs.Reused = append(blobs.Reused, blobName(sum))
	}
	for d, rec := range i.wheels {
		b, err := rec.encode()
		if err != nil {
			return err
		}
		file, err := i.stage.Put(b)
		if err != nil {
			return err
		}
		staged = append(staged, file)
		wheels.Place = append(wheels.Place, blob.Placement{Staged: file, Name: infoName(d), Replace: rec.replaces})
	}
	i.reached("staged")
	if err := i.stage.Sync(staged); err != nil {
		return err
	}
	i.reached("synced")
	if err := i.stage.Place(blobs); err != nil {
		return err
	}
	i.reached("blobs placed")
	if err := i.stage.Place(wheels); err != nil {
		return err
	}
	i.reached("wheels placed")
	return nil
}

func (i *Ingest) reached(step string) {
	if i.store.step != nil {
		i.store.step(step)
	}
}

// Close ends the ingest. What was not committed is removed.
func (i *Ingest) Close() error {
	if i.done {
		return nil
	}
	i.done = true
	i.rounds.Wait()
	return i.stage.close()
}

func blobName(sum digest.Digest) string { return "blobs/" + blob.Path(sum) }

// work runs f when a worker is free.
func (i *Ingest) work(ctx context.Context, f func() error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case i.workers <- struct{}{}:
	}
	defer func() { <-i.workers }()
	return f()
}

// sums are the hashes of a wheel file.
type sums struct {
	sha256 digest.Digest
	others map[string]string // the stronger ones that were wanted
}

// hashFile reads the whole file once, in order, and compares it with the
// hashes it must have.
func (i *Ingest) hashFile(ctx context.Context, r io.ReaderAt, size int64, filename string, want map[string]string) (sums, error) {
	hashes := map[string]hash.Hash{"sha256": sha256.New()}
	for alg := range want {
		if h := digest.NewHash(alg); h != nil {
			hashes[alg] = h
		}
	}
	if _, ok := want["sha256"]; len(want) > 0 && !ok && len(hashes) == 1 {
		return sums{}, fmt.Errorf("wheel %q: known by %q alone, want one of %q", filename, slices.Sorted(maps.Keys(want)), digest.Strong)
	}
	if err := i.work(ctx, func() error { return readInto(ctx, hashes, r, size) }); err != nil {
		return sums{}, fmt.Errorf("wheel %q: %w", filename, err)
	}
	got := sums{others: map[string]string{}}
	for alg, h := range hashes {
		sum := hex.EncodeToString(h.Sum(nil))
		if w, ok := want[alg]; ok && w != sum {
			return sums{}, fmt.Errorf("wheel %q: %w: its %s is %s, wanted %s; if the file was replaced on purpose, lock it again", filename, ErrMismatch, alg, sum, w)
		}
		if alg != "sha256" {
			got.others[alg] = sum
		}
	}
	hashes["sha256"].Sum(got.sha256[:0])
	return got, nil
}

// readInto gives all hashes the bytes of the file. The buffer is what one read
// asks for: large enough that a cold disk streams.
func readInto(ctx context.Context, hashes map[string]hash.Hash, r io.ReaderAt, size int64) error {
	buf := make([]byte, min(size, 256<<10))
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.ReadAt(buf[:min(size-at, int64(len(buf)))], at)
		for _, h := range hashes {
			h.Write(buf[:n])
		}
		at += int64(n)
		if err != nil && at < size {
			return err
		}
	}
	return nil
}

// bySize orders files so that a large one, which one worker alone must read,
// doesn't start last. Small ones keep their order: neighbours in the wheel
// become neighbours on disk.
func bySize(info *wheel.Info) []int {
	const large = 1 << 20
	order := make([]int, len(info.Files))
	for n := range order {
		order[n] = n
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(max(info.Files[b].Size, large), max(info.Files[a].Size, large))
	})
	return order
}
