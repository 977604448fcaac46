package mount

import (
	"errors"
	"testing"
	"time"
)

func TestStall(t *testing.T) {
	const patience = 10 * time.Second
	type look struct {
		at       int // seconds
		answered int64
		waiting  bool
	}
	tests := []struct {
		name  string
		looks []look
		want  bool // of the last
	}{
		{"nothing waits", []look{{0, 1, false}, {20, 1, false}}, false},
		{"something waits", []look{{0, 1, true}, {5, 1, true}, {10, 1, true}}, true},
		{"not for long", []look{{0, 1, true}, {9, 1, true}}, false},
		{"others are answered", []look{{0, 1, true}, {9, 2, true}, {18, 2, true}}, false},
		{"others were answered at first", []look{{0, 1, true}, {9, 2, true}, {19, 2, true}}, true},
		{"it waits since now", []look{{0, 1, false}, {20, 1, true}}, false},
		{"it was given up", []look{{0, 1, true}, {5, 1, false}, {10, 1, true}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s stall
			var got bool
			for _, l := range test.looks {
				got = s.lasts(l.answered, l.waiting, time.Unix(int64(l.at), 0), patience)
			}
			if got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestCanResend(t *testing.T) {
	reply := make([]byte, outHeaderSize+64)
	if canResend(reply) || canResend(nil) {
		t.Error("without the flag")
	}
	reply[initFlags2] = 0x80 // bit 39 of 64, little-endian as on every machine so far
	if !canResend(reply) {
		t.Error("not with the flag")
	}
}

// A worker that somebody kills while it gets ready has not said that it can't serve.
func TestKilledBeforeReady(t *testing.T) {
	tests := []struct {
		name   string
		script string
		killed bool
	}{
		{"killed", "kill -KILL $$", true},
		{"ends by a signal of its own", "kill -SEGV $$", false},
		{"fails", "exit 3", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// It reads the message first: the end of who hasn't been told what to do
			// is another error.
			script := "head -c 1 <&3 >/dev/null; " + test.script
			k, err := newKeeper(Config{Worker: []string{"/bin/sh", "-c", script}}, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer k.close()
			if _, err := k.launch(""); err == nil || errors.Is(err, errKilled) != test.killed {
				t.Errorf("%v, want an error, that of a killed one: %v", err, test.killed)
			}
		})
	}
}
