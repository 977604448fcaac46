// Package lock turns what a user names into pins: the one wheel per package
// that a lock file chose for one interpreter.
//
// It reads pylock.toml (PEP 751) whole and strictly: a file that says something
// that isn't so, in a part that this interpreter doesn't need either, is
// refused, and the error names the place in the file. Every pin carries a hash
// that counts. Nothing is resolved here, nothing is built, and neither disk nor
// network is touched: callers read the files and download the wheels.
package lock

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
)

var (
	// ErrPython is wrapped when a lock file isn't for the interpreter at all:
	// its requires-python or its environments say so.
	ErrPython = errors.New("the lock file is for another Python")

	// ErrNoWheel is wrapped when a package offers no wheel that the interpreter
	// takes, be it that they are all for others or that it must be built.
	ErrNoWheel = errors.New("no wheel to install")
)

// A Pin is one package that a lock file chose, and where its wheel is.
type Pin struct {
	Name     string // canonical
	Version  string // as the lock file or the wheel's file name spells it
	Filename string // the wheel's file name, which names its tags too

	// URL is absolute, with http or https as its scheme; Path is absolute.
	// At least one is set. With both they are the same file and either will do.
	URL  string
	Path string

	Index  string            // the index that the package came from, or ""
	Size   int64             // in bytes, 0 if the lock file doesn't say
	Hashes map[string]string // algorithm to lower-case hexadecimal digits; see [Strong]

	Requested bool // the user asked for the package by name (PEP 376, REQUESTED)
	Direct    bool // a direct reference rather than a package of an index (PEP 610)
}

// String returns the pin as a user knows it: name and version.
func (p Pin) String() string { return p.Name + " " + p.Version }

// DirectURL returns the bytes of the direct_url.json that an installer writes
// beside the wheel's metadata (PEP 610), nil unless p is a direct reference.
func (p Pin) DirectURL() []byte {
	if !p.Direct {
		return nil
	}
	u := p.URL
	if p.Path != "" {
		u = FileURL(p.Path)
	}
	return DirectURL{URL: u, Archive: &ArchiveInfo{Hashes: p.Hashes}}.Encode()
}

// Strong returns the hashes that count, those of [digest.Strong], with their
// digits in lower case. Others beside them are left out. It is an error if none
// is left, or if one isn't made of as many hexadecimal digits as its algorithm
// gives.
func Strong(hashes map[string]string) (map[string]string, error) {
	strong := map[string]string{}
	for algorithm, value := range hashes {
		algorithm, value = strings.ToLower(algorithm), strings.ToLower(value)
		h := digest.NewHash(algorithm)
		if h == nil {
			continue
		}
		if want := hex.EncodedLen(h.Size()); len(value) != want || strings.Trim(value, "0123456789abcdef") != "" {
			return nil, fmt.Errorf("%s hash %q: found %d characters, want %d hexadecimal digits", algorithm, value, len(value), want)
		}
		strong[algorithm] = value
	}
	if len(strong) > 0 {
		return strong, nil
	}
	want := strings.Join(digest.Strong, ", ")
	if len(hashes) == 0 {
		return nil, fmt.Errorf("no hash, want one of %s: lock again", want)
	}
	found := strings.Join(slices.Sorted(maps.Keys(hashes)), ", ")
	return nil, fmt.Errorf("found hashes by %s only, want one of %s: lock again", found, want)
}

// FileURL returns the file URL of an absolute path as pip spells it: every byte
// but ASCII letters, digits and "/_.-~" is percent-encoded.
func FileURL(path string) string {
	var b strings.Builder
	b.WriteString("file://")
	for _, c := range []byte(filepath.ToSlash(path)) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("/_.-~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// FilePath returns the path that a file URL names, and false if u isn't a file
// URL of this machine with an absolute path.
func FilePath(u string) (string, bool) {
	if len(u) < len("file:") || !strings.EqualFold(u[:len("file:")], "file:") {
		return "", false
	}
	p, err := url.Parse(u)
	if err != nil || p.Host != "" && p.Host != "localhost" || !strings.HasPrefix(p.Path, "/") {
		return "", false
	}
	return filepath.Clean(filepath.FromSlash(p.Path)), true
}

// Redacted returns text without the user names and passwords of the URLs in it,
// so that it can be shown.
func Redacted(text string) string {
	var b strings.Builder
	for {
		scheme, rest, ok := strings.Cut(text, "://")
		if !ok {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(scheme + "://")
		end := strings.IndexAny(rest, "/?# \t\r\n\"'`<>")
		if end < 0 {
			end = len(rest)
		}
		text = rest[strings.LastIndexByte(rest[:end], '@')+1:]
	}
}
