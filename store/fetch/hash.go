package fetch

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/lock"
)

// algorithms are the hashes that vouch for a file, in the order in which one
// names a partial file. MD5 and SHA-1 can be forged and don't count.
var algorithms = []struct {
	name string
	new  func() hash.Hash
}{
	{"sha256", sha256.New},
	{"sha512", sha512.New},
	{"sha384", sha512.New384},
}

// sums computes every hash of a pin that vouches for it.
type sums struct {
	key    string // names the content: algorithm-hex
	wanted []sum
}

type sum struct {
	name string
	want string // lower-case hex
	hash hash.Hash
}

func newSums(pin lock.Pin) (*sums, error) {
	s := new(sums)
	for _, a := range algorithms {
		want, ok := pin.Hashes[a.name]
		if !ok {
			continue
		}
		h := a.new()
		want = strings.ToLower(want)
		if raw, err := hex.DecodeString(want); err != nil || len(raw) != h.Size() {
			return nil, fmt.Errorf("its %s in the lock file is %q; wanted %d hexadecimal digits", a.name, want, 2*h.Size())
		}
		s.wanted = append(s.wanted, sum{a.name, want, h})
	}
	if s.wanted == nil {
		return nil, fmt.Errorf("the lock file has no hash that can be checked: found %q, wanted sha256, sha384 or sha512; lock it again", slices.Sorted(maps.Keys(pin.Hashes)))
	}
	s.key = s.wanted[0].name + "-" + s.wanted[0].want
	return s, nil
}

func (s *sums) Write(p []byte) (int, error) {
	for _, w := range s.wanted {
		w.hash.Write(p)
	}
	return len(p), nil
}

func (s *sums) reset() {
	for _, w := range s.wanted {
		w.hash.Reset()
	}
}

// mismatch returns the first hash that is not the wanted one.
func (s *sums) mismatch() (name, want, found string, bad bool) {
	for _, w := range s.wanted {
		if found := hex.EncodeToString(w.hash.Sum(nil)); found != w.want {
			return w.name, w.want, found, true
		}
	}
	return "", "", "", false
}
