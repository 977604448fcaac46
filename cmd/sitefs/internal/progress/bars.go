package progress

import (
	"fmt"
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// refresh is how often the lines are rewritten: seldom enough to be read.
const refresh = 100 * time.Millisecond

// A picture is what a terminal shows of some work: a line at the bottom and those
// above it.
type picture interface {
	line(now time.Time, width int) string
	lines(now time.Time, width int) []string
}

// bars shows a picture on a terminal: to mpb, which knows the size of the
// terminal and moves the cursor, it is one bar with lines above it. A terminal
// that goes away ends the display and nothing else.
type bars struct {
	progress *mpb.Progress
	erase    func()
}

func newBars(out io.Writer, of picture, now func() time.Time) *bars {
	bottom := func(w io.Writer, s decor.Statistics) error {
		_, err := io.WriteString(w, of.line(now(), s.AvailableWidth))
		return err
	}
	above := func(w io.Writer, s decor.Statistics) error {
		// mpb puts each line above the one before.
		for _, line := range of.lines(now(), s.AvailableWidth) {
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
		}
		return nil
	}
	p := mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(refresh))
	bar, err := p.Add(0, mpb.BarFillerFunc(bottom), mpb.BarFillerTrim(), mpb.BarExtender(mpb.BarFillerFunc(above), true))
	if err != nil {
		return &bars{p, func() {}} // the terminal is gone already
	}
	return &bars{p, func() { bar.Abort(true) }}
}

// close takes everything away.
func (p *bars) close() {
	p.erase()
	p.progress.Wait()
}
