package session

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/fusefs/mount"
)

func TestMountRung(t *testing.T) {
	for _, c := range []struct {
		value  string
		want   string
		says   string // of the error; "" is none
		noFUSE bool
	}{
		{"", "", "", false},
		{"direct", mount.RungMount, "", false},
		{"fusermount3", mount.RungHelper, "", false},
		{"namespace", "", "`sitefs run`", true},
		{"copy", "", "`sitefs run`", true},
		{"Direct", "", `"Direct"`, false},
	} {
		t.Run(c.value, func(t *testing.T) {
			t.Setenv(rungVar, c.value)
			got, err := mountRung()
			if got != c.want || (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q, %v, want %q, an error of %q", got, err, c.want, c.says)
			}
			if errors.Is(err, mount.ErrNoFUSE) != c.noFUSE {
				t.Errorf("%v: is it ErrNoFUSE, want %v", err, c.noFUSE)
			}
		})
	}
}

func TestSayOnce(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	var warned, noted []string
	s := &Session{
		Warn: func(text string) { warned = append(warned, text) },
		Note: func(text string) { noted = append(noted, text) },
	}
	for _, rung := range []string{rungNamespace, rungNamespace, rungCopy} {
		if err := s.sayOnce(rung, rung); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{rungNamespace, rungCopy}; !slices.Equal(warned, want) {
		t.Errorf("warned of %q, want %q", warned, want)
	}
	if want := []string{rungNamespace}; !slices.Equal(noted, want) {
		t.Errorf("noted %q, want %q", noted, want)
	}
}
