package fetch

import (
	"time"

	"github.com/sitefs/sitefs/manifest/lock"
)

// A Phase is what is being done to a wheel.
type Phase int

const (
	Download Phase = iota // bytes arrive
	Check                 // bytes kept from an earlier attempt are hashed
	Store                 // the file is taken in, which is counted in bytes of its content
)

func (p Phase) String() string {
	switch p {
	case Download:
		return "download"
	case Check:
		return "check"
	default:
		return "store"
	}
}

// Progress is told what Fetch does. Its methods and those of its tasks are
// called from several goroutines.
type Progress interface {
	// Begin is called once, with the pins to fetch, before any Start.
	Begin(pins []lock.Pin)
	// Start is called when the work on a pin begins.
	Start(pin lock.Pin) Task
	// End is called when every task is done, with what Fetch returns.
	End(err error)
}

// A Task is told about one wheel.
type Task interface {
	// Phase says that a phase begins, or begins again, with done of total
	// bytes; total is 0 when nobody knows it.
	Phase(p Phase, done, total int64)
	// Add says that n more bytes are done.
	Add(n int64)
	// Retry says that the download failed with err and is tried again after
	// wait.
	Retry(err error, wait time.Duration)
	// Done ends the task, well if err is nil.
	Done(err error)
}

type silent struct{}

func (silent) Begin([]lock.Pin)           {}
func (silent) Start(lock.Pin) Task        { return silent{} }
func (silent) End(error)                  {}
func (silent) Phase(Phase, int64, int64)  {}
func (silent) Add(int64)                  {}
func (silent) Retry(error, time.Duration) {}
func (silent) Done(error)                 {}
