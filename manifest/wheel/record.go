package wheel

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A RecordRow is one row of RECORD (packaging.python.org, "Recording installed
// projects"): a path, the sum of its bytes and their number.
type RecordRow struct {
	Path string // as listed
	Sum  RecordSum
	Size int64 // in bytes, -1 where the row has none
}

// A RecordSum is a hash as RECORD lists it. The zero RecordSum lists none.
type RecordSum struct {
	Algorithm string // "sha256", "sha384" or "sha512"
	Sum       []byte
}

// newHash returns the hash to compute beside SHA-256, or nil.
func (s RecordSum) newHash() hash.Hash {
	switch s.Algorithm {
	case "sha384":
		return sha512.New384()
	case "sha512":
		return sha512.New()
	}
	return nil
}

// check compares the sum that was computed with the one that is listed.
func (s RecordSum) check(sum []byte) error {
	if s.Algorithm == "" || bytes.Equal(s.Sum, sum) {
		return nil
	}
	return invalidRecordf("%s is %s, RECORD says %s", s.Algorithm, encodeSum(sum), encodeSum(s.Sum))
}

func encodeSum(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sumSizes holds the algorithms that RECORD may use, those that are no weaker
// than SHA-256, and the length of their sums in bytes.
var sumSizes = map[string]int{"sha256": 32, "sha384": 48, "sha512": 64}

// parseSum reads "sha256=" and an urlsafe base64 sum without padding; padding,
// which some builders leave in place, is accepted. No text is no sum.
func parseSum(s string) (RecordSum, error) {
	if s == "" {
		return RecordSum{}, nil
	}
	algorithm, text, _ := strings.Cut(s, "=")
	size, ok := sumSizes[algorithm]
	if !ok {
		return RecordSum{}, fmt.Errorf("hash %.200q, want one of sha256, sha384 and sha512", s)
	}
	sum, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(sum) != size {
		return RecordSum{}, fmt.Errorf("hash %.200q is not the urlsafe base64 of %d bytes", s, size)
	}
	return RecordSum{algorithm, sum}, nil
}

// ParseRecord reads the rows of a RECORD file, a wheel's or an installed one. It
// asks bad what to make of a row that it can't read: an error ends the reading,
// nil leaves out the row.
func ParseRecord(b []byte, bad func(error) error) ([]RecordRow, error) {
	if !utf8.Valid(b) {
		return nil, bad(invalidRecordf("RECORD is not UTF-8"))
	}
	text := string(b)
	rows := make([]RecordRow, 0, strings.Count(text, "\n")+1)
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if line == "" {
			continue
		}
		row, err := parseRow(line)
		if err != nil {
			if err := bad(invalidRecordf("RECORD line %d: %v", n, err)); err != nil {
				return nil, err
			}
			continue
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// FormatRecord returns the RECORD file with those rows: sorted by path as pip sorts
// them, ended by LF.
func FormatRecord(rows []RecordRow) []byte {
	rows = slices.SortedFunc(slices.Values(rows), func(a, b RecordRow) int { return strings.Compare(a.Path, b.Path) })
	var b []byte
	for _, r := range rows {
		b = append(append(b, QuoteField(r.Path)...), ',')
		if r.Sum.Algorithm != "" {
			b = append(append(append(b, r.Sum.Algorithm...), '='), encodeSum(r.Sum.Sum)...)
		}
		b = append(b, ',')
		if r.Size >= 0 {
			b = strconv.AppendInt(b, r.Size, 10)
		}
		b = append(b, '\n')
	}
	return b
}

// QuoteField returns a field as Python's csv writer does.
func QuoteField(s string) string {
	if strings.ContainsAny(s, ",\"\r\n") {
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	return s
}

func parseRow(line string) (RecordRow, error) {
	f, err := splitCSV(line)
	if err != nil {
		return RecordRow{}, err
	}
	if len(f) != 3 {
		return RecordRow{}, fmt.Errorf("%d fields, want path, hash and size: %.200q", len(f), line)
	}
	row := RecordRow{Path: f[0], Size: -1}
	if row.Sum, err = parseSum(f[1]); err != nil {
		return RecordRow{}, fmt.Errorf("%.200q: %w", row.Path, err)
	}
	if f[2] != "" {
		size, err := strconv.ParseUint(f[2], 10, 63)
		if err != nil {
			return RecordRow{}, fmt.Errorf("%.200q: size %.200q is not a number of bytes", row.Path, f[2])
		}
		row.Size = int64(size)
	}
	return row, nil
}

// splitCSV splits one row as Python's csv module does (RFC 4180, quotes doubled
// within quotes). No name in an archive holds a control character, so neither
// does a row: what a quoted line break would mean is never asked.
func splitCSV(line string) ([]string, error) {
	for _, c := range line {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' {
			return nil, fmt.Errorf("control character %U in %.200q", c, line)
		}
	}
	if !strings.Contains(line, `"`) {
		return strings.Split(line, ","), nil
	}
	var fields []string
	for {
		if !strings.HasPrefix(line, `"`) {
			field, rest, more := strings.Cut(line, ",")
			fields = append(fields, field)
			if !more {
				return fields, nil
			}
			line = rest
			continue
		}
		field, rest, err := cutQuoted(line)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field)
		if rest == "" {
			return fields, nil
		}
		line = rest[1:]
	}
}

// cutQuoted cuts the quoted field off the front of line; what remains is empty
// or starts with the comma.
func cutQuoted(line string) (field, rest string, err error) {
	var b strings.Builder
	rest = line[1:]
	for {
		text, after, closed := strings.Cut(rest, `"`)
		if !closed {
			return "", "", fmt.Errorf("a quote is not closed: %.200q", line)
		}
		b.WriteString(text)
		if !strings.HasPrefix(after, `"`) {
			rest = after
			break
		}
		b.WriteByte('"')
		rest = after[1:]
	}
	if rest != "" && rest[0] != ',' {
		return "", "", fmt.Errorf("text follows a closing quote: %.200q", line)
	}
	return b.String(), rest, nil
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
	rows, err := ParseRecord(b, w.badRecord)
	if err != nil {
		return err
	}
	return w.attach(l, rows)
}

// attach holds each row to its member, and each member to having a row.
func (w *Wheel) attach(l *listing, rows []RecordRow) error {
	listed := make([]bool, len(l.members))
	for _, row := range rows {
		// Rows such as "/x" and "./x" are seen in old wheels and mean "x".
		path, err := cleanPath(strings.TrimLeft(row.Path, "/"))
		if err != nil {
			return invalidf("RECORD row %.200q leaves the directory it is installed in", row.Path)
		}
		m, ok := l.byPath[path]
		if !ok {
			if !strings.HasSuffix(row.Path, "/") {
				w.info.warnf("RECORD lists %.200q, which is not in the wheel", row.Path)
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
func (w *Wheel) attachRow(m int, row RecordRow, again bool) error {
	size := w.archive.members[m].size
	switch {
	case row.Sum.Algorithm == "":
		return invalidRecordf("RECORD has no hash for %q", row.Path)
	case row.Size >= 0 && row.Size != size:
		return invalidRecordf("member %q has %d bytes, RECORD says %d", row.Path, size, row.Size)
	case again && (row.Sum.Algorithm != w.sums[m].Algorithm || !slices.Equal(row.Sum.Sum, w.sums[m].Sum)):
		return invalidRecordf("RECORD lists %q twice, with different hashes", row.Path)
	}
	w.sums[m] = row.Sum
	return nil
}

// isUnlisted reports whether RECORD need not list path: it can't hold its own
// hash, nor those of its signatures.
func (l *listing) isUnlisted(path string) bool {
	name, ok := strings.CutPrefix(path, l.distInfo+"/")
	return ok && (name == "RECORD" || name == "RECORD.jws" || name == "RECORD.p7s")
}
