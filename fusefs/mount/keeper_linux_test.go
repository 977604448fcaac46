package mount

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/sitefs/sitefs/fusefs/mount/internal/shared"
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

// Between starts there is a pause, longer each time, unless something was answered
// since the last.
func TestNextPause(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name     string
		answered []bool // since the start before
		want     []time.Duration
	}{
		{"nothing is answered", make([]bool, 12), []time.Duration{
			10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, 1280 * ms, 2560 * ms, 5000 * ms, 5000 * ms, 5000 * ms,
		}},
		{"all is well between", []bool{true, true, true}, []time.Duration{0, 0, 0}},
		{"it begins anew", []bool{false, false, true, false, false}, []time.Duration{10 * ms, 20 * ms, 0, 10 * ms, 20 * ms}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k := restingKeeper(t)
			for i, answered := range test.answered {
				if answered {
					k.memory.CountReply(opRead, 0, 0, false)
				}
				if got := k.nextPause(); got != test.want[i] {
					t.Errorf("start %d: after %v, want %v", i, got, test.want[i])
				}
			}
		})
	}
}

// Nobody waits for the next start at a mount that has ended.
func TestRestEndsWithTheMount(t *testing.T) {
	k := restingKeeper(t)
	k.pause = time.Hour
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	k.fd = int(w.Fd())
	if !k.connected() {
		t.Error("it has ended at once")
	}
	time.AfterFunc(0, func() { r.Close() }) // as the kernel does to a device
	k.rest()
	if k.connected() {
		t.Error("it goes on")
	}
}

// restingKeeper returns a keeper that has only what rest needs.
func restingKeeper(t *testing.T) *keeper {
	t.Helper()
	memory, file, err := shared.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(memory.Close(), file.Close()); err != nil {
			t.Error(err)
		}
	})
	return &keeper{memory: memory, pause: firstPause}
}

// A worker of which nobody knows how it ended has ended all the same.
func TestUnknownEnd(t *testing.T) {
	c := &child{waiting: errors.New("no child processes")}
	if c.killed() {
		t.Error("it counts as killed by somebody")
	}
	if got, want := c.reason(), "nobody knows: no child processes"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A worker that neither serves nor ends is waited for no longer than it may take.
func TestReadyIsBounded(t *testing.T) {
	tests := []struct{ name, script string }{
		{"says nothing", "exec sleep 1000"},
		{"refuses", `printf '{"kind":"refuse","reason":"no"}' >&3; exec sleep 1000`},
		{"hangs up", "exec 3>&-; exec sleep 1000"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k, err := newKeeper(Config{Worker: []string{"/bin/sh", "-c", "head -c 1 <&3 >/dev/null; " + test.script}}, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer k.close()
			c, err := k.spawn("")
			if err != nil {
				t.Fatal(err)
			}
			if err := c.ready(50 * time.Millisecond); err == nil {
				t.Error("it is ready")
			}
			select {
			case <-c.ended:
			default:
				t.Error("it is left")
			}
		})
	}
}

// A status may be asked for in the moment in which the mount ends.
func TestFillAfterClose(t *testing.T) {
	k, err := newKeeper(Config{Worker: []string{"/bin/false"}}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
	var s Status
	k.fill(&s)
	if s.WorkerPID != 0 {
		t.Errorf("worker %d, want none", s.WorkerPID)
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
