// Package progress shows what a first run does: per wheel what is being done,
// how far it is, how fast and for how long still, then the same of what is
// compiled or written to a directory; without a terminal, one line when each begins and one when it is done.
//
// The invariant it keeps: what moves is gone when the work ends, and lines that
// others write in between stay whole. It uses no colour, so NO_COLOR has
// nothing to switch off, and ASCII only. It prints nothing when nothing has to
// be fetched or compiled.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/store/fetch"
)

// A Display shows the progress of a fetch and of what is compiled after it. It
// is a fetch.Progress, used for one thing at a time, and a Writer for lines that
// are to appear above it.
type Display struct {
	out   io.Writer
	quiet bool
	moves bool // out is a terminal on which lines can be rewritten
	now   func() time.Time

	mu     sync.Mutex
	board  *board
	tally  *tally
	volume *volume
	bars   *bars // nil unless something moves
}

// New returns a Display on out, normally standard error. A quiet one shows
// nothing of its own.
func New(out io.Writer, quiet bool) *Display {
	_, _, moves := TerminalSize(out)
	return &Display{out: out, quiet: quiet, moves: moves, now: time.Now}
}

// TerminalSize returns the size of the terminal that out is. It is not ok where out
// is none or its lines can't be rewritten. A pseudo-terminal that nobody gave a
// size, as some CI systems make them, has no line at all to move on.
func TerminalSize(out io.Writer) (columns, rows int, ok bool) {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return 0, 0, false
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	return columns, rows, err == nil && rows > 0
}

// Begin implements fetch.Progress.
func (d *Display) Begin(pins []lock.Pin) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.board = newBoard(pins, d.now())
	d.begin(d.board, d.board.opening())
}

// begin shows a picture where it can move, and else says what is done. The
// caller holds mu.
func (d *Display) begin(of picture, opening string) {
	switch {
	case d.quiet:
	case d.moves:
		d.bars = newBars(d.out, of, d.now)
	default:
		d.say(opening)
	}
}

// end takes the picture away. The caller holds mu.
func (d *Display) end() {
	if d.bars != nil {
		d.bars.close()
		d.bars = nil
	}
}

// Start implements fetch.Progress.
func (d *Display) Start(pin lock.Pin) fetch.Task {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &task{d, d.board.start(pin, d.now())}
}

// End implements fetch.Progress.
func (d *Display) End(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
	if err == nil && !d.quiet {
		d.say(d.board.closing(d.now()))
	}
}

// Write writes p, which should be whole lines, above what moves.
func (d *Display) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bars != nil {
		if n, err := d.bars.progress.Write(p); err == nil {
			return n, nil
		}
	}
	return d.out.Write(p)
}

// say writes a line. That it can't be written is no reason to end the work.
func (d *Display) say(line string) { fmt.Fprintf(d.out, "sitefs: %s\n", line) }

// A task is a wheel of the display.
type task struct {
	display *Display
	wheel   *wheel
}

func (t *task) Phase(p fetch.Phase, done, total int64) {
	t.wheel.phase(p, done, total, t.display.now())
}

func (t *task) Add(n int64) { t.wheel.add(n) }

func (t *task) Retry(err error, wait time.Duration) {
	if !t.display.quiet {
		fmt.Fprintf(t.display, "sitefs: %s: %v; trying again in %s\n", t.wheel.name, err, seconds(wait))
	}
}

func (t *task) Done(err error) { t.wheel.finish(err) }
