package progress

import (
	"bytes"
	"testing"
	"time"
)

func TestVolumeLine(t *testing.T) {
	tests := []struct {
		name        string
		done, total int64
		after       time.Duration
		want        string
	}{
		{"begins", 0, 1600e6, 2 * time.Second, "wrote 0.0/1.6 GB  [                                      ]"},
		{"half", 800e6, 1600e6, 2 * time.Second, "wrote 0.8/1.6 GB  400.0 MB/s  2.0s left  [==============               ]"},
		{"all, and the paths in scripts", 1601e6, 1600e6, 2 * time.Second, "wrote 1.6/1.6 GB  800.0 MB/s  [======================================]"},
		{"nothing to write", 0, 0, 0, "wrote 0.0 kB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := &volume{began: start, total: tt.total}
			v.done.Store(tt.done)
			if got := v.line(start.Add(tt.after), 72); len(got) > 72 || got != tt.want {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
		})
	}
}

// TestWritePlain: who writes says what was written.
func TestWritePlain(t *testing.T) {
	var out bytes.Buffer
	d := New(&out, false)
	d.BeginWrite(10)
	d.Wrote(10)
	d.EndWrite()
	if out.Len() > 0 {
		t.Errorf("said %q", &out)
	}
}
