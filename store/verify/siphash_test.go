package verify

import (
	"fmt"
	"testing"
)

// TestSipHash holds sipHash to what _imp.source_hash of CPython 3.8 and 3.12
// returned, read as a little-endian number.
func TestSipHash(t *testing.T) {
	long := make([]byte, 70)
	for i := range long {
		long[i] = byte(i)
	}
	tests := []struct {
		c, d int
		key  uint64
		text []byte
		want string // as Python prints the bytes
	}{
		{2, 4, 168627541, nil, "81e4881b3643e8e9"},
		{2, 4, 168627541, []byte("x = 1\n"), "1506f08f32bf3ff3"},
		{2, 4, 168627541, long, "b775f45b17d2d33c"},
		{1, 3, 168627659, nil, "baf18eedc9387a25"},
		{1, 3, 168627659, []byte("x = 1\n"), "1522561917f5df08"},
		{1, 3, 168627659, long, "92407b64d5f89a86"},
	}
	for _, test := range tests {
		h := sipHash(test.c, test.d, test.key, test.text)
		var b [8]byte
		for i := range b {
			b[i] = byte(h >> (8 * i))
		}
		if got := fmt.Sprintf("%x", b); got != test.want {
			t.Errorf("SipHash-%d-%d of %d bytes = %s, want %s", test.c, test.d, len(test.text), got, test.want)
		}
	}
}
