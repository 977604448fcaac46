package shared

import "time"

// A Verdict is how a worker is to treat a request that was being handled when
// earlier ones died.
type Verdict uint32

const (
	Noted     Verdict = iota // as any other
	Suspect                  // handle it alone: two workers died with it
	Condemned                // answer EIO: a worker died with nothing else to do
)

// A Case is a request that was being handled when a worker died.
type Case struct {
	Unique  uint64
	Deaths  uint32
	Verdict Verdict
}

// suspectAfter is how many workers must have died with a request for the next to
// handle it alone. One death may be anybody's fault.
const suspectAfter = 2

// Blame notes which requests were in flight when a worker died, and frees their
// slots. It returns those that the death condemned. It is called while no worker
// lives.
func (m *Memory) Blame() (condemned []Request) {
	for _, r := range m.InFlight() {
		if r.Phase == Waiting {
			continue // it has done nothing yet
		}
		c := m.caseOf(r.Unique)
		deaths := c.deaths.Add(1)
		switch {
		case r.Phase == Alone:
			c.verdict.Store(uint32(Condemned))
			condemned = append(condemned, r)
		case deaths >= suspectAfter:
			c.verdict.Store(uint32(Suspect))
		}
	}
	m.ClearInFlight()
	return condemned
}

// caseOf returns the case of a request: a new one where there is none, and the
// oldest's place where there is none left either. Requests whose process was
// killed are never answered, so their cases stay.
func (m *Memory) caseOf(unique uint64) *suspect {
	best := &m.suspects[0]
	for i := range m.suspects {
		s := &m.suspects[i]
		if s.unique.Load() == unique {
			return s
		}
		if s.unique.Load() < best.unique.Load() { // 0 is the least: a free one
			best = s
		}
	}
	best.unique.Store(0)
	best.deaths.Store(0)
	best.verdict.Store(uint32(Noted))
	best.unique.Store(unique)
	return best
}

// Cases returns what a worker that starts must know of its predecessors' deaths.
func (m *Memory) Cases() []Case {
	var list []Case
	for i := range m.suspects {
		s := &m.suspects[i]
		if unique := s.unique.Load(); unique != 0 {
			list = append(list, Case{Unique: unique, Deaths: s.deaths.Load(), Verdict: Verdict(s.verdict.Load())})
		}
	}
	return list
}

// Clear says that a request that there is a case of was answered.
func (m *Memory) Clear(unique uint64) {
	for i := range m.suspects {
		if m.suspects[i].unique.Load() == unique {
			m.suspects[i].unique.Store(0)
		}
	}
}

// A Restart is one worker that has taken the place of another.
type Restart struct {
	Time   time.Time
	Reason string
}

// NoteRestart counts a restart.
func (m *Memory) NoteRestart(r Restart) {
	l := &m.last[m.restarts.Load()%LastRestarts]
	reason := r.Reason[:min(len(r.Reason), maxReason)]
	l.length.Store(uint32(len(reason)))
	store(l.reason[:], []byte(reason))
	l.time.Store(r.Time.UnixNano())
	m.restarts.Add(1)
}

// Restarts returns how many there were, and the last ones, the latest at the end.
func (m *Memory) Restarts() (n int64, last []Restart) {
	n = m.restarts.Load()
	for i := max(0, n-LastRestarts); i < n; i++ {
		l := &m.last[i%LastRestarts]
		last = append(last, Restart{time.Unix(0, l.time.Load()), string(load(l.reason[:], l.length.Load()))})
	}
	return n, last
}
