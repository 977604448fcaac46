package upper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"
)

// maxRecord bounds the file of a record: two paths, and the extended attributes of
// one file, which Linux bounds at 64 KiB of names and 64 KiB for each value
// (xattr(7)); a megabyte is what file systems keep at most.
const maxRecord = 2 << 20

// A Record says of a name what a layer can't say; see the package comment. Nil
// fields are as the lower has them.
type Record struct {
	Name     string
	Lower    string
	Whiteout bool
	Mode     *uint32 // permission bits, 07777
	UID, GID *uint32
	Mtime    *Time
	Atime    *Time
	Xattrs   map[string][]byte
}

// A Time is a moment since 1970 as the kernel counts it.
type Time struct {
	Sec  int64 `json:"sec"`
	Nsec int64 `json:"nsec"`
}

// recordJSON is a record as its file has it.
type recordJSON struct {
	Name     text              `json:"name"`
	Lower    text              `json:"lower,omitempty"`
	Whiteout bool              `json:"whiteout,omitempty"`
	Mode     *uint32           `json:"mode,omitempty"`
	UID      *uint32           `json:"uid,omitempty"`
	GID      *uint32           `json:"gid,omitempty"`
	Mtime    *Time             `json:"mtime,omitempty"`
	Atime    *Time             `json:"atime,omitempty"`
	Xattrs   map[string][]byte `json:"xattrs,omitempty"`
}

// text is a string that may hold any bytes: JSON can't say those that are not UTF-8.
type text string

type rawText struct {
	Base64 []byte `json:"base64"`
}

func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(rawText{[]byte(t)})
}

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var raw rawText
		if err := decodeStrictly(b, &raw); err != nil {
			return err
		}
		*t = text(raw.Base64)
		return nil
	}
	return json.Unmarshal(b, (*string)(t))
}

// decodeStrictly reads one JSON value and nothing else, with no field that v lacks.
func decodeStrictly(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
}

// encodeRecord returns the file of a record.
func encodeRecord(r Record) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(recordJSON{
		text(r.Name), text(r.Lower), r.Whiteout, r.Mode, r.UID, r.GID, r.Mtime, r.Atime, r.Xattrs,
	})
	if err != nil {
		return nil, err
	}
	if len(b) >= maxRecord {
		return nil, fmt.Errorf("record of %q has %d bytes, the limit is %d", r.Name, len(b), maxRecord)
	}
	return append(b, '\n'), nil
}

// decodeRecord reads the file of a record that lies under the name file.
func decodeRecord(file string, b []byte) (Record, error) {
	var f recordJSON
	if err := decodeStrictly(b, &f); err != nil {
		return Record{}, err
	}
	r := Record{
		string(f.Name), string(f.Lower), f.Whiteout, f.Mode, f.UID, f.GID, f.Mtime, f.Atime, f.Xattrs,
	}
	if err := r.check(); err != nil {
		return Record{}, err
	}
	if want := RecordPath(".", r.Name); file != want {
		return Record{}, fmt.Errorf("the record of %q is called %q", r.Name, want)
	}
	return r, nil
}

// check reports what no record can say.
func (r *Record) check() error {
	switch {
	case !validName(r.Name):
		return fmt.Errorf("record of %q: not the name of a file", r.Name)
	case !r.Whiteout && r.Lower == "":
		return fmt.Errorf("record of %q: has neither a lower path nor a whiteout", r.Name)
	case r.Lower != "" && !validLower(r.Lower):
		return fmt.Errorf("record of %q: lower path %q is not clean, relative and below the top", r.Name, r.Lower)
	case r.Mode != nil && *r.Mode&^0o7777 != 0:
		return fmt.Errorf("record of %q: mode %#o has more than permissions", r.Name, *r.Mode)
	case !r.Mtime.valid() || !r.Atime.valid():
		return fmt.Errorf("record of %q: a time has nanoseconds outside 0 to 999999999", r.Name)
	}
	return nil
}

func (t *Time) valid() bool { return t == nil || t.Nsec >= 0 && t.Nsec < 1e9 }

// validName reports whether a directory can have name.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxName && !strings.ContainsAny(name, "/\x00")
}

// validLower reports whether p is a clean path to something below the top.
func validLower(p string) bool {
	return p != "." && p != ".." && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "../") &&
		!strings.ContainsRune(p, 0) && path.Clean(p) == p
}
