package progress

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/sitefs/sitefs/store/bytecode"
)

func TestTallyLine(t *testing.T) {
	tests := []struct {
		name        string
		done, total int
		after       time.Duration
		width       int
		want        string
	}{
		{"begins", 0, 300, 2 * time.Second, 80, "compiled 0 of 300 sources  [                                      ]"},
		{"first second", 100, 300, time.Second / 2, 80, "compiled 100 of 300 sources  [============                          ]"},
		{"time left", 100, 300, 5 * time.Second, 80, "compiled 100 of 300 sources  10s left  [============                          ]"},
		{"all", 300, 300, 15 * time.Second, 60, "compiled 300 of 300 sources  [=============================]"},
		{"one", 0, 1, 0, 40, "compiled 0 of 1 source  [              ]"},
		{"no room for a bar", 100, 300, 5 * time.Second, 40, "compiled 100 of 300 sources  10s left"},
		{"no room for a time", 100, 300, 5 * time.Second, 30, "compiled 100 of 300 sources"},
		{"10 columns", 100, 300, 5 * time.Second, 10, "compile..."},
		{"no columns", 100, 300, 5 * time.Second, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tally := &tally{began: start, total: tt.total}
			tally.done.Store(int64(tt.done))
			got := tally.line(start.Add(tt.after), tt.width)
			if got != tt.want {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
			if len(got) > tt.width {
				t.Errorf("%d columns, have %d", len(got), tt.width)
			}
		})
	}
}

func TestCompilePlain(t *testing.T) {
	failures := []bytecode.Failure{{Path: "a/t.py"}, {Path: "b/t.py"}, {Path: "c/t.py"}}
	const began = "sitefs: compiling 9 sources\n"
	tests := []struct {
		name  string
		quiet bool
		sum   bytecode.Summary
		err   error
		want  string
	}{
		{"well", false, bytecode.Summary{Compiled: 9}, nil, began + "sitefs: compiled 9 sources in 0.0s\n"},
		{"one can't be", false, bytecode.Summary{Compiled: 8, Failed: 1, Failures: failures[:1]}, nil,
			began + "sitefs: compiled 8 sources in 0.0s; a/t.py can't be\n"},
		{"some can't be", false, bytecode.Summary{Compiled: 6, Failed: 3, Failures: failures}, nil,
			began + "sitefs: compiled 6 sources in 0.0s; a/t.py and 2 more can't be\n"},
		{"interrupted", false, bytecode.Summary{Compiled: 4, Failed: 1, Failures: failures[:1]}, errors.New("interrupted"),
			began + "sitefs: compiled 4 of 9 sources, which is kept\n"},
		{"failed at once", false, bytecode.Summary{}, errors.New("no interpreter"), began},
		{"quiet", true, bytecode.Summary{Compiled: 9}, nil, ""},
		{"quiet, interrupted", true, bytecode.Summary{Compiled: 4}, errors.New("interrupted"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			d := New(&out, tt.quiet)
			d.now = func() time.Time { return start }
			d.BeginCompile(9)
			d.Compiled(tt.sum.Compiled + tt.sum.Failed)
			d.EndCompile(tt.sum, tt.err)
			if out.String() != tt.want {
				t.Errorf("got\n%swant\n%s", &out, tt.want)
			}
		})
	}
}
