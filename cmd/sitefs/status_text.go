package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/progress"
	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/store/bytecode"
)

// A page is text of which each line has a name in a column of its own.
type page struct{ strings.Builder }

// line adds a line.
func (p *page) line(name, format string, args ...any) {
	fmt.Fprintf(p, "%-9s %s\n", name, fmt.Sprintf(format, args...))
}

// lines adds a line per text, of which the first has the name.
func (p *page) lines(name string, texts []string) {
	for _, text := range texts {
		p.line(name, "%s", text)
		name = ""
	}
}

// describe returns all that is known of one mount, and how fast it works.
func describe(s mount.Status, p pace) string {
	var b page
	describeMount(&b, s)
	if s.State != mount.StateDead {
		describeWork(&b, s, p)
		describeHealth(&b, s)
	}
	b.lines("bytecode", describeBytecode(s.Bytecode))
	return b.String()
}

// describeMount says what is mounted, how, and for whom.
func describeMount(b *page, s mount.Status) {
	info := infoOf(s)
	b.line("mount", "%s", s.Dir)
	if s.State == mount.StateDead {
		b.line("state", "%s", deadness(s))
	} else {
		b.line("state", "%s since %s, pid %d", s.State, s.Since.Format(time.DateTime), s.PID)
	}
	switch s.Rung {
	case "": // of a server that died
	case mount.RungNamespace:
		b.line("rung", "%s: see `sitefs run --help` for what doesn't work in it", s.Rung)
	default:
		b.line("rung", "%s", s.Rung)
	}
	b.line("tree", "%s", info.Tree)
	b.line("from", "%s", info.Source)
	switch {
	case info.Scratch:
		b.line("overlay", "for one run: changes go with the mount")
	case info.Overlay != "":
		b.line("overlay", "%s", info.Overlay)
	}
	b.line("python", "%s", info.Python)
	if info.PythonProblem != "" {
		b.line("", "%s", info.PythonProblem)
	}
	for _, p := range s.Leases {
		b.line("lease", "pid %d, %s", p.PID, p.Name)
	}
}

// infoOf returns what the mount was given to tell.
func infoOf(s mount.Status) session.Info {
	var info session.Info
	if json.Unmarshal(s.Info, &info) != nil {
		return session.Info{} // of another version: the rest still stands
	}
	return info
}

// deadness says what a dead mount is and what becomes of it.
func deadness(s mount.Status) string {
	return fmt.Sprintf("dead: its server, pid %d, is gone; the next `sitefs mount` or `sitefs run` makes it anew, `sitefs umount` takes it away", s.PID)
}

// writeProblems writes a line for each mount that a line of the table doesn't tell
// enough of.
func writeProblems(out io.Writer, mounts []mount.Status) error {
	for _, s := range mounts {
		problem := infoOf(s).PythonProblem
		if s.State == mount.StateDead {
			problem = deadness(s)
		}
		if problem == "" {
			continue
		}
		if _, err := fmt.Fprintf(out, "sitefs: warning: %s: %s\n", s.Dir, problem); err != nil {
			return err
		}
	}
	return nil
}

// describeWork says what the mount was asked and how fast it answered.
func describeWork(b *page, s mount.Status, p pace) {
	b.line("requests", "%s, %s", grouped(total(s.Requests)), p.rate(total(p.requests)))
	if len(s.Requests) > 0 {
		b.lines("", describeKinds(s, p))
	}
	if s.BytesRead > 0 {
		b.line("read", "%s, %s/s %s", progress.Size(s.BytesRead), progress.Size(int64(p.perSecond(p.read))), p.when())
	}
	for _, r := range s.InFlight {
		b.line("stuck", "%s of %s for %s, asked by pid %d", r.Op, r.Path, latency(float64(r.Age)*1000), r.PID)
	}
	if s.Errors > 0 {
		b.line("errors", "%s", grouped(s.Errors))
		if s.LastError != "" {
			b.line("", "%s", s.LastError)
		}
	}
}

