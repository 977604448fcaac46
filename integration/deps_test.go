package integration

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the import path that every room stands under.
const module = "github.com/sitefs/sitefs/"

// arrows says which rooms of ours each room may import. It is policy: a change
// of the design changes this table first, on purpose. Three rules lie under it:
// manifest knows no disk, network or mount; store and fusefs never meet; only
// cmd wires the two together.
//
// An entry ending in "/..." stands for every room below that folder.
var arrows = map[string][]string{
	"manifest/internal/vectors": {},

	"manifest/digest": {},
	"manifest/pyver":  {"manifest/internal/vectors"},
	"manifest/tag":    {"manifest/internal/vectors", "manifest/pyver"},
	"manifest/marker": {"manifest/internal/vectors", "manifest/pyver"},
	"manifest/interp": {"manifest/marker", "manifest/pyver", "manifest/tag"},
	"manifest/wheel":  {"manifest/digest", "manifest/pyver", "manifest/tag"},
	"manifest/lock":   {"manifest/digest", "manifest/interp", "manifest/marker", "manifest/pyver", "manifest/tag"},
	"manifest/tree":   {"manifest/digest"},
	"manifest":        {"manifest/..."},

	"store/internal/blob":              {"manifest/digest"},
	"store/internal/catalog":           {"manifest/digest"},
	"store":                            {"manifest/digest", "manifest/tree", "manifest/wheel", "store/internal/..."},
	"store/bytecode":                   {"manifest/digest", "manifest/tree", "store/bytecode/internal/..."},
	"store/bytecode/internal/compiler": {"store/confine"},
	"store/bytecode/internal/imports":  {},
	"store/confine":                    {},
	"store/fetch":                      {"manifest/digest", "manifest/lock", "manifest/wheel", "store"},
	"store/materialize":                {"manifest/digest", "manifest/tree", "store/verify"},
	"store/repair":                     {"manifest/digest", "manifest/tree", "manifest/wheel", "store/verify"},
	"store/resolve":                    {"manifest/interp", "manifest/lock", "manifest/marker", "manifest/pyver", "manifest/tag"},
	"store/verify":                     {"manifest/digest", "manifest/tree", "manifest/wheel"},

	"fusefs/upper":   {},
	"fusefs/diff":    {"fusefs/upper", "manifest/digest", "manifest/pyver", "manifest/tree", "manifest/wheel"},
	"fusefs/view":    {"manifest/digest", "manifest/tree"},
	"fusefs/overlay": {"fusefs/upper", "fusefs/view", "manifest/digest", "manifest/tree"},
	"fusefs/mount":   {"fusefs/mount/internal/...", "fusefs/view", "manifest/digest", "manifest/tree"},

	"fusefs/mount/internal/shared": {},

	"cmd/sitefs/internal/doctor":   {"cmd/sitefs/internal/session", "fusefs/mount", "manifest/digest", "manifest/interp", "manifest/wheel", "store", "store/confine", "store/materialize"},
	"cmd/sitefs/internal/progress": {"manifest/lock", "store/bytecode", "store/fetch"},
	"cmd/sitefs/internal/session":  {"fusefs/...", "manifest", "manifest/...", "store", "store/bytecode", "store/confine", "store/fetch", "store/materialize", "store/repair", "store/resolve", "store/verify"},
	"cmd/sitefs":                   {"cmd/sitefs/internal/...", "fusefs/diff", "fusefs/mount", "fusefs/upper", "manifest", "manifest/...", "store", "store/bytecode", "store/confine", "store/fetch", "store/materialize", "store/repair", "store/resolve", "store/verify"},
}

// TestArrows holds the table above against the import clauses of every file,
// test files included: a test that reaches across rooms belongs in integration.
func TestArrows(t *testing.T) {
	for room, imports := range roomImports(t, module, true) {
		if room == "integration" || strings.HasPrefix(room, "integration/") {
			continue // drives the whole
		}
		allowed, ok := arrows[room]
		if !ok {
			t.Errorf("%s is a room that the table of arrows doesn't know", room)
			continue
		}
		for _, to := range imports {
			if to != room && !mayImport(allowed, to) {
				t.Errorf("%s imports %s: the table of arrows forbids it", room, to)
			}
		}
	}
}

// TestArrowsExist: a row for a room that is gone would let it come back unseen.
func TestArrowsExist(t *testing.T) {
	rooms := roomImports(t, module, false)
	for room := range arrows {
		if _, ok := rooms[room]; !ok {
			t.Errorf("the table of arrows has %s, which is no room", room)
		}
	}
}

// TestManifestIsPure: manifest knows no disk, no network and no process. Interp
// is the exception: it runs a Python, and finds it.
func TestManifestIsPure(t *testing.T) {
	impure := []string{"net", "net/http", "os", "os/exec", "syscall", "golang.org/x/sys/unix"}
	for room, imports := range roomImports(t, "", false) {
		if room != "manifest" && !strings.HasPrefix(room, "manifest/") || room == "manifest/interp" || room == "manifest/internal/vectors" {
			continue
		}
		for _, to := range imports {
			if slices.Contains(impure, to) {
				t.Errorf("%s imports %s: manifest reads no disk, asks no network and starts no process", room, to)
			}
		}
	}
}

// TestTop holds the top level of the project to the fixed list.
func TestTop(t *testing.T) {
	want := []string{"cmd", "fusefs", "go.mod", "go.sum", "integration", "LICENSE", "manifest", "README.md", "store"}
	entries, err := filepath.Glob("../*")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := filepath.Base(e); !strings.HasPrefix(name, ".") && !slices.Contains(want, name) {
			t.Errorf("%q is at the top of the project, where only %q belong", name, want)
		}
	}
}

func mayImport(allowed []string, room string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		if below, ok := strings.CutSuffix(a, "/..."); ok {
			return strings.HasPrefix(room, below+"/")
		}
		return room == a
	})
}

// roomImports returns, for each folder with Go files, what they import whose path
// starts with prefix, less the prefix. Test files count if tests is set.
func roomImports(t *testing.T, prefix string, tests bool) map[string][]string {
	t.Helper()
	rooms := map[string][]string{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return fs.SkipDir
		}
		if path.Ext(file) != ".go" || !tests && strings.HasSuffix(file, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		room := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(file, "../")))
		imports := rooms[room]
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if to, ok := strings.CutPrefix(p, prefix); ok && !slices.Contains(imports, to) {
				imports = append(imports, to)
			}
		}
		rooms[room] = imports
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rooms
}
