// Package wheel reads a wheel (packaging.python.org, "Binary distribution
// format") and says what it installs.
//
// A wheel is hostile input. Open accepts one only when its ZIP structure leaves
// no room for a second reading, its names stay inside the directories they are
// for, and its metadata agree with its file name; Extract and CheckRest hold
// every byte to the CRC-32, the declared size and RECORD. An ingest that calls
// CheckRest and Extract for every file has read each member exactly once, and
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
	"slices"
	"strings"
	"sync"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/pyver"
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
	sums    []recordSum // by member
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
		sums:    make([]recordSum, len(a.members)),
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
		return invalidf("unpacks to %d bytes, want at most %d", total, maxTotal)
	}
	if total > ratioFree && total/maxRatio > size {
		return invalidf("unpacks to %d bytes, %d times its size, want at most %d times", total, total/max(size, 1), maxRatio)
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

func differf(a, b string) error {
	if a == b {
		return invalidf("member %q is there more than once, with different bytes", a)
	}
	return invalidf("members %q and %q go to one place and have different bytes", a, b)
}

// A listing is the members of an archive by path.
type listing struct {
	members  []member
	paths    []string       // by member; clean; empty for directories and twins
	byPath   map[string]int // files
	distInfo string
	dataDir  string // empty if there is none
}

// list cleans the names of all members and finds files that are there twice.
func (w *Wheel) list() (*listing, error) {
	members := w.archive.members
	l := &listing{members: members, paths: make([]string, len(members)), byPath: make(map[string]int, len(members))}
	for i := range members {
		m := &members[i]
		path, err := cleanPath(m.name)
		if err != nil {
			return nil, err
		}
		if m.isDir() {
			w.rest = append(w.rest, i)
			continue
		}
		if path == "" {
			return nil, invalidf("member %q names no file", m.name)
		}
		first, again := l.byPath[path]
		if !again {
			l.byPath[path] = i
			l.paths[i] = path
			continue
		}
		if err := w.addTwin(first, i); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// addTwin demands that member twin has the bytes of member m. Sizes and CRC-32
// are compared at once, the bytes when they are read.
func (w *Wheel) addTwin(m, twin int) error {
	a, b := &w.archive.members[m], &w.archive.members[twin]
	if a.size != b.size || a.crc != b.crc {
		return differf(a.name, b.name)
	}
	w.twins[m] = append(w.twins[m], twin)
	return nil
}

// findTops finds the one *.dist-info directory and the one *.data directory.
// Both must be of the project name.
func (l *listing) findTops(name string) error {
	for _, path := range l.paths {
		top, _, inside := strings.Cut(path, "/")
		isInfo, isData := strings.HasSuffix(top, ".dist-info"), strings.HasSuffix(top, ".data")
		if !isInfo && !isData {
			continue
		}
		found := &l.distInfo
		stem := strings.TrimSuffix(top, ".dist-info")
		if isData {
			found = &l.dataDir
			stem = strings.TrimSuffix(top, ".data")
		}
		switch {
		case *found == top:
		case !inside:
			return invalidf("%q is a file, want a directory", top)
		case *found != "":
			return invalidf("directories %q and %q, want one", *found, top)
		case !isStemOf(stem, name):
			return invalidf("directory %q is not of the project %q in the file name", top, name)
		}
		*found = top
	}
	if l.distInfo == "" {
		return invalidf("no %q directory: not a wheel", "*.dist-info")
	}
	return nil
}

// isStemOf reports whether stem is NAME-VERSION for the canonical name. Old
// builders left dashes in names, so each dash may be the one between them.
func isStemOf(stem, name string) bool {
	for i, c := range stem {
		if c == '-' && pyver.CanonicalName(stem[:i]) == name {
			return true
		}
	}
	return false
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
	points, warnings, err := parseEntryPoints(b)
	w.info.EntryPoints = points
	for _, s := range warnings {
		w.info.warnf("%s", s)
	}
	return err
}

// readRecord attaches the rows of RECORD to the members.
func (w *Wheel) readRecord(l *listing) error {
	path := l.distInfo + "/RECORD"
	m, ok := l.byPath[path]
	if !ok {
		return w.badRecord(invalidRecordf("no %q", path))
	}
	// A row repeats the name of a directory entry and adds less than twice that
	// entry's fixed part, so an honest RECORD fits, and memory stays bounded.
	b, err := w.archive.readMember(&l.members[m], 1<<20+4*w.archive.directory)
	if err != nil {
		return err
	}
	rows, err := parseRecord(b, w.badRecord)
	if err != nil {
		return err
	}
	return w.attach(l, rows)
}

// attach holds each row to its member, and each member to having a row.
func (w *Wheel) attach(l *listing, rows []recordRow) error {
	listed := make([]bool, len(l.members))
	for _, row := range rows {
		// Rows such as "/x" and "./x" are seen in old wheels and mean "x".
		path, err := cleanPath(strings.TrimLeft(row.path, "/"))
		if err != nil {
			return invalidf("RECORD row %.200q leaves the directory it is installed in", row.path)
		}
		m, ok := l.byPath[path]
		if !ok {
			if !strings.HasSuffix(row.path, "/") {
				w.info.warnf("RECORD lists %.200q, which is not in the wheel", row.path)
			}
			continue
		}
		if l.isUnlisted(path) {
			continue
		}
		if err := w.attachRow(m, row, listed[m]); err != nil {
			if err := w.badRecord(err); err != nil {
				return err
			}
		}
		listed[m] = true
	}
	for m, path := range l.paths {
		if path == "" || listed[m] || l.isUnlisted(path) {
			continue
		}
		if err := w.badRecord(invalidRecordf("RECORD does not list %q", path)); err != nil {
			return err
		}
	}
	return nil
}

// attachRow sets the sum of member m; again says that an earlier row did.
func (w *Wheel) attachRow(m int, row recordRow, again bool) error {
	size := w.archive.members[m].size
	switch {
	case row.sum.algorithm == "":
		return invalidRecordf("RECORD has no hash for %q", row.path)
	case row.size >= 0 && row.size != size:
		return invalidRecordf("member %q has %d bytes, RECORD says %d", row.path, size, row.size)
	case again && (row.sum.algorithm != w.sums[m].algorithm || !slices.Equal(row.sum.sum, w.sums[m].sum)):
		return invalidRecordf("RECORD lists %q twice, with different hashes", row.path)
	}
	w.sums[m] = row.sum
	return nil
}

// isUnlisted reports whether RECORD need not list path: it can't hold its own
// hash, nor those of its signatures.
func (l *listing) isUnlisted(path string) bool {
	name, ok := strings.CutPrefix(path, l.distInfo+"/")
	return ok && (name == "RECORD" || name == "RECORD.jws" || name == "RECORD.p7s")
}

// placeFiles decides where each file goes.
func (w *Wheel) placeFiles(l *listing) error {
	points := make(map[string]bool, len(w.info.EntryPoints))
	for _, p := range w.info.EntryPoints {
		points[p.Name] = true
	}
	type placed struct {
		place
		member int
	}
	at := make(map[place]int, len(l.byPath)) // by shared root, the index into files
	var files []placed
	for m, path := range l.paths {
		if path == "" {
			continue
		}
		p, err := spread(path, l.dataDir, w.info.Purelib)
		if err != nil {
			return err
		}
		if inBytecode(path) || l.isReplaced(path) || p.scheme == Scripts && isWrapper(p.path, points) {
			w.rest = append(w.rest, m)
			continue
		}
		if first, again := at[p.root()]; again {
			if err := w.addTwin(files[first].member, m); err != nil {
				return err
			}
			continue
		}
		at[p.root()] = len(files)
		files = append(files, placed{p, m})
	}
	slices.SortFunc(files, func(a, b placed) int { return a.compare(b.place) })
	for _, f := range files {
		file, err := w.file(f.place, f.member)
		if err != nil {
			return err
		}
		w.info.Files = append(w.info.Files, file)
		w.files = append(w.files, f.member)
	}
	return w.checkPlaces()
}

// isReplaced reports whether an installer writes a file of its own at path.
func (l *listing) isReplaced(path string) bool {
	name, ok := strings.CutPrefix(path, l.distInfo+"/")
	return ok && (name == "RECORD" || name == "INSTALLER" || name == "REQUESTED" || name == "direct_url.json")
}

// Unix file types, in the high half of a member's attributes. They count
// whatever system the archive says it was made on: Python's zipfile writes
// them and pip acts on them so.
const (
	typeMask    = 0o170000
	typeRegular = 0o100000
	typeSymlink = 0o120000
)

// file describes what member m becomes at p.
func (w *Wheel) file(p place, m int) (File, error) {
	src := &w.archive.members[m]
	mode := src.attrs >> 16
	f := File{
		Scheme: p.scheme,
		Path:   p.path,
		Exec:   mode&typeMask == typeRegular && mode&0o111 != 0,
		Size:   src.size,
	}
	if mode&typeMask == typeSymlink {
		w.info.warnf("%q is a symbolic link in the archive; it becomes a file that holds the link's target", src.name)
	}
	if sum := w.sums[m]; sum.algorithm == "sha256" && !w.opt.AllowBadRecord {
		f.Digest = digest.Digest(sum.sum)
	}
	if p.scheme != Scripts {
		return f, nil
	}
	f.Exec = true
	var err error
	f.Python, err = w.archive.startsWith(src, "#!python")
	return f, err
}

// checkPlaces refuses a file where another file's directory is, and warns of
// names that some filesystems hold to be one.
func (w *Wheel) checkPlaces() error {
	dirs := map[place]bool{}
	folded := make(map[place]string, len(w.info.Files))
	fold := cases.Fold()
	for i := range w.info.Files {
		p := place{w.info.Files[i].Scheme, w.info.Files[i].Path}.root()
		for dir := p; ; {
			slash := strings.LastIndexByte(dir.path, '/')
			if slash < 0 {
				break
			}
			dir.path = dir.path[:slash]
			if dirs[dir] {
				break // and so are its parents
			}
			dirs[dir] = true
		}
		key := place{p.scheme, foldPath(fold, p.path)}
		if other, ok := folded[key]; ok {
			w.info.warnf("%q and %q differ only by case or Unicode form: a filesystem that ignores these can't hold both", other, p.path)
		}
		folded[key] = p.path
	}
	for i := range w.info.Files {
		p := place{w.info.Files[i].Scheme, w.info.Files[i].Path}
		if dirs[p.root()] {
			return invalidf("%q in %s is a file and a directory", p.path, p.scheme)
		}
	}
	return nil
}

// foldPath returns the form that paths share which differ only by case or by
// Unicode normalisation.
func foldPath(fold cases.Caser, path string) string {
	for i := range len(path) {
		if path[i] >= 0x80 {
			return norm.NFC.String(fold.String(norm.NFC.String(path)))
		}
	}
	return strings.ToLower(path)
}
