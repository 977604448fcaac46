package lock

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
)

// A DirectURL is the content of a direct_url.json: where a package came from
// that wasn't found in an index (PEP 610 and "Direct URL Data Structure").
// Exactly one of Archive, Dir and VCS is set.
type DirectURL struct {
	URL          string
	Subdirectory string
	Archive      *ArchiveInfo
	Dir          *DirInfo
	VCS          *VCSInfo
}

// ArchiveInfo says that the URL is one of an archive.
type ArchiveInfo struct {
	Hashes map[string]string // algorithm to hexadecimal digits
}

// DirInfo says that the URL is one of a local directory.
type DirInfo struct{ Editable bool }

// VCSInfo says that the URL is one of a repository.
type VCSInfo struct {
	VCS               string
	CommitID          string
	RequestedRevision string
}

// ParseDirectURL reads a direct_url.json. An error about one value of it is a
// [*FieldError].
func ParseDirectURL(data []byte) (DirectURL, error) {
	var values map[string]any
	if err := json.Unmarshal(data, &values); err != nil {
		return DirectURL{}, fmt.Errorf("not a JSON object: %w", err)
	}
	maps.DeleteFunc(values, func(_ string, v any) bool { return v == nil }) // null is no value
	t := &table{index: -1, values: values, errs: new(errorList)}
	var d DirectURL
	d.URL, _ = required[string](t, "url")
	d.Subdirectory, _ = value[string](t, "subdirectory")
	infos := 0
	if info := t.table("archive_info"); info != nil {
		infos++
		d.Archive = &ArchiveInfo{Hashes: archiveHashes(info)}
	}
	if info := t.table("dir_info"); info != nil {
		infos++
		d.Dir = new(DirInfo)
		d.Dir.Editable, _ = value[bool](info, "editable")
	}
	if info := t.table("vcs_info"); info != nil {
		infos++
		d.VCS = new(VCSInfo)
		d.VCS.VCS, _ = required[string](info, "vcs")
		d.VCS.CommitID, _ = required[string](info, "commit_id")
		d.VCS.RequestedRevision, _ = value[string](info, "requested_revision")
	}
	if t.errs.first == nil && infos != 1 {
		return DirectURL{}, fmt.Errorf("found %d of archive_info, dir_info and vcs_info, want exactly one", infos)
	}
	if d.Dir != nil && !isAbsoluteFileURL(d.URL) {
		t.failf("url", "found %q beside dir_info, want a file URL with an absolute path", Redacted(d.URL))
	}
	return d, t.errs.first
}

// archiveHashes reads hashes and the older hash, which must be one of them.
func archiveHashes(t *table) map[string]string {
	var hashes map[string]string
	if h := t.table("hashes"); h != nil {
		hashes = make(map[string]string, len(h.values))
		for algorithm, found := range h.values {
			s, ok := found.(string)
			if !ok {
				t.failf("hashes", "found %s for %s, want a string", kind(found), algorithm)
			}
			hashes[algorithm] = s
		}
	}
	legacy, ok := value[string](t, "hash")
	if !ok {
		return hashes
	}
	algorithm, digits, ok := strings.Cut(legacy, "=")
	if !ok {
		t.failf("hash", "found %q, want algorithm=digits", legacy)
		return hashes
	}
	if hashes == nil {
		return map[string]string{algorithm: digits}
	}
	switch found, listed := hashes[algorithm]; {
	case !listed:
		t.failf("hashes", "no %s, which hash has", algorithm)
	case found != digits:
		t.failf("hash", "found %q, want %q as in hashes", digits, found)
	}
	return hashes
}

func isAbsoluteFileURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "file" && strings.HasPrefix(u.Path, "/")
}

