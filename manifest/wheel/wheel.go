// Package wheel reads a wheel (packaging.python.org, "Binary distribution
// format") and says what it installs.
//
// A wheel is hostile input. Open accepts one only when its ZIP structure leaves
// no room for a second reading, its names stay inside the directories they are
// for, and its metadata agree with its file name; Extract and CheckRest hold
// every byte to the CRC-32, the declared size and RECORD. An ingest that calls
// CheckRest, and Extract for every file, has checked each member, and
// nothing of the wheel should become visible before all have returned nil.
//
// The package never writes a file, runs no interpreter and knows no venv: where
// a Scheme's root is, which generated files there are and who wins between two
// wheels is decided in package manifest. Memory is bounded by the size of the
// central directory, never by the size of a member.
package wheel

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tag"
)

const (
	// DefaultMaxRatio is how many bytes a wheel may produce for each of its own.
	// Code and binaries make 3 to 10; deflate can't exceed 1032.
	DefaultMaxRatio = 100

	// DefaultMaxTotal is how many bytes a wheel may produce: several times the
	// largest builds of the machine learning frameworks.
	DefaultMaxTotal = 64 << 30

	// ratioFree is how many bytes a wheel may produce whatever the ratio: a
	// table of zeros in a small wheel harms nobody.
	ratioFree = 64 << 20

	// maxMetadata bounds each of METADATA, WHEEL and entry_points.txt, which are
	// read into memory. The longest of 373 popular wheels takes 140 KB.
	maxMetadata = 4 << 20
)

// Options says where Open is lenient. The zero Options is the strict default.
type Options struct {
	// AllowBadRecord turns what is wrong with RECORD into warnings. Files are
	// installed with the digests they have. Rows that escape are still refused.
	AllowBadRecord bool

	// MaxRatio and MaxTotal bound the expansion; 0 means the defaults.
	MaxRatio, MaxTotal int64
}

// An Error says why a file is not a wheel that sitefs installs. An error of
// Open or Extract that is none came from reading the file or from dst.
type Error struct {
	Reason string
	Record bool // RECORD is what is wrong; Options.AllowBadRecord admits the wheel
}

func (e *Error) Error() string {
	if e.Record {
		return e.Reason + " (--allow-bad-record installs the wheel as it is)"
	}
	return e.Reason
}

func invalidf(format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...)}
}

func invalidRecordf(format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...), Record: true}
}

// A Wheel is an open wheel. Its archive is read while it is in use.
type Wheel struct {
	archive *archive
	opt     Options
	sums    []RecordSum // by member
	files   []int       // member of each of info.Files
	rest    []int       // members that are not installed
	// twins holds, by member, the members that must have the same bytes.
	twins map[int][]int

	mu   sync.Mutex // guards info.Warnings
	info *Info
}

// Open validates the structure of the wheel of size bytes behind r and reads
// its metadata. name is its file name, without a directory. Open checks no
// other member's bytes: Extract and CheckRest do.
func Open(r io.ReaderAt, size int64, name string, opt Options) (*Wheel, error) {
	file, err := tag.ParseWheelName(name)
	if err != nil {
		return nil, invalidf("%v", err)
	}
	w, err := open(r, size, file, opt)
	if err != nil {
		return nil, fmt.Errorf("wheel %q: %w", name, err)
	}
	w.info.Filename = name
	return w, nil
}

func open(r io.ReaderAt, size int64, file tag.WheelName, opt Options) (*Wheel, error) {
	a, err := openArchive(r, size)
	if err != nil {
		return nil, err
	}
	if err := checkExpansion(a, size, opt); err != nil {
		return nil, err
	}
	w := &Wheel{
		archive: a,
		opt:     opt,
		sums:    make([]RecordSum, len(a.members)),
		twins:   map[int][]int{},
		info:    &Info{Build: file.Build.String()},
	}
	for _, t := range file.Tags {
		w.info.Tags = append(w.info.Tags, t.String())
	}
	l, err := w.list()
	if err != nil {
		return nil, err
	}
	if err := l.findTops(file.Name); err != nil {
		return nil, err
	}
	if err := w.readMetadata(l, file); err != nil {
		return nil, err
	}
	if err := w.readRecord(l); err != nil {
		return nil, err
	}
	if err := w.placeFiles(l); err != nil {
		return nil, err
	}
	return w, nil
}

