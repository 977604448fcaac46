package progress

import (
	"sync/atomic"
	"time"
)

// BeginWrite implements materialize.Progress. Without a terminal there is nothing to
// say: whoever writes says what was written.
func (d *Display) BeginWrite(size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.volume = &volume{began: d.now(), total: size}
	if d.moves {
		d.begin(d.volume, "")
	}
}

// Wrote implements materialize.Progress.
func (d *Display) Wrote(size int64) { d.volume.done.Add(size) }

// EndWrite implements materialize.Progress.
func (d *Display) EndWrite() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
}

// A volume is what is known of an environment that is being written, in bytes.
type volume struct {
	began time.Time
	total int64
	done  atomic.Int64
}

func (v *volume) line(now time.Time, width int) string {
	done := min(v.done.Load(), v.total) // a tree knows its size but for that of its scripts' paths
	parts := append([]string{"wrote " + amount(done, v.total)}, pace(done, v.total-done, now.Sub(v.began))...)
	text := fit(width, parts)
	if room := min(width-len(text)-2, maxBar); v.total > 0 && room >= minBar {
		text += "  " + bar(done, v.total, room)
	}
	return text
}

// lines are none: files are too many and too quick to be named.
func (v *volume) lines(time.Time, int) []string { return nil }
