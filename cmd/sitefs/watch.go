package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/progress"
	"github.com/sitefs/sitefs/fusefs/mount"
)

// A pace is what a mount did in some span of time.
type pace struct {
	span     time.Duration
	recent   bool // since it was last looked at; else since it was mounted
	requests map[string]int64
	read     int64 // bytes
}

func (p pace) perSecond(n int64) float64 {
	if p.span <= 0 {
		return 0
	}
	return float64(n) / p.span.Seconds()
}

// rate says how often something is done that was done n times.
func (p pace) rate(n int64) string {
	return fmt.Sprintf("%s/s %s", decimal(p.perSecond(n)), p.when())
}

func (p pace) when() string {
	if p.recent {
		return "now"
	}
	return "on average"
}

// A meter tells the pace of mounts from what it saw of them before.
type meter struct {
	now  func() time.Time
	seen map[string]sight // by mount point
}

// A sight is a status and when it was had.
type sight struct {
	time   time.Time
	status mount.Status
}

func newMeter() *meter {
	return &meter{now: time.Now, seen: make(map[string]sight)}
}

// pace returns what the mount did since it was last seen, or since it was mounted
// if it was not.
func (m *meter) pace(s mount.Status) pace {
	now := m.now()
	last, ok := m.seen[s.Dir]
	m.seen[s.Dir] = sight{now, s}
	if !ok || !last.status.Since.Equal(s.Since) {
		return pace{span: now.Sub(s.Since), requests: s.Requests, read: s.BytesRead}
	}
	p := pace{span: now.Sub(last.time), recent: true, requests: make(map[string]int64), read: s.BytesRead - last.status.BytesRead}
	for kind, n := range s.Requests {
		p.requests[kind] = n - last.status.Requests[kind]
	}
	return p
}

// writeRates writes a line for each mount, with what it is doing.
func writeRates(out io.Writer, mounts []mount.Status, m *meter) error {
	return printRows(out, false, "STATE\tTREE\tLEASES\tREQUESTS\tREQUESTS/S\tREAD/S\tRESTARTS\tMOUNT", mounts, func(s mount.Status) string {
		p := m.pace(s)
		return fmt.Sprintf("%s\t%.12s\t%d\t%d\t%s\t%s\t%d\t%s", s.State, s.Tree, len(s.Leases), total(s.Requests),
			decimal(p.perSecond(total(p.requests))), progress.Size(int64(p.perSecond(p.read))), s.Restarts, s.Dir)
	})
}

// watch shows a text now and at every tick, until ctx ends. That is how a watch
// ends, so it is no error.
func watch(ctx context.Context, tick <-chan time.Time, text func(context.Context) (string, error), show func(string) error) error {
	for {
		s, err := text(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := show(s); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
	}
}

// What terminals understand (ECMA-48, and xterm's second screen, which keeps what
// was on the first).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	cursorHome  = "\x1b[H"
	eraseLine   = "\x1b[2K"
	eraseBelow  = "\x1b[J"
)

// onScreen calls f with a function that fills the terminal that out is with a
// text.
func onScreen(out io.Writer, f func(show func(string) error) error) error {
	if _, err := io.WriteString(out, enterScreen); err != nil {
		return err
	}
	defer io.WriteString(out, leaveScreen) // a terminal that is gone needs none
	return f(func(text string) error {
		columns, rows, _ := progress.TerminalSize(out) // anew: people resize windows
		_, err := io.WriteString(out, frame(text, columns, rows))
		return err
	})
}

// frame returns what makes a terminal show as much of text as fits.
func frame(text string, columns, rows int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	var b strings.Builder
	b.WriteString(cursorHome)
	for i, line := range lines[:min(len(lines), rows)] {
		if i > 0 {
			b.WriteString("\n")
		}
		letters := []rune(line)
		b.WriteString(eraseLine + string(letters[:min(len(letters), columns)]))
	}
	if len(lines) < rows {
		b.WriteString("\n" + eraseBelow)
	}
	return b.String()
}
