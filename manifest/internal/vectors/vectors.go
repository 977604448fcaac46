// Package vectors reads the test vectors that rooms of manifest share the form
// of: inputs, and what Python's packaging library makes of them. Only tests
// import it.
package vectors

import (
	"encoding/json"
	"os"
	"testing"
)

// A Vector is one input and what the library answers.
type Vector[In, Out any] struct {
	Input    In
	Expected Out
}

// Section returns one section of a file of vectors. A file without it, or with
// an empty one, fails the test: it would hold nothing.
func Section[In, Out any](t testing.TB, file, section string) []Vector[In, Out] {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Sections map[string]json.RawMessage }
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var vs []Vector[In, Out]
	if err := json.Unmarshal(f.Sections[section], &vs); err != nil {
		t.Fatalf("%s: section %q: %v", file, section, err)
	}
	if len(vs) == 0 {
		t.Fatalf("%s: section %q is empty", file, section)
	}
	return vs
}
