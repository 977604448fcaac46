// Package digest is SHA-256 as a type, with the text forms that sitefs meets,
// and the list of other hashes that a lock file may vouch for a wheel with.
//
// A digest names bytes: a blob, a wheel, a compiled tree. It is an array, so it
// compares with == and serves as a map key, and a hash of another kind can never
// be mistaken for one. The zero Digest names nothing.
package digest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// Size is the length of a digest in bytes.
const Size = sha256.Size

// A Digest is a SHA-256 sum.
type Digest [Size]byte

// Of returns the digest of b.
func Of(b []byte) Digest { return sha256.Sum256(b) }

// Parse reads the hexadecimal form, 64 digits of either case.
func Parse(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(Size) {
		return Digest{}, fmt.Errorf("digest %q has %d characters, want %d hexadecimal digits", s, len(s), hex.EncodedLen(Size))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest %q is not hexadecimal", s)
	}
	return d, nil
}

// String returns the hexadecimal form, lower case.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Record returns the digest as RECORD spells it behind "sha256=": urlsafe base64
// without padding (packaging.python.org, "Recording installed projects").
func (d Digest) Record() string { return base64.RawURLEncoding.EncodeToString(d[:]) }

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText returns the hexadecimal form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (d *Digest) UnmarshalText(b []byte) error {
	p, err := Parse(string(b))
	if err != nil {
		return err
	}
	*d = p
	return nil
}
