package fetch

import (
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/lock"
)

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
	for _, name := range digest.Strong {
		want, ok := pin.Hashes[name]
		if !ok {
			continue
		}
		h := digest.NewHash(name)
		want = strings.ToLower(want)
		if raw, err := hex.DecodeString(want); err != nil || len(raw) != h.Size() {
			return nil, fmt.Errorf("its %s in the lock file is %q; wanted %d hexadecimal digits", name, want, 2*h.Size())
		}
		s.wanted = append(s.wanted, sum{name, want, h})
	}
	if s.wanted == nil {
		return nil, fmt.Errorf("the lock file has no hash that can be checked: found %q, wanted one of %q; lock it again", slices.Sorted(maps.Keys(pin.Hashes)), digest.Strong)
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
