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

// The newest formats that are known here; a newer minor version of one only
// adds fields that an installer may pass over.
const (
	wheelVersion    = "1.0" // Binary distribution format
	metadataVersion = "2.5" // Core metadata specifications
)

// A header is one field of METADATA or WHEEL.
type header struct{ name, value string }

// parseHeaders reads the fields before the first empty line, in the form that
// METADATA and WHEEL share with e-mail (RFC 5322): names in any case, a line
// that starts with white space continues the one before.
func parseHeaders(b []byte) []header {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	var headers []header
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if n := len(headers); n > 0 {
				headers[n-1].value += "\n" + string(line)
			}
			continue
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			break // the body starts here, as Python's email package has it
		}
		headers = append(headers, header{strings.ToLower(string(name)), string(value)})
	}
	return headers
}

// get returns the first value of name, trimmed, and whether there is one.
func get(headers []header, name string) (string, bool) {
	for _, h := range headers {
		if h.name == name {
			return strings.TrimSpace(h.value), true
		}
	}
	return "", false
}

// all returns every value of name, trimmed.
func all(headers []header, name string) []string {
	var values []string
	for _, h := range headers {
		if h.name == name {
			values = append(values, strings.TrimSpace(h.value))
		}
	}
	return values
}

// parseMetadata fills info from METADATA and holds it to the file name.
func (info *Info) parseMetadata(b []byte, file tag.WheelName) error {
	headers := parseHeaders(b)
	name, version := "", ""
	for _, want := range []struct {
		field string
		value *string
	}{{"Name", &name}, {"Version", &version}} {
		v, ok := get(headers, strings.ToLower(want.field))
		if !ok || v == "" {
			return invalidf("has no %s", want.field)
		}
		*want.value = v
	}
	if pyver.CanonicalName(name) != file.Name {
		return invalidf("Name is %q, the file name says %q", name, file.RawName)
	}
	v, err := pyver.Parse(version)
	if err != nil {
		return invalidf("Version: %v", err)
	}
	if v.Compare(file.Version) != 0 {
		return invalidf("Version is %q, the file name says %q", version, file.RawVersion)
	}
	if format, ok := get(headers, "metadata-version"); !ok {
		info.warnf("METADATA has no Metadata-Version")
	} else if err := info.checkFormat("Metadata-Version", format, metadataVersion); err != nil {
		return err
	}
	info.Name, info.RawName, info.Version = file.Name, name, v.String()
	info.RequiresPython, _ = get(headers, "requires-python")
	info.RequiresDist = all(headers, "requires-dist")
	info.ProvidesExtra = all(headers, "provides-extra")
	for _, s := range slices.Concat([]string{info.RequiresPython}, info.RequiresDist, info.ProvidesExtra) {
		if !utf8.ValidString(s) {
			return invalidf("field %q is not UTF-8", s)
		}
	}
	return nil
}

// parseWheel fills info from the WHEEL file. Tags that the file name does not
// have are a warning: installers go by the file name.
func (info *Info) parseWheel(b []byte) error {
	headers := parseHeaders(b)
	format, ok := get(headers, "wheel-version")
	if !ok {
		return invalidf("has no Wheel-Version")
	}
	if err := info.checkFormat("Wheel-Version", format, wheelVersion); err != nil {
		return err
	}
	purelib, _ := get(headers, "root-is-purelib")
	info.Purelib = strings.EqualFold(purelib, "true")
	var tags []string
	for _, s := range all(headers, "tag") {
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
func (info *Info) checkFormat(field, version, known string) error {
	major, minor, err := parseFormat(version)
	if err != nil {
		return invalidf("%s: %v", field, err)
	}
	knownMajor, knownMinor, err := parseFormat(known)
	if err != nil {
		return err
	}
	switch {
	case major > knownMajor:
		return invalidf("%s is %q, want %d.x: this needs a newer sitefs", field, version, knownMajor)
	case major == 0:
		return invalidf("%s is %q, want 1.0 or later", field, version)
	case major == knownMajor && minor > knownMinor:
		info.warnf("%s is %s, newer than %s", field, version, known)
	}
	return nil
}

// parseFormat reads a version such as "1", "1.0" or "2.1".
func parseFormat(s string) (major, minor uint64, err error) {
	first, second, ok := strings.Cut(s, ".")
	if major, err = strconv.ParseUint(first, 10, 32); err == nil && ok {
		minor, err = strconv.ParseUint(second, 10, 32)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%q is not a version such as %q", s, "1.0")
	}
	return major, minor, nil
}
