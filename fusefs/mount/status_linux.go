package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sitefs/sitefs/fusefs/mount/internal/shared"
)

// reportTimeout bounds the wait for a worker's report: it may hang.
const reportTimeout = time.Second

// report asks the worker what the status has to show, with the paths of nodes.
// There is nothing where it has just died. The caller holds asking.
func (k *keeper) report(nodes []uint64) (message, bool) {
	c := k.current()
	select {
	case <-c.reports: // late
	default:
	}
	if err := c.link.send(message{Kind: kindReport, Nodes: nodes}); err != nil {
		return message{}, false
	}
	timer := time.NewTimer(reportTimeout)
	defer timer.Stop()
	select {
	case m := <-c.reports:
		return m, true
	case <-c.ended:
	case <-timer.C:
	}
	return message{}, false
}

// fill adds to a status what the keeper knows.
func (k *keeper) fill(s *Status) {
	k.asking.Lock()
	defer k.asking.Unlock()
	if k.closed {
		return // the mount has ended since the status was asked for
	}
	waiting := stuck(k.memory.InFlight(), monotonic())
	m, ok := k.report(nodesOf(waiting))
	if ok {
		s.Bytecode, s.LastError = m.Report, m.LastError
	}
	s.InFlight = describeStuck(waiting, m.Paths, monotonic())
	c := k.current()
	s.WorkerPID, s.Confined = c.process.Pid, c.confined
	s.Requests, s.Latency = make(map[string]int64), make(map[string]Latency)
	for op := range uint32(shared.Opcodes) {
		if n := k.memory.Requests(op); n > 0 {
			s.Requests[opName(op)] = n
		}
		if n, median := k.memory.Latency(op, 0.5); n > 0 {
			_, p99 := k.memory.Latency(op, 0.99)
			s.Latency[opName(op)] = Latency{N: n, P50: microseconds(median), P99: microseconds(p99)}
		}
	}
	s.Errors, s.BytesRead = k.memory.Faults(), k.memory.BytesRead()
	var last []shared.Restart
	s.Restarts, last = k.memory.Restarts()
	for _, r := range last {
		s.LastRestarts = append(s.LastRestarts, Restart(r))
	}
	s.Memory.Supervisor, s.Memory.Worker = proportional(os.Getpid()), proportional(c.process.Pid)
	if k.companion != nil {
		s.Memory.Companion = proportional(k.companion.process())
	}
	s.Resend = k.resends()
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// stuckAfter is from what age on a request is worth a line.
const stuckAfter = time.Second

// stuck returns those requests that are being answered for long.
func stuck(list []shared.Request, now int64) []shared.Request {
	return slices.DeleteFunc(list, func(r shared.Request) bool { return time.Duration(now-r.Started) <= stuckAfter })
}

func nodesOf(list []shared.Request) []uint64 {
	var nodes []uint64
	for _, r := range list {
		nodes = append(nodes, r.Node)
	}
	return nodes
}

// describeStuck describes requests for the status. Of the first of them there are
// the paths of their nodes, "" where one isn't known.
func describeStuck(list []shared.Request, paths []string, now int64) []InFlight {
	var found []InFlight
	for i, r := range list {
		path := fmt.Sprintf("node %d", r.Node)
		if i < len(paths) && paths[i] != "" {
			path = paths[i]
		}
		found = append(found, InFlight{
			Op:   opName(r.Opcode),
			Path: filepath.Join(path, r.Name),
			Age:  time.Duration(now - r.Started).Milliseconds(),
			PID:  int(r.PID),
		})
	}
	return found
}