// Encode returns the bytes that pip writes for d: JSON as Python's
// json.dumps(sort_keys=True) spells it, without a user name and password, and
// with the older hash beside hashes.
func (d DirectURL) Encode() []byte {
	var b pythonJSON
	var fields []jsonField
	if a := d.Archive; a != nil {
		fields = append(fields, jsonField{"archive_info", a.fields()})
	}
	if d.Dir != nil {
		var editable []jsonField
		if d.Dir.Editable {
			editable = append(editable, jsonField{"editable", true})
		}
		fields = append(fields, jsonField{"dir_info", editable})
	}
	if d.Subdirectory != "" {
		fields = append(fields, jsonField{"subdirectory", d.Subdirectory})
	}
	fields = append(fields, jsonField{"url", d.storedURL()})
	if v := d.VCS; v != nil {
		info := []jsonField{{"commit_id", v.CommitID}}
		if v.RequestedRevision != "" {
			info = append(info, jsonField{"requested_revision", v.RequestedRevision})
		}
		fields = append(fields, jsonField{"vcs_info", append(info, jsonField{"vcs", v.VCS})})
	}
	b.object(fields)
	return b.buf
}

func (a ArchiveInfo) fields() []jsonField {
	algorithms := slices.Sorted(maps.Keys(a.Hashes))
	if len(algorithms) == 0 {
		return nil
	}
	hashes := make([]jsonField, len(algorithms))
	for i, algorithm := range algorithms {
		hashes[i] = jsonField{algorithm, a.Hashes[algorithm]}
	}
	first := algorithms[0]
	if _, ok := a.Hashes["sha256"]; ok {
		first = "sha256" // what pip computes where nobody gave it a hash
	}
	return []jsonField{{"hash", first + "=" + a.Hashes[first]}, {"hashes", hashes}}
}

// storedURL is the URL without credentials. A user name "git" stays, and so do
// environment variables in their place (PEP 610, "Specification").
func (d DirectURL) storedURL() string {
	scheme, rest, ok := strings.Cut(d.URL, "://")
	if !ok {
		return d.URL
	}
	host, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(host, '@')
	if at < 0 || isVariables(host[:at]) || d.VCS != nil && d.VCS.VCS == "git" && host[:at] == "git" {
		return d.URL
	}
	return scheme + "://" + rest[at+1:]
}

// isVariables reports whether s is ${USER} or ${USER}:${PASSWORD}.
func isVariables(s string) bool {
	user, password, both := strings.Cut(s, ":")
	return isVariable(user) && (!both || isVariable(password))
}

func isVariable(s string) bool {
	name, ok := strings.CutPrefix(s, "${")
	name, closed := strings.CutSuffix(name, "}")
	return ok && closed && name != "" && strings.IndexFunc(name, func(r rune) bool {
		return !(r == '_' || r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z')
	}) < 0
}

// pythonJSON writes JSON as Python's json.dumps does by default: ", " and ": "
// between things, everything outside ASCII escaped, nothing else than must be.
type pythonJSON struct{ buf []byte }

// A jsonField holds a string, true or the fields of an object.
type jsonField struct {
	key   string
	value any
}

func (p *pythonJSON) object(fields []jsonField) {
	p.buf = append(p.buf, '{')
	for i, f := range fields {
		if i > 0 {
			p.buf = append(p.buf, ", "...)
		}
		p.string(f.key)
		p.buf = append(p.buf, ": "...)
		switch v := f.value.(type) {
		case string:
			p.string(v)
		case bool:
			p.buf = fmt.Append(p.buf, v)
		case []jsonField:
			p.object(v)
		}
	}
	p.buf = append(p.buf, '}')
}

func (p *pythonJSON) string(s string) {
	p.buf = append(p.buf, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			p.buf = append(p.buf, '\\', byte(r))
		case r == '\n':
			p.buf = append(p.buf, `\n`...)
		case r == '\r':
			p.buf = append(p.buf, `\r`...)
		case r == '\t':
			p.buf = append(p.buf, `\t`...)
		case r == '\b':
			p.buf = append(p.buf, `\b`...)
		case r == '\f':
			p.buf = append(p.buf, `\f`...)
		case r < ' ' || r > '~':
			for _, unit := range utf16.Encode([]rune{r}) {
				p.buf = fmt.Appendf(p.buf, `\u%04x`, unit)
			}
		default:
			p.buf = append(p.buf, byte(r))
		}
	}
	p.buf = append(p.buf, '"')
}