// checkExpansion refuses an archive that declares more than the limits. What
// it declares is what it may produce: copyMember sees to that.
func checkExpansion(a *archive, size int64, opt Options) error {
	maxTotal, maxRatio := opt.MaxTotal, opt.MaxRatio
	if maxTotal == 0 {
		maxTotal = DefaultMaxTotal
	}
	if maxRatio == 0 {
		maxRatio = DefaultMaxRatio
	}
	var total int64
	for i := range a.members {
		n := a.members[i].size
		if n > math.MaxInt64-total {
			return invalidf("members declare more than %d bytes", int64(math.MaxInt64))
		}
		total += n
	}
	if total > maxTotal {
		return invalidf("unpacks to %d bytes, want at most %d; if you trust it, say --unpack-limit %d", total, maxTotal, total)
	}
	if total > ratioFree && total/maxRatio > size {
		return invalidf("unpacks to %d bytes, %d times its size, want at most %d times; if you trust it, say --unpack-limit %d", total, total/max(size, 1), maxRatio, total)
	}
	return nil
}

// Info describes the wheel. With AllowBadRecord, Extract and CheckRest may add
// warnings: read these when all have returned.
func (w *Wheel) Info() *Info { return w.info }

// Extract writes the bytes of Info().Files[i] to dst and returns their digest.
// The error says where they differ from what the archive or RECORD declares;
// dst has then got bytes that must not be used. Calls for different i may run
// at the same time; each takes a bounded amount of memory.
func (w *Wheel) Extract(i int, dst io.Writer) (digest.Digest, error) {
	d, err := w.copy(w.files[i], dst)
	if err != nil {
		return digest.Digest{}, fmt.Errorf("wheel %q: %w", w.info.Filename, err)
	}
	return d, nil
}

// CheckRest reads the members that Extract does not reach, because they are
// not installed, and holds them to the same rules.
func (w *Wheel) CheckRest() error {
	for _, m := range w.rest {
		if _, err := w.copy(m, io.Discard); err != nil {
			return fmt.Errorf("wheel %q: %w", w.info.Filename, err)
		}
	}
	return nil
}

// copy writes the bytes of member m to dst, and checks its twins.
func (w *Wheel) copy(m int, dst io.Writer) (digest.Digest, error) {
	d, err := w.copyOne(m, dst)
	if err != nil {
		return d, err
	}
	for _, twin := range w.twins[m] {
		t, err := w.copyOne(twin, io.Discard)
		if err != nil {
			return d, err
		}
		if t != d {
			return d, differf(w.archive.members[m].name, w.archive.members[twin].name)
		}
	}
	return d, nil
}

// copyOne writes the bytes of member m alone.
func (w *Wheel) copyOne(m int, dst io.Writer) (digest.Digest, error) {
	d, err := w.archive.copyMember(dst, &w.archive.members[m], w.sums[m])
	if e := (*Error)(nil); errors.As(err, &e) && e.Record {
		return d, w.badRecord(err)
	}
	return d, err
}

// badRecord is the answer to err, which says what is wrong with RECORD.
func (w *Wheel) badRecord(err error) error {
	if !w.opt.AllowBadRecord {
		return err
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		e.Record = false // the hint has been followed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.info.warnf("%v", err)
	return nil
}

// readMetadata reads METADATA, WHEEL and entry_points.txt.
func (w *Wheel) readMetadata(l *listing, file tag.WheelName) error {
	w.info.DistInfo = l.distInfo
	for _, f := range []struct {
		name     string
		optional bool
		parse    func([]byte) error
	}{
		{"METADATA", false, func(b []byte) error { return w.info.parseMetadata(b, file) }},
		{"WHEEL", false, w.info.parseWheel},
		{"entry_points.txt", true, w.parseEntryPoints},
	} {
		path := l.distInfo + "/" + f.name
		m, ok := l.byPath[path]
		if !ok && f.optional {
			continue
		}
		if !ok {
			return invalidf("no %q", path)
		}
		b, err := w.archive.readMember(&l.members[m], maxMetadata)
		if err != nil {
			return err
		}
		if err := f.parse(b); err != nil {
			return fmt.Errorf("member %q: %w", path, err)
		}
	}
	return nil
}

func (w *Wheel) parseEntryPoints(b []byte) error {
	points, warnings, err := ParseEntryPoints(b)
	w.info.EntryPoints = points
	for _, s := range warnings {
		w.info.warnf("%s", s)
	}
	return err
}
