package bytecode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/store/bytecode/internal/compiler"
)

// all is CompileAll with f's interpreters and every source of the environment.
func (e *env) all(t *testing.T, ctx context.Context, f *fake, progress func(int)) (Summary, error) {
	t.Helper()
	w, err := newWorks(e.cache(t), e.scratch(0), compiler.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.start = f.new
	sum, err := compileAll(ctx, w, 2, 1, e.sources(t), progress)
	if n := f.running.Load(); n != 0 {
		t.Errorf("%d interpreters are left", n)
	}
	expectEmpty(t, e.scratch(0))
	return sum, err
}

func (e *env) sources(t *testing.T) (list []Source) {
	t.Helper()
	id, _, err := e.tree.Find(site)
	if err != nil {
		t.Fatal(err)
	}
	kids, err := e.tree.Children(id)
	if err != nil {
		t.Fatal(err)
	}
	for i := range kids.Len() {
		name, _, _, err := kids.At(i)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.source(t, string(name)))
	}
	return list
}

func TestCompileAll(t *testing.T) {
	sources := map[string]string{"bad.py": "bad", "kill.py": "kill"}
	for i := range 50 {
		sources[fmt.Sprintf("m%d.py", i)] = fmt.Sprintf("x = %d", i)
	}
	e := newEnv(t, sources)
	var steps []int
	got, err := e.all(t, context.Background(), &fake{}, func(n int) { steps = append(steps, n) })
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got.Failures, func(a, b Failure) int { return strings.Compare(a.Path, b.Path) })
	failures := []Failure{{"bad.py", "SyntaxError: invalid syntax (line 1)"}, {"kill.py", "killed by SIGKILL"}}
	if want := fmt.Sprint(Summary{Compiled: 50, Failed: 2, Failures: failures}); fmt.Sprint(got) != want {
		t.Errorf("summary: %+v, want %s", got, want)
	}
	for i, n := range steps {
		if n != i+1 {
			t.Fatalf("progress: %v", steps)
		}
	}
	if len(steps) != 52 {
		t.Errorf("%d steps, want 52", len(steps))
	}
	c := NewClient(e.cache(t), nil, "", nil)
	e.expectCode(t, c, "m7.py", 1)
	if missing := c.cache.Missing(e.sources(t), 1); len(missing) != 1 || missing[0].Path != "kill.py" {
		t.Errorf("missing: %+v, want kill.py, which another try may compile", missing)
	}
	got, err = e.all(t, context.Background(), &fake{}, nil)
	if err != nil || got.Compiled != 0 || got.Cached != 50 || got.Failed != 2 {
		t.Errorf("the second time: %+v, %v", got, err)
	}
}

// TestCompileAllInterrupted: what was done before the end is kept.
func TestCompileAllInterrupted(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1", "b.py": "b = 1", "c.py": "hang", "d.py": "hang more"})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got, err := e.all(t, ctx, &fake{}, func(n int) {
		if n == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || got.Compiled != 2 || got.Failed != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	c := e.cache(t)
	if missing := c.Missing(e.sources(t), 1); len(missing) != 2 {
		t.Errorf("missing: %+v, want two", missing)
	}
}

// TestCompileAllFails: what other sources will meet as well ends the work.
func TestCompileAllFails(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1", "b.py": "b = 1"})
	broken := &compiler.StartError{Python: "/usr/bin/python", Reason: "it is a Python 3.13"}
	_, err := e.all(t, context.Background(), &fake{start: func(context.Context) error { return broken }}, nil)
	if !errors.Is(err, broken) {
		t.Errorf("no interpreter: %v", err)
	}
	w, err := newWorks(e.cache(t), e.scratch(0)+"/gone", compiler.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.start = (&fake{}).new
	if _, err := compileAll(context.Background(), w, 2, 0, e.sources(t), nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), ".py\": keep bytecode") {
		t.Errorf("no place to write: %v", err)
	}
}
