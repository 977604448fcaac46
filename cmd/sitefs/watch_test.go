package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/fusefs/mount"
)

func TestMeter(t *testing.T) {
	mounted := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
	now := mounted.Add(10 * time.Second)
	m := newMeter()
	m.now = func() time.Time { return now }

	steps := []struct {
		name   string
		after  time.Duration
		since  time.Time
		count  int64
		read   int64
		recent bool
		want   float64 // requests per second
		bytes  int64
	}{
		{"the first time", 0, mounted, 50, 1000, false, 5, 1000},
		{"a second later", time.Second, mounted, 57, 1600, true, 7, 600},
		{"at rest", 2 * time.Second, mounted, 57, 1600, true, 0, 0},
		{"mounted anew", time.Second, mounted.Add(12 * time.Second), 4, 8, false, 2, 8},
	}
	for _, s := range steps {
		now = now.Add(s.after)
		p := m.pace(mount.Status{Dir: "/p", Since: s.since, Requests: map[string]int64{"READ": s.count}, BytesRead: s.read})
		if got := p.perSecond(p.requests["READ"]); got != s.want || p.recent != s.recent || p.read != s.bytes {
			t.Errorf("%s: %v requests per second, recent %v, %d bytes; want %v, %v, %d", s.name, got, p.recent, p.read, s.want, s.recent, s.bytes)
		}
	}
	p := m.pace(mount.Status{Dir: "/another", Since: mounted})
	if p.recent {
		t.Error("a mount that was never seen has a pace since it was")
	}
}

func TestWatchEndsWithoutError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tick := make(chan time.Time, 2)
	tick <- time.Time{}
	tick <- time.Time{}
	var shown []string
	texts := []string{"one", "two", "three"}
	err := watch(ctx, tick, func(context.Context) (string, error) {
		return texts[len(shown)], nil
	}, func(text string) error {
		shown = append(shown, text)
		if len(shown) == len(texts) {
			cancel()
		}
		return nil
	})
	if err != nil || !slices.Equal(shown, texts) {
		t.Errorf("shown %q, error %v", shown, err)
	}
}

func TestWatchInterruptedWhileAsking(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := watch(ctx, nil, func(context.Context) (string, error) {
		cancel()
		return "", context.Canceled
	}, func(string) error {
		t.Error("it shows what it could not ask for")
		return nil
	})
	if err != nil {
		t.Errorf("error %v, want none", err)
	}
}

func TestWatchError(t *testing.T) {
	gone, broken := mount.ErrNotMounted, errors.New("no terminal any more")
	if err := watch(t.Context(), nil, func(context.Context) (string, error) { return "", gone }, nil); !errors.Is(err, gone) {
		t.Errorf("asking fails with %v, the watch with %v", gone, err)
	}
	text := func(context.Context) (string, error) { return "", nil }
	if err := watch(t.Context(), nil, text, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("showing fails with %v, the watch with %v", broken, err)
	}
}

func TestFrame(t *testing.T) {
	tests := []struct {
		name, text    string
		columns, rows int
		want          string
	}{
		{"fits", "ab\nc\n", 4, 4, cursorHome + eraseLine + "ab\n" + eraseLine + "c\n" + eraseBelow},
		{"full", "ab\nc\n", 2, 2, cursorHome + eraseLine + "ab\n" + eraseLine + "c"},
		{"too long and too wide", "µsec\nc\nd\n", 2, 2, cursorHome + eraseLine + "µs\n" + eraseLine + "c"},
	}
	for _, tt := range tests {
		if got := frame(tt.text, tt.columns, tt.rows); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestOnScreenLeavesIt(t *testing.T) {
	var out strings.Builder
	broken := errors.New("the mount is gone")
	if err := onScreen(&out, func(func(string) error) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if got := out.String(); got != enterScreen+leaveScreen {
		t.Errorf("wrote %q", got)
	}
}

func TestRates(t *testing.T) {
	m := newMeter()
	s := busyMount()
	now := s.Since.Add(100 * time.Second)
	m.now = func() time.Time { return now }
	var out strings.Builder
	if err := writeRates(&out, []mount.Status{s}, m); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	s.Requests = maps.Clone(s.Requests)
	s.Requests["READ"] += 3
	s.BytesRead += 4000
	if err := writeRates(&out, []mount.Status{s}, m); err != nil {
		t.Fatal(err)
	}
	want := `
STATE  TREE  LEASES  REQUESTS  REQUESTS/S  READ/S   RESTARTS  MOUNT
used   b465  1       12600     126         60.0 kB  7         /p/.venv
STATE  TREE  LEASES  REQUESTS  REQUESTS/S  READ/S  RESTARTS  MOUNT
used   b465  1       12603     1.5         2.0 kB  7         /p/.venv
`
	if got := "\n" + out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
