package mount

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSamePlace(t *testing.T) {
	const dir = "/p/.venv"
	tests := []struct {
		path  string
		leads string // where it is found to lead; "" if it must not be looked at
		want  bool
	}{
		{"/p/.venv", "", true},
		{"/p/.venv/", "", true},
		{"/p/x/../.venv", "", true},
		{"/p/.venv/lib", "", false},
		{"p/.venv", "", false},
		{"/link/.venv", "/p/.venv", true},
		{"/link/.venv", "/q/.venv", false},
		{"/gone/.venv", "error", false},
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			r := resolver{resolve: func(path string) (string, error) {
				switch test.leads {
				case "":
					t.Errorf("%q is looked at", path)
				case "error":
					return "", errors.New("not there")
				}
				return test.leads, nil
			}}
			for range 2 { // processes may have the same path
				if got := r.samePlace(test.path, dir); got != test.want {
					t.Errorf("%v, want %v", got, test.want)
				}
			}
		})
	}
}

// A path on a disk that doesn't answer is waited for once, and for a moment.
func TestSamePlaceHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looked atomic.Int32
		answers := make(chan struct{})
		r := resolver{resolve: func(path string) (string, error) {
			looked.Add(1)
			<-answers
			return path, nil
		}}
		start := time.Now()
		for range 3 {
			if !r.samePlace("/nfs/.venv", "/p/.venv") {
				t.Error("it is known not to be the same")
			}
		}
		if took := time.Since(start); looked.Load() != 1 || took != resolvePatience {
			t.Errorf("looked at %d times in %v, want once in %v", looked.Load(), took, resolvePatience)
		}
		close(answers)
		synctest.Wait()
		if r.samePlace("/nfs/.venv", "/p/.venv") {
			t.Error("it is the same, though it leads elsewhere")
		}
	})
}
