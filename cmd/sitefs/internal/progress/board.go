package progress

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/store/fetch"
)

// A board is what is known of a whole fetch.
type board struct {
	began time.Time
	count int   // wheels
	size  int64 // bytes to download as far as the lock file says

	mu     sync.Mutex
	wheels []*wheel // those that were started
}

func newBoard(pins []lock.Pin, now time.Time) *board {
	b := &board{began: now, count: len(pins)}
	for _, p := range pins {
		if p.Path == "" {
			b.size += p.Size
		}
	}
	return b
}

func (b *board) start(pin lock.Pin, now time.Time) *wheel {
	w := &wheel{name: pin.Name + " " + pin.Version, began: now}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wheels = append(b.wheels, w)
	return w
}

// totals returns how many wheels are stored, how many bytes are downloaded, and
// how many of those arrived since the fetch began.
func (b *board) totals() (stored int, downloaded, arrived int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.wheels {
		w.mu.Lock()
		if w.finished && !w.failed {
			stored++
		}
		downloaded += w.downloaded
		arrived += w.arrived
		w.mu.Unlock()
	}
	return stored, downloaded, arrived
}

func (b *board) opening() string {
	if b.size == 0 {
		return fmt.Sprintf("fetching %s", wheels(b.count))
	}
	return fmt.Sprintf("fetching %s, %s", wheels(b.count), Size(b.size))
}

func (b *board) closing(now time.Time) string {
	_, _, arrived := b.totals()
	s := fmt.Sprintf("stored %s in %s", wheels(b.count), seconds(now.Sub(b.began)))
	if arrived > 0 {
		s += fmt.Sprintf(", %s downloaded", Size(arrived))
	}
	return s
}

// lines are those of the wheels at work, the youngest first.
func (b *board) lines(now time.Time, width int) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []string
	for _, w := range slices.Backward(b.wheels) {
		if line := w.line(now, width); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// line is the bottom line of a terminal of some width.
func (b *board) line(now time.Time, width int) string {
	stored, downloaded, arrived := b.totals()
	parts := []string{fmt.Sprintf("%d of %s", stored, wheels(b.count))}
	if downloaded > 0 {
		parts = append(parts, amount(downloaded, b.size))
	}
	if left := b.size - downloaded; left > 0 {
		parts = append(parts, pace(arrived, left, now.Sub(b.began))...)
	}
	return fit(width, parts)
}

// A wheel is what is known of one wheel.
type wheel struct {
	name string

	mu          sync.Mutex
	began       time.Time // the phase
	current     fetch.Phase
	done, total int64 // of the phase; total is 0 when it isn't known
	start       int64 // what was done when the phase began
	downloaded  int64 // bytes of the wheel that are here
	arrived     int64 // bytes that came over the network, some perhaps twice
	finished    bool
	failed      bool
}

func (w *wheel) phase(p fetch.Phase, done, total int64, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current, w.done, w.start, w.total, w.began = p, done, done, total, now
	if p == fetch.Download {
		w.downloaded = done
	}
}

func (w *wheel) add(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += n
	if w.current == fetch.Download {
		w.downloaded += n
		w.arrived += n
	}
}

func (w *wheel) finish(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished, w.failed = true, err != nil
}

// Columns of a wheel's line. What isn't there for them is left out from the
// right, and the bar first of all.
const (
	nameWidth   = 28
	phaseWidth  = len("download")
	amountWidth = len("999.9/999.9 MB")
	minBar      = 10
	maxBar      = 40
)

// line is the wheel's line on a terminal of some width, "" when it is done.
func (w *wheel) line(now time.Time, width int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finished {
		return ""
	}
	parts := []string{
		fmt.Sprintf("%-*s", nameWidth, short(w.name, nameWidth)),
		fmt.Sprintf("%-*s", phaseWidth, w.current),
	}
	if w.done > 0 || w.total > 0 {
		parts = append(parts, fmt.Sprintf("%*s", amountWidth, amount(w.done, w.total)))
		parts = append(parts, pace(w.done-w.start, w.total-w.done, now.Sub(w.began))...)
	}
	text := fit(width, parts)
	if room := min(width-len(text)-2, maxBar); w.total > 0 && room >= minBar {
		text += "  " + bar(w.done, w.total, room)
	}
	return text
}

// pace says how fast n bytes came and for how long left more will; it is empty
// in the first second, which says nothing about the next.
func pace(n, left int64, elapsed time.Duration) []string {
	if n <= 0 || elapsed < time.Second {
		return nil
	}
	speed := float64(n) / elapsed.Seconds()
	parts := []string{Size(int64(speed)) + "/s"}
	if left > 0 {
		parts = append(parts, seconds(time.Duration(float64(left)/speed*float64(time.Second)))+" left")
	}
	return parts
}

// fit joins as many of parts, two spaces between them, as width takes.
func fit(width int, parts []string) string {
	line := short(parts[0], width)
	for _, p := range parts[1:] {
		if len(line)+2+len(p) > width {
			break
		}
		line += "  " + p
	}
	return line
}

// short cuts s, which is ASCII as the names and versions of packages are.
func short(s string, width int) string {
	if len(s) <= width {
		return s
	}
	if width < 4 {
		return s[:max(width, 0)]
	}
	return s[:width-3] + "..."
}

func bar(done, total int64, width int) string {
	inner := width - 2
	n := min(int(float64(inner)*float64(done)/float64(total)), inner)
	return "[" + strings.Repeat("=", n) + strings.Repeat(" ", inner-n) + "]"
}

// units are decimal, as in the listings of indexes.
var units = []string{"kB", "MB", "GB", "TB"}

// unit returns the divisor and the name of the unit for n bytes.
func unit(n int64) (divisor float64, name string) {
	divisor = 1000
	for _, name := range units[:len(units)-1] {
		// 999.95 of a unit is the first that would be shown as 1000.0.
		if float64(n) < divisor*999.95 {
			return divisor, name
		}
		divisor *= 1000
	}
	return divisor, units[len(units)-1]
}

// Size returns n bytes as people read them, such as "1.7 MB".
func Size(n int64) string {
	divisor, name := unit(n)
	return fmt.Sprintf("%.1f %s", float64(n)/divisor, name)
}

// amount is done of total in the unit of total.
func amount(done, total int64) string {
	if total <= 0 {
		return Size(done)
	}
	divisor, name := unit(total)
	return fmt.Sprintf("%.1f/%.1f %s", float64(done)/divisor, float64(total)/divisor, name)
}

func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func wheels(n int) string {
	if n == 1 {
		return "1 wheel"
	}
	return fmt.Sprintf("%d wheels", n)
}
