package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParseHelper(t *testing.T) {
	tree := strings.Repeat("0a", 32)
	tests := []struct {
		name string
		args string
		want string // the command line of sitefs, or a part of the error
	}{
		{"plain", "/a/pylock.toml /a/.venv -o rw", "mount --fstab -r /a/pylock.toml -- /a/.venv"},
		{"fstab", "/l /d -o ro,nofail,x-systemd.automount,X-mount.mkdir,user=ada,_netdev", "mount --fstab -r /l -- /d"},
		{"flags", "/l /d -sn -v -t fuse.sitefs -N /proc/1/ns/mnt", "mount --fstab -r /l -- /d"},
		{"options first", "-o python=3.12,allow_other -o uid=12,extra=a /l /d", "mount --fstab --python=3.12 --allow-other --uid=12 --extra=a -r /l -- /d"},
		{"a tree", tree + " /d", "mount --fstab --tree " + tree + " -- /d"},
		{"noexec of user", "/l /d -o user,noexec", "add exec"},
		{"unknown option", "/l /d -o ro,pyhton=3.12", `no option "pyhton=3.12"`},
		{"unknown flag", "/l /d --help", "sitefs mount"},
		{"no directory", "/l -o ro", "want a lock file"},
		{"too much", "/l /d /e", "want a lock file"},
		{"no value", "/l /d -o", "wants an argument"},
		{"relative store", "/l /d -o store=s", "absolute"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h, err := parseHelper(strings.Fields(test.args))
			if err != nil {
				if !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %q", err, test.want)
				}
				return
			}
			if got := h.arguments(); !slices.Equal(got, strings.Fields(test.want)) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestParseHelperFake(t *testing.T) {
	for args, want := range map[string]bool{"/l /d -f": true, "/l /d -nfv": true, "/l /d -o defaults": false} {
		if h, err := parseHelper(strings.Fields(args)); err != nil || h.fake != want {
			t.Errorf("%s: %+v, %v, want fake %t", args, h, err, want)
		}
	}
}
