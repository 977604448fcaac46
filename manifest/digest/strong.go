package digest

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"golang.org/x/crypto/blake2b"
)

// Strong lists the algorithms that vouch for a wheel, by hashlib's names, the
// one that names it in a store first. Others that a lock file may give (md5,
// sha1) can be forged.
var Strong = []string{"sha256", "sha512", "sha384", "blake2b"}

// NewHash returns a new hash of a strong algorithm, nil for any other name.
func NewHash(name string) hash.Hash {
	switch name {
	case "sha256":
		return sha256.New()
	case "sha384":
		return sha512.New384()
	case "sha512":
		return sha512.New()
	case "blake2b":
		h, err := blake2b.New512(nil)
		if err != nil {
			panic(err) // no key was given, which alone can be wrong
		}
		return h
	}
	return nil
}