// describeKinds returns a table of the requests by kind, the commonest first.
func describeKinds(s mount.Status, p pace) []string {
	kinds := slices.SortedFunc(maps.Keys(s.Requests), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.Requests[b], s.Requests[a]), cmp.Compare(a, b))
	})
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "count\t/s\tp50\tp99\t  kind")
	for _, kind := range kinds {
		p50, p99 := "-", "-" // of what the kernel awaits no answer to
		if l := s.Latency[kind]; l.N > 0 {
			p50, p99 = latency(l.P50), latency(l.P99)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t  %s\n", grouped(s.Requests[kind]), decimal(p.perSecond(p.requests[kind])), p50, p99, kind)
	}
	w.Flush() // a strings.Builder takes everything
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// describeHealth says who serves the mount and what became of those before.
func describeHealth(b *page, s mount.Status) {
	switch {
	case s.WorkerPID == 0: // of a server of another version
	case s.Restarts == 0:
		b.line("worker", "pid %d", s.WorkerPID)
	default:
		b.line("worker", "pid %d, restarts: %d, the last of them", s.WorkerPID, s.Restarts)
		for _, r := range s.LastRestarts {
			b.line("", "%s  %s", r.Time.Format(time.DateTime), r.Reason)
		}
	}
	if text := describeMemory(s.Memory); text != "" {
		b.line("memory", "%s", text)
	}
	if len(s.Confined) > 0 {
		b.line("confined", "%s", strings.Join(s.Confined, ", "))
	} else {
		b.line("confined", "by nothing: this system has none of what could hold the worker back")
	}
	if !s.Resend {
		b.line("resend", "no: the mount ends if its worker crashes, as this kernel sends no request again (Linux 6.9 and later do)")
	}
}

// describeMemory names the processes that are there.
func describeMemory(m mount.Memory) string {
	var parts []string
	for _, p := range processes(m) {
		if p.bytes > 0 {
			parts = append(parts, p.name+" "+progress.Size(p.bytes))
		}
	}
	return strings.Join(parts, ", ")
}

// A process is one of those that a mount consists of.
type process struct {
	name  string
	bytes int64
}

func processes(m mount.Memory) []process {
	return []process{{"supervisor", m.Supervisor}, {"worker", m.Worker}, {"compiler", m.Companion}}
}

// describeBytecode returns what a mount tells of its bytecode, a text per line:
// none for a server that died, or one of another version.
func describeBytecode(told json.RawMessage) []string {
	var s bytecode.Status
	if len(told) == 0 || json.Unmarshal(told, &s) != nil {
		return nil
	}
	counts := fmt.Sprintf("%d found, %d compiled on demand, %d ahead of it, %d failed", s.Hits, s.Compiled, s.Ahead, s.Failed)
	if s.Declined > 0 {
		counts += fmt.Sprintf(", %d left to Python", s.Declined)
	}
	lines := []string{counts}
	if s.Off != "" {
		lines = append(lines, "nothing is compiled now: "+s.Off)
	}
	for _, f := range s.Failures {
		if f.Path != "" { // what is no one source's fault has none
			f.Reason = f.Path + ": " + f.Reason
		}
		lines = append(lines, f.Reason)
	}
	return lines
}

// writeTable writes a line for each mount.
func writeTable(out io.Writer, mounts []mount.Status) error {
	return printRows(out, false, "STATE\tTREE\tLEASES\tREQUESTS\tSINCE\tMOUNT", mounts, func(s mount.Status) string {
		since := "-" // of a mount without a server nobody knows
		if !s.Since.IsZero() {
			since = s.Since.Format(time.DateTime)
		}
		return fmt.Sprintf("%s\t%.12s\t%d\t%d\t%s\t%s", s.State, s.Tree, len(s.Leases), total(s.Requests), since, s.Dir)
	})
}

func total(counts map[string]int64) int64 {
	var n int64
	for _, c := range counts {
		n += c
	}
	return n
}

// latency returns a time of so many microseconds as people read it, as precise as
// a histogram of powers of two allows.
func latency(us float64) string {
	switch {
	case us < 999.5:
		return fmt.Sprintf("%.0f µs", us)
	case us < 999_950:
		return fmt.Sprintf("%.1f ms", us/1e3)
	}
	return fmt.Sprintf("%.1f s", us/1e6)
}

// decimal returns x with a digit behind the point where x is small enough for it to
// matter.
func decimal(x float64) string {
	if x < 9.95 {
		return fmt.Sprintf("%.1f", x)
	}
	return grouped(int64(x + 0.5))
}

// grouped returns n, which is not negative, with its digits in groups of three.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
