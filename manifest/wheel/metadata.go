package wheel

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/tag"
)

// A format is the version of a file format.
type format struct{ major, minor uint64 }

func (f format) String() string { return fmt.Sprintf("%d.%d", f.major, f.minor) }

// The newest formats that are known here. A newer minor version only adds
// fields that an installer may pass over.
var (
	wheelFormat    = format{1, 0} // "Binary distribution format"
	metadataFormat = format{2, 5} // "Core metadata specifications"
)

// headers are the fields of METADATA or WHEEL, in order.
type headers []struct {
	name  string // lower-case
	value []byte // folded as in the file
}

// parseHeaders reads the fields before the first empty line, in the form that
// METADATA and WHEEL share with e-mail (RFC 5322): names in any case, a line
// that starts with white space continues the one before.
func parseHeaders(b []byte) headers {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	var h headers
	start := 0 // of the last value
	for at := 0; at < len(b); {
		line, _, _ := bytes.Cut(b[at:], []byte("\n"))
		end := at + len(line)
		if len(bytes.TrimSuffix(line, []byte("\r"))) == 0 {
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			name, value, ok := bytes.Cut(line, []byte(":"))
			if !ok {
				break // the body starts here, as Python's email package has it
			}
			start = end - len(value)
			h = append(h, struct {
				name  string
				value []byte
			}{strings.ToLower(string(name)), value})
		} else if len(h) > 0 {
			h[len(h)-1].value = b[start:end]
		}
		at = end + 1
	}
	return h
}

// get returns the first value of name, and whether there is one.
func (h headers) get(name string) (string, bool) {
	for _, f := range h {
		if f.name == name {
			return unfold(f.value), true
		}
	}
	return "", false
}

// all returns every value of name.
func (h headers) all(name string) []string {
	var values []string
	for _, f := range h {
		if f.name == name {
			values = append(values, unfold(f.value))
		}
	}
	return values
}

// unfold joins the lines of a value.
func unfold(value []byte) string {
	return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(string(value)))
}

// parseMetadata fills info from METADATA and holds it to the file name.
func (info *Info) parseMetadata(b []byte, file tag.WheelName) error {
	h := parseHeaders(b)
	name, version := "", ""
	for _, want := range []struct {
		field string
		value *string
	}{{"Name", &name}, {"Version", &version}} {
		v, ok := h.get(strings.ToLower(want.field))
		if !ok || v == "" {
			return invalidf("has no %s", want.field)
		}
		*want.value = v
	}
	if pyver.CanonicalName(name) != file.Name {
		return invalidf("Name is %.200q, the file name says %q", name, file.RawName)
	}
	v, err := pyver.Parse(version)
	if err != nil {
		return invalidf("Version: %v", err)
	}
	if v.Compare(file.Version) != 0 {
		return invalidf("Version is %.200q, the file name says %q", version, file.RawVersion)
	}
	if version, ok := h.get("metadata-version"); !ok {
		info.warnf("METADATA has no Metadata-Version")
	} else if err := info.checkFormat("Metadata-Version", version, metadataFormat); err != nil {
		return err
	}
	info.Name, info.RawName, info.Version = file.Name, name, v.String()
	info.RequiresPython, _ = h.get("requires-python")
	info.RequiresDist = h.all("requires-dist")
	info.ProvidesExtra = h.all("provides-extra")
	for _, s := range slices.Concat([]string{info.RequiresPython}, info.RequiresDist, info.ProvidesExtra) {
		if !utf8.ValidString(s) {
			return invalidf("field %.200q is not UTF-8", s)
		}
	}
	return nil
}

// parseWheel fills info from the WHEEL file. Tags that the file name does not
// have are a warning: installers go by the file name.
func (info *Info) parseWheel(b []byte) error {
	h := parseHeaders(b)
	version, ok := h.get("wheel-version")
	if !ok {
		return invalidf("has no Wheel-Version")
	}
	if err := info.checkFormat("Wheel-Version", version, wheelFormat); err != nil {
		return err
	}
	purelib, _ := h.get("root-is-purelib")
	info.Purelib = strings.EqualFold(purelib, "true")
	var tags []string
	for _, s := range h.all("tag") {
		parsed, err := tag.Parse(s)
		if err != nil {
			info.warnf("WHEEL: %v", err)
			continue
		}
		for _, t := range parsed {
			tags = append(tags, t.String())
		}
	}
	slices.Sort(tags)
	named := slices.Sorted(slices.Values(info.Tags))
	if tags = slices.Compact(tags); len(tags) > 0 && !slices.Equal(tags, named) {
		info.warnf("WHEEL has the tags %s, the file name %s", strings.Join(tags, " "), strings.Join(named, " "))
	}
	return nil
}

// checkFormat refuses a format version of another major number than the known
// one and warns of a newer minor one. Metadata 1.x is a subset of 2.x.
func (info *Info) checkFormat(field, version string, known format) error {
	f, err := parseFormat(version)
	if err != nil {
		return invalidf("%s: %v", field, err)
	}
	switch {
	case f.major > known.major:
		return invalidf("%s is %.200q, want %d.x: this needs a newer sitefs", field, version, known.major)
	case f.major == 0:
		return invalidf("%s is %.200q, want 1.0 or later", field, version)
	case f.major == known.major && f.minor > known.minor:
		info.warnf("%s is %s, newer than %s", field, version, known)
	}
	return nil
}

// parseFormat reads a version such as "1", "1.0" or "2.1".
func parseFormat(s string) (f format, err error) {
	major, minor, ok := strings.Cut(s, ".")
	if f.major, err = strconv.ParseUint(major, 10, 32); err == nil && ok {
		f.minor, err = strconv.ParseUint(minor, 10, 32)
	}
	if err != nil {
		return format{}, fmt.Errorf("%.200q is not a version such as %q", s, "1.0")
	}
	return f, nil
}
