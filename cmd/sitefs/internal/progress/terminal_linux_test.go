package progress

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/store/fetch"
)

// openTerminal returns both ends of a pseudo-terminal of some size.
func openTerminal(t *testing.T, columns, rows uint16) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
	return master, terminal
}

// A screen holds the lines of a terminal that knows the two controls in use:
// cursor up, and erase to the end.
type screen struct {
	lines []string
	shown []string // all that was ever a whole line
}

var up = regexp.MustCompile(`^\x1b\[(\d+)A\x1b\[J`)

func (s *screen) write(text string) {
	text = strings.ReplaceAll(text, "\r", "")
	for text != "" {
		if m := up.FindStringSubmatch(text); m != nil {
			var n int
			fmt.Sscan(m[1], &n)
			s.lines = s.lines[:len(s.lines)-n]
			text = text[len(m[0]):]
			continue
		}
		line, rest, _ := strings.Cut(text, "\n")
		s.lines = append(s.lines, line)
		s.shown = append(s.shown, line)
		text = rest
	}
}

func TestTerminal(t *testing.T) {
	for _, size := range []struct{ columns, rows uint16 }{{120, 40}, {80, 24}, {24, 24}, {12, 6}, {80, 3}} {
		t.Run(fmt.Sprintf("%dx%d", size.columns, size.rows), func(t *testing.T) {
			t.Setenv("TERM", "xterm")
			master, terminal := openTerminal(t, size.columns, size.rows)
			d := New(terminal, false)

			var pins []lock.Pin
			for i := range 5 {
				pins = append(pins, lock.Pin{Name: fmt.Sprintf("wheel-%d", i), Version: "1.0", URL: "http://127.0.0.1/x", Size: 1e6})
			}
			d.Begin(pins)
			var tasks []fetch.Task
			for _, p := range pins {
				task := d.Start(p)
				task.Phase(fetch.Download, 0, p.Size)
				task.Add(p.Size / 2)
				tasks = append(tasks, task)
			}
			tasks[0].Phase(fetch.Store, 0, 0)
			tasks[0].Add(3e6)

			// Wait for a refresh that shows them all.
			var s screen
			buf := make([]byte, 64<<10)
			for !strings.Contains(strings.Join(s.shown, "\n"), "0 of 5") {
				n, err := master.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				s.write(string(buf[:n]))
			}
			if len(s.lines) > int(size.rows) {
				t.Errorf("%d lines on a terminal of %d", len(s.lines), size.rows)
			}
			fmt.Fprintln(d, "a line above")
			for _, task := range tasks {
				task.Done(nil)
			}
			d.End(nil)
			terminal.Close()
			rest, err := io.ReadAll(master)
			if err != nil && !errors.Is(err, syscall.EIO) { // how a terminal's other end says EOF
				t.Fatal(err)
			}
			s.write(string(rest))

			for _, line := range s.shown {
				if len(line) > int(size.columns) && !strings.HasPrefix(line, "sitefs: stored") {
					t.Errorf("%d columns on a terminal of %d: %q", len(line), size.columns, line)
				}
			}
			if len(s.lines) != 2 || s.lines[0] != "a line above" || !strings.HasPrefix(s.lines[1], "sitefs: stored 5 wheels in ") {
				t.Errorf("left on the terminal: %q", s.lines)
			}
		})
	}
}

func TestDumbTerminal(t *testing.T) {
	t.Setenv("TERM", "dumb")
	_, terminal := openTerminal(t, 80, 24)
	if New(terminal, false).moves {
		t.Error("lines are to be rewritten on a dumb terminal")
	}
}

func TestTerminalWithoutSize(t *testing.T) {
	t.Setenv("TERM", "xterm")
	_, terminal := openTerminal(t, 0, 0)
	if New(terminal, false).moves {
		t.Error("lines are to move on a terminal that has none")
	}
}
