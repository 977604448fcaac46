package digest

import (
	"encoding/hex"
	"testing"
)

// TestStrong: every strong algorithm can be computed, and gives what Python's
// hashlib gives for "abc".
func TestStrong(t *testing.T) {
	want := map[string]string{
		"sha256":  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha384":  "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
		"sha512":  "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
		"blake2b": "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
	}
	if len(Strong) != len(want) {
		t.Errorf("Strong is %q, want the %d algorithms of this test", Strong, len(want))
	}
	for _, name := range Strong {
		h := NewHash(name)
		h.Write([]byte("abc"))
		if got := hex.EncodeToString(h.Sum(nil)); got != want[name] {
			t.Errorf("%s of abc is %s, want %s", name, got, want[name])
		}
	}
	if NewHash("md5") != nil {
		t.Error("md5 is a strong hash, want none")
	}
}
