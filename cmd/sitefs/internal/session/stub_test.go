package session

import "testing"

func TestCommandLine(t *testing.T) {
	tests := []struct {
		dir  string
		args []string
		want string
	}{
		{"/p", []string{"mount", "-r", "pylock.toml"}, "cd /p && sitefs mount -r pylock.toml"},
		{"/my p", []string{"mount", "--with", "it's>=2", ""}, `cd '/my p' && sitefs mount --with 'it'\''s>=2' ''`},
		{"/p", []string{"mount", "--with", "a @ https://ada:secret@example.com/a.whl"}, `cd /p && sitefs mount --with 'a @ https://example.com/a.whl'`},
	}
	for _, test := range tests {
		if got := CommandLine(test.dir, test.args); got != test.want {
			t.Errorf("CommandLine(%q, %q) = %s, want %s", test.dir, test.args, got, test.want)
		}
	}
}
