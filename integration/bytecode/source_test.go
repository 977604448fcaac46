package bytecode

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// bad are sources that wheels hold and that are no Python, or hard to compile.
var bad = []struct {
	name, content string
	reason        string // what status says of it; "" where it compiles
}{
	{"template", "import {{ cookiecutter.name }}\n", "SyntaxError"},
	{"python2", "print 'hello'\n", "SyntaxError"},
	{"tabs", "if 1:\n\tx = 1\n        y = 2\n", "TabError"},
	{"nested", "x = " + strings.Repeat("(", 100_000) + strings.Repeat(")", 100_000) + "\n", "Error"},
	{"unary", "x = " + strings.Repeat("-", 100_000) + "1\n", "Error"},
	{"nul", "x = 1\n\x00\n", "null bytes"},
	{"cookie", "# -*- coding: klingon -*-\nx = 1\n", "klingon"},
	{"latin", "x = '\xe9'\n", "utf-8"},
	{"literal", "text = '" + strings.Repeat("a", 50<<20) + "'\n", ""},
}

// tryImport prints what comes of an import.
const tryImport = `
import importlib, sys
try:
    module = importlib.import_module(sys.argv[1])
    print("imported", len(getattr(module, "text", "")))
except BaseException as e:
    print(type(e).__name__, e)
`

// A source that doesn't compile fails as it does in a plain environment, the
// first time and when that is remembered, and status names it with the reason.
func TestSources(t *testing.T) {
	spec := wheelhouse.Spec{Name: "bad", Version: "1.0", Files: map[string]string{"bad/__init__.py": ""}}
	for _, source := range bad {
		spec.Files["bad/"+source.name+".py"] = source.content
	}
	for _, name := range []string{"3.8", "3.12", "3.13"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			python := findPython(t, name)
			e := newEnvironment(t, python, spec)
			for file, content := range spec.Files {
				e.Write(t, filepath.Join("plain", file), content)
			}
			script := e.Write(t, "try.py", tryImport)
			venv := e.mount(t, ".venv")
			for _, source := range bad {
				t.Run(source.name, func(t *testing.T) {
					module := "bad." + source.name
					want := e.Run(t, "env", "PYTHONPATH=plain", "PYTHONDONTWRITEBYTECODE=1", python, script, module)
					for range 2 {
						got := e.Run(t, interpreter(venv), script, module)
						if got != want {
							t.Errorf("%+v, in a plain environment %+v", got, want)
						}
					}
					said := linesWith(e.status(t, venv).reasons(), "bad/"+source.name+".py: ")
					if source.reason == "" && said != "" || !strings.Contains(said, source.reason) {
						t.Errorf("status says %q, want %q in it", said, source.reason)
					}
				})
			}
		})
	}
}
