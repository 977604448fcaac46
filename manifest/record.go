package manifest

import (
	"bytes"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// record is a RECORD file in the making (packaging.python.org, "Recording
// installed projects"): a row for every file of a distribution, by path
// relative to the directory that holds the dist-info.
type record struct {
	site string
	rows []recordRow
}

type recordRow struct{ path, rest string }

// add lists the file at a path of the environment.
func (r *record) add(p string, d digest.Digest, size int64) {
	r.rows = append(r.rows, recordRow{r.relative(p), hashAndSize(d, size)})
}

// addUnhashed lists a file whose content depends on where the environment is,
// and RECORD itself.
func (r *record) addUnhashed(p string) {
	r.rows = append(r.rows, recordRow{r.relative(p), ",,"})
}

func hashAndSize(d digest.Digest, size int64) string {
	return ",sha256=" + d.Record() + "," + strconv.FormatInt(size, 10)
}

// relative returns p, a path of the environment, as seen from the site directory.
func (r *record) relative(p string) string {
	from, ups := r.site, ""
	for from != "." {
		if rest, ok := strings.CutPrefix(p, from+"/"); ok {
			return ups + rest
		}
		from, ups = path.Dir(from), ups+"../"
	}
	return ups + p
}

// bytes returns the file: rows sorted by path as pip sorts them, ended by LF.
func (r *record) bytes() []byte {
	slices.SortFunc(r.rows, func(a, b recordRow) int { return strings.Compare(a.path, b.path) })
	var out bytes.Buffer
	for _, row := range r.rows {
		out.WriteString(wheel.QuoteField(row.path) + row.rest + "\n")
	}
	return out.Bytes()
}

// insertRow returns a RECORD file with one more row in its sorted place. The
// file is one that bytes returned; no path in it holds a line end.
func insertRow(file []byte, p string, d digest.Digest, size int64) []byte {
	at := 0
	for at < len(file) {
		end := at + bytes.IndexByte(file[at:], '\n') + 1
		if end == at {
			end = len(file)
		}
		if rowPath(file[at:end]) > p {
			break
		}
		at = end
	}
	row := wheel.QuoteField(p) + hashAndSize(d, size) + "\n"
	return slices.Concat(file[:at], []byte(row), file[at:])
}

// rowPath returns the path of a row.
func rowPath(row []byte) string {
	if row[0] != '"' {
		p, _, _ := bytes.Cut(row, []byte(","))
		return string(p)
	}
	var p []byte
	for rest := row[1:]; ; {
		part, after, _ := bytes.Cut(rest, []byte(`"`))
		p = append(p, part...)
		if len(after) == 0 || after[0] != '"' {
			return string(p)
		}
		p, rest = append(p, '"'), after[1:]
	}
}
