package progress

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/store/fetch"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestWheelLine(t *testing.T) {
	type phase struct {
		phase             fetch.Phase
		done, total, more int64
	}
	tests := []struct {
		name  string
		pin   lock.Pin
		phase phase
		after time.Duration
		width int
		want  string
	}{
		{"wide", lock.Pin{Name: "numpy", Version: "2.1.0"}, phase{fetch.Download, 0, 20e6, 10e6}, 2 * time.Second, 110,
			"numpy 2.1.0                   download    10.0/20.0 MB  5.0 MB/s  2.0s left  [===============                ]"},
		{"80 columns", lock.Pin{Name: "numpy", Version: "2.1.0"}, phase{fetch.Download, 0, 20e6, 10e6}, 2 * time.Second, 80,
			"numpy 2.1.0                   download    10.0/20.0 MB  5.0 MB/s  2.0s left"},
		{"60 columns", lock.Pin{Name: "numpy", Version: "2.1.0"}, phase{fetch.Download, 0, 20e6, 10e6}, 2 * time.Second, 60,
			"numpy 2.1.0                   download    10.0/20.0 MB"},
		{"20 columns", lock.Pin{Name: "numpy", Version: "2.1.0"}, phase{fetch.Download, 0, 20e6, 10e6}, 2 * time.Second, 20,
			"numpy 2.1.0      ..."},
		{"3 columns", lock.Pin{Name: "numpy", Version: "2.1.0"}, phase{fetch.Download, 0, 20e6, 10e6}, 2 * time.Second, 3,
			"num"},
		{"no columns", lock.Pin{Name: "numpy", Version: "2.1.0"}, phase{fetch.Download, 0, 20e6, 10e6}, 2 * time.Second, 0,
			""},
		{"long name", lock.Pin{Name: strings.Repeat("long", 10), Version: "1"}, phase{fetch.Download, 0, 0, 0}, 0, 80,
			"longlonglonglonglonglongl...  download"},
		{"resumed: speed of what came", lock.Pin{Name: "a", Version: "1"}, phase{fetch.Download, 900e6, 1000e6, 10e6}, 2 * time.Second, 80,
			"a 1                           download      0.9/1.0 GB  5.0 MB/s  18s left"},
		{"size unknown", lock.Pin{Name: "a", Version: "1"}, phase{fetch.Download, 0, 0, 2e3}, 2 * time.Second, 80,
			"a 1                           download          2.0 kB  1.0 kB/s"},
		{"first second", lock.Pin{Name: "a", Version: "1"}, phase{fetch.Check, 0, 100e3, 50e3}, time.Second / 2, 80,
			"a 1                           check      50.0/100.0 kB  [===========           ]"},
		{"store", lock.Pin{Name: "a", Version: "1"}, phase{fetch.Store, 0, 0, 3e9}, 2 * time.Second, 80,
			"a 1                           store             3.0 GB  1.5 GB/s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newBoard([]lock.Pin{tt.pin}, start).start(tt.pin, start)
			w.phase(tt.phase.phase, tt.phase.done, tt.phase.total, start)
			w.add(tt.phase.more)
			got := w.line(start.Add(tt.after), tt.width)
			if got != tt.want {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
			if len(got) > tt.width {
				t.Errorf("%d columns, have %d", len(got), tt.width)
			}
		})
	}
}

func TestBoard(t *testing.T) {
	pins := []lock.Pin{
		{Name: "a", Version: "1", URL: "http://127.0.0.1/a", Size: 40e6},
		{Name: "b", Version: "2", URL: "http://127.0.0.1/b", Size: 60e6},
		{Name: "c", Version: "3", Path: "/c", Size: 5e6},
	}
	b := newBoard(pins, start)
	now := start.Add(10 * time.Second)
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	want("opening", b.opening(), "fetching 3 wheels, 100.0 MB")
	want("nothing yet", b.line(now, 80), "0 of 3 wheels")

	a := b.start(pins[0], start)
	a.phase(fetch.Check, 0, 30e6, start)
	a.add(30e6)
	want("checked bytes are none that came", b.line(now, 80), "0 of 3 wheels")
	a.phase(fetch.Download, 30e6, 40e6, start)
	a.add(10e6)
	a.phase(fetch.Store, 0, 0, start)
	a.add(70e6)
	a.finish(nil)
	want("one", b.line(now, 80), "1 of 3 wheels  40.0/100.0 MB  1.0 MB/s  1m0s left")
	want("narrow", b.line(now, 30), "1 of 3 wheels  40.0/100.0 MB")
	second := b.start(pins[1], start)
	second.phase(fetch.Download, 60e6, 60e6, start)
	want("all here, not all stored", b.line(now, 80), "1 of 3 wheels  100.0/100.0 MB")
	second.finish(errors.New("interrupted"))
	want("one failed", b.line(now, 80), "1 of 3 wheels  100.0/100.0 MB")
	want("closing", b.closing(now), "stored 3 wheels in 10s, 10.0 MB downloaded")

	local := newBoard(pins[2:], start)
	want("local opening", local.opening(), "fetching 1 wheel")
	want("local closing", local.closing(start.Add(time.Second)), "stored 1 wheel in 1.0s")
}

func TestSize(t *testing.T) {
	tests := []struct {
		n    int64
		want string
	}{
		{0, "0.0 kB"},
		{999, "1.0 kB"},
		{999_949, "999.9 kB"},
		{999_950, "1.0 MB"},
		{1_234_567_890, "1.2 GB"},
		{5e15, "5000.0 TB"},
	}
	for _, tt := range tests {
		if got := Size(tt.n); got != tt.want {
			t.Errorf("Size(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}
