package mount

import (
	"encoding/binary"
	"os"
	"testing"
)

func TestParseOffer(t *testing.T) {
	request := func(size int, fields ...uint32) []byte {
		b := make([]byte, size)
		for i, f := range fields {
			binary.NativeEndian.PutUint32(b[40+4*i:], f)
		}
		return b
	}
	for _, c := range []struct {
		name    string
		request []byte
		want    Kernel
		err     bool
	}{
		{"6.9", request(104, 7, 40, 0, 1<<17|1<<23|1<<24|1<<30, 1<<7), Kernel{7, 40, true, true, true, true}, false},
		{"before flags2", request(56, 7, 31, 0, 1<<17|1<<24), Kernel{7, 31, false, true, true, false}, false},
		{"too short", request(55), Kernel{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseOffer(c.request)
			if got != c.want || (err != nil) != c.err {
				t.Errorf("found %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

// A probe leaves nothing mounted, and sees what the kernel has had since 2.6.
func TestProbe(t *testing.T) {
	for _, rung := range []string{RungMount, RungHelper} {
		t.Run(rung, func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("mount(2) is for root")
			}
			if _, err := findHelper(); rung == RungHelper && err != nil {
				t.Skip(err)
			}
			dir := t.TempDir()
			k, err := Probe(dir, rung)
			if err != nil {
				t.Fatal(err)
			}
			if k.Major != 7 || k.Minor < 26 {
				t.Errorf("protocol %s, want 7.26 or newer", k.Protocol())
			}
			if isMounted(dir) {
				t.Error("still mounted")
			}
		})
	}
}
