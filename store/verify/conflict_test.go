package verify

import "testing"

func TestConflictOf(t *testing.T) {
	tests := []struct{ name, original string }{
		{"bin 2", "bin"},
		{"core 2.py", "core.py"},
		{"core 13.py", "core.py"},
		{"core.py 2", "core.py"},
		{"h11-0.16.0.dist-info 2", "h11-0.16.0.dist-info"},
		{"h11-0.16.0 2.dist-info", "h11-0.16.0.dist-info"},
		{".lock 2", ".lock"},
		{"core (1).py", "core.py"},
		{"core(1).py", "core.py"},
		{"core (anna's conflicted copy 2026-11-23).py", "core.py"},
		{"core (conflicted copy 2026-11-23 101112).py", "core.py"},
		{"core (Case Conflict).py", "core.py"},
		{"core.sync-conflict-20261123-101112-ABCDEF7.py", "core.py"},
		{"core-DESKTOP-1A2B3C4.py", "core.py"},
		{"core-Annas-MacBook-Pro.py", "core.py"},
		{"core-workhorse.py", "core.py"},
		{"core-WORKHORSE.py", "core.py"},

		{"core 1.py", ""},
		{"core 0.py", ""},
		{"core2.py", ""},
		{"core-2.py", ""},
		{"core-extra.py", ""},
		{"core_2.py", ""},
		{" 2", ""},
		{"core (draft).py", ""},
		{"", ""},
	}
	for _, test := range tests {
		original, ok := conflictOf(test.name, "workhorse")
		if original != test.original || ok != (test.original != "") {
			t.Errorf("conflictOf(%q) = %q, %t; want %q", test.name, original, ok, test.original)
		}
	}
}
