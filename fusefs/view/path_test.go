package view

import "testing"

func TestPath(t *testing.T) {
	f := newSources(t, Options{Bytecode: newCompiler(t, always)})
	for path, want := range map[string]string{
		"site/mod.py":      "site/mod.py",
		"site/__pycache__": "site/__pycache__",
		"site/__pycache__/mod.cpython-312.opt-1.pyc": "the bytecode of site/mod.py",
	} {
		if got := f.Path(f.find(t, path).NodeId); got != want {
			t.Errorf("%s is called %q, want %q", path, got, want)
		}
	}
	if got := f.Path(1 << 40); got != "" {
		t.Errorf("no node is called %q", got)
	}
}
