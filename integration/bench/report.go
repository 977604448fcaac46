package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// A Row is one line of the table, and one object of --json.
type Row struct {
	What string `json:"what"`
	Unit Unit   `json:"unit"`

	Sitefs  float64   `json:"sitefs"` // the median
	Samples []float64 `json:"samples,omitempty"`

	// Peer is what sitefs is compared with, "" for nothing.
	Peer        string    `json:"peer,omitempty"`
	Other       float64   `json:"other,omitempty"`
	PeerSamples []float64 `json:"peer_samples,omitempty"`
	Ratio       *Ratio    `json:"ratio,omitempty"`

	Goal *Goal  `json:"goal,omitempty"`
	Note string `json:"note,omitempty"`
}

// A Unit is what the figures of a row count.
type Unit string

const (
	seconds  Unit = "s"
	mega     Unit = "MB" // 10^6 bytes
	count    Unit = ""
	messages Unit = "messages"
)

func (u Unit) format(v float64) string {
	switch {
	case u == seconds && v < 1:
		return fmt.Sprintf("%.1f ms", v*1000)
	case u == seconds:
		return fmt.Sprintf("%.2f s", v)
	case u == mega:
		return fmt.Sprintf("%.1f MB", v)
	}
	return strings.TrimSpace(fmt.Sprintf("%.0f %s", v, u))
}

// A Goal is the most that sitefs's figure, or its ratio to the peer's, may be.
type Goal struct {
	Ratio bool    `json:"ratio"`
	Most  float64 `json:"most"`
}

func atMost(v float64) *Goal      { return &Goal{Most: v} }
func ratioAtMost(v float64) *Goal { return &Goal{Ratio: true, Most: v} }

// met reports whether a row meets its goal.
func (r *Row) met() bool {
	if r.Goal.Ratio {
		return r.Ratio.low() <= r.Goal.Most
	}
	return r.Sitefs <= r.Goal.Most
}

// alone returns the row of a figure that has no peer.
func alone(what string, u Unit, samples []float64) Row {
	return Row{What: what, Unit: u, Sitefs: median(samples), Samples: samples}
}

// beside returns the row of two sides that took turns.
func beside(what string, u Unit, ours []float64, peer string, theirs []float64) Row {
	r := alone(what, u, ours)
	r.Peer, r.Other, r.PeerSamples = peer, median(theirs), theirs
	r.Ratio = ratioOf(ours, theirs)
	return r
}

// report writes the table row by row: a run that is cut short has said what it
// found.
type report struct {
	out  io.Writer
	json *os.File // nil without --json
}

func newReport(out io.Writer, jsonFile string) (*report, error) {
	r := &report{out: out}
	if jsonFile == "" {
		return r, nil
	}
	var err error
	r.json, err = os.Create(jsonFile)
	return r, err
}

func (r *report) close() error {
	if r.json == nil {
		return nil
	}
	return r.json.Close()
}

const columns = "%-52s %11s  %-33s %-24s %-10s %s\n"

func (r *report) heading(lines []string) {
	for _, l := range lines {
		fmt.Fprintln(r.out, l)
	}
	fmt.Fprintln(r.out)
	fmt.Fprintf(r.out, columns, "what (median)", "sitefs", "beside", "ratio [95 %], rounds", "goal", "met")
}

func (r *report) rows(rows []Row) error {
	for _, row := range rows {
		fmt.Fprint(r.out, row.String())
		if r.json == nil {
			continue
		}
		if err := json.NewEncoder(r.json).Encode(row); err != nil {
			return err
		}
	}
	return nil
}

func (r Row) String() string {
	var other, ratio, goal, met string
	if r.Peer != "" {
		other = r.Unit.format(r.Other) + ", " + r.Peer
	}
	if r.Ratio != nil {
		ratio = fmt.Sprintf("%.3f", r.Ratio.Value)
		if i := r.Ratio.Interval; i != nil {
			ratio += fmt.Sprintf(" [%.3f, %.3f]", i[0], i[1])
		}
		ratio += fmt.Sprintf(", %d", r.Ratio.Rounds)
	} else if len(r.Samples) > 1 {
		ratio = fmt.Sprintf("%d rounds", len(r.Samples))
	}
	if r.Goal != nil {
		goal, met = "≤ "+r.Unit.format(r.Goal.Most), "no"
		if r.Goal.Ratio {
			goal = fmt.Sprintf("≤ %g ×", r.Goal.Most)
		}
		if r.met() {
			met = "yes"
		}
	}
	var b strings.Builder
	line := fmt.Sprintf(columns, r.What, r.Unit.format(r.Sitefs), other, ratio, goal, met)
	b.WriteString(strings.TrimRight(line, " \n") + "\n")
	if r.Note != "" {
		fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(r.Note, "\n", "\n    "))
	}
	return b.String()
}
