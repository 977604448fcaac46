package wheel

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A recordRow is one row of RECORD (packaging.python.org, "Recording installed
// projects"): a path, the sum of its bytes and their number.
type recordRow struct {
	path string // as listed
	sum  recordSum
	size int64 // -1 where the row has none
}

// A recordSum is a hash as RECORD lists it. The zero recordSum lists none.
type recordSum struct {
	algorithm string
	sum       []byte
}

// newHash returns the hash to compute beside SHA-256, or nil.
func (s recordSum) newHash() hash.Hash {
	switch s.algorithm {
	case "sha384":
		return sha512.New384()
	case "sha512":
		return sha512.New()
	}
	return nil
}

// check compares the sum that was computed with the one that is listed.
func (s recordSum) check(sum []byte) error {
	if s.algorithm == "" || bytes.Equal(s.sum, sum) {
		return nil
	}
	return invalidRecordf("%s is %s, RECORD says %s", s.algorithm, encodeSum(sum), encodeSum(s.sum))
}

func encodeSum(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sumSizes holds the algorithms that RECORD may use, those that are no weaker
// than SHA-256, and the length of their sums in bytes.
var sumSizes = map[string]int{"sha256": 32, "sha384": 48, "sha512": 64}

// parseSum reads "sha256=" and an urlsafe base64 sum without padding; padding,
// which some builders leave in place, is accepted. No text is no sum.
func parseSum(s string) (recordSum, error) {
	if s == "" {
		return recordSum{}, nil
	}
	algorithm, text, _ := strings.Cut(s, "=")
	size, ok := sumSizes[algorithm]
	if !ok {
		return recordSum{}, fmt.Errorf("hash %.200q, want one of sha256, sha384 and sha512", s)
	}
	sum, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(sum) != size {
		return recordSum{}, fmt.Errorf("hash %.200q is not the urlsafe base64 of %d bytes", s, size)
	}
	return recordSum{algorithm, sum}, nil
}

// parseRecord reads the rows of RECORD. It asks bad what to make of a row that
// it can't read: an error ends the reading, nil leaves out the row.
func parseRecord(b []byte, bad func(error) error) ([]recordRow, error) {
	if !utf8.Valid(b) {
		return nil, bad(invalidRecordf("RECORD is not UTF-8"))
	}
	text := string(b)
	rows := make([]recordRow, 0, strings.Count(text, "\n")+1)
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

func parseRow(line string) (recordRow, error) {
	f, err := splitCSV(line)
	if err != nil {
		return recordRow{}, err
	}
	if len(f) != 3 {
		return recordRow{}, fmt.Errorf("%d fields, want path, hash and size: %.200q", len(f), line)
	}
	row := recordRow{path: f[0], size: -1}
	if row.sum, err = parseSum(f[1]); err != nil {
		return recordRow{}, fmt.Errorf("%.200q: %w", row.path, err)
	}
	if f[2] != "" {
		size, err := strconv.ParseUint(f[2], 10, 63)
		if err != nil {
			return recordRow{}, fmt.Errorf("%.200q: size %.200q is not a number of bytes", row.path, f[2])
		}
		row.size = int64(size)
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
