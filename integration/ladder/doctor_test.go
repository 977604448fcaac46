package ladder

import (
	"strings"
	"testing"
)

// What keeps an ordinary user from mounting is named, and so is what mends it.
func TestDoctorSaysWhatForbids(t *testing.T) {
	p := newPerson(t, user)
	p.withoutHelper()
	r := p.run("sitefs", "doctor")
	if r.code != 0 {
		t.Errorf("without fusermount3: exit code %d, want 0\n%s", r.code, r.stderr)
	}
	expectLines(t, r, []string{"fusermount3", "install the package fuse3", "in a namespace, for `sitefs run`"})

	r = p.run(append(forbidden, "sitefs", "doctor")...)
	if r.code != 1 {
		t.Errorf("without namespaces: exit code %d, want 1", r.code)
	}
	expectLines(t, r, []string{"failure  mount", "max_user_namespaces is 0", "fix: as root: sysctl -w user.max_user_namespaces=15000"})
}

// expectLines looks for all of the words in what a command printed.
func expectLines(t *testing.T, r result, words []string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(r.stdout, word) {
			t.Errorf("nothing printed of %q in\n%s", word, r.stdout)
		}
	}
}
