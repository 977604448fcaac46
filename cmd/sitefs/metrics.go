package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/store/bytecode"
)

// A family is all samples of one metric (Prometheus text format 0.0.4).
type family struct {
	name, kind, help string
	samples          func(mount.Status) []sample
}

// A sample is a number and what tells it from the others of its family, beside the
// mount. Units are seconds and bytes, as the format's users expect.
type sample struct {
	suffix string // of the family's name
	labels []label
	value  float64
}

type label struct{ name, value string }

// families are all metrics. A name never changes its meaning.
var families = []family{
	{"sitefs_mount_info", "gauge", "What is mounted; always 1.", func(s mount.Status) []sample {
		info := infoOf(s)
		return []sample{{"", []label{{"tree", info.Tree}, {"from", info.Source}, {"python", info.Python}, {"rung", s.Rung}}, 1}}
	}},
	{"sitefs_mount_up", "gauge", "1 if the mount is served, 0 if its processes are gone.", func(s mount.Status) []sample {
		if s.State == mount.StateDead {
			return one(0)
		}
		return one(1)
	}},
	{"sitefs_mount_start_time_seconds", "gauge", "When it was mounted, in seconds since 1970.", ofLive(func(s mount.Status) []sample {
		return one(s.Since.Unix())
	})},
	{"sitefs_leases", "gauge", "Commands that hold the mount.", ofLive(func(s mount.Status) []sample { return one(int64(len(s.Leases))) })},
	{"sitefs_requests_total", "counter", "Requests of the kernel.", func(s mount.Status) []sample {
		var list []sample
		for _, kind := range slices.Sorted(maps.Keys(s.Requests)) {
			list = append(list, sample{"", []label{{"kind", kind}}, float64(s.Requests[kind])})
		}
		return list
	}},
	{"sitefs_request_seconds", "summary", "How long requests took, to less than a factor of two.", func(s mount.Status) []sample {
		var list []sample
		for _, kind := range slices.Sorted(maps.Keys(s.Latency)) {
			l, of := s.Latency[kind], label{"kind", kind}
			list = append(list,
				sample{"", []label{of, {"quantile", "0.5"}}, l.P50 / 1e6},
				sample{"", []label{of, {"quantile", "0.99"}}, l.P99 / 1e6},
				sample{"_count", []label{of}, float64(l.N)})
		}
		return list
	}},
	{"sitefs_requests_stuck", "gauge", "Requests that are being answered for more than a second.", ofLive(func(s mount.Status) []sample {
		return one(int64(len(s.InFlight)))
	})},
	{"sitefs_errors_total", "counter", "Requests that were answered with an I/O error.", ofLive(func(s mount.Status) []sample { return one(s.Errors) })},
	{"sitefs_read_bytes_total", "counter", "Bytes that were read of files.", ofLive(func(s mount.Status) []sample { return one(s.BytesRead) })},
	{"sitefs_worker_restarts_total", "counter", "Workers that took the place of another.", ofLive(func(s mount.Status) []sample { return one(s.Restarts) })},
	{"sitefs_memory_bytes", "gauge", "Memory of the mount's processes, their share of what several use (Pss).", func(s mount.Status) []sample {
		var list []sample
		for _, p := range processes(s.Memory) {
			if p.bytes > 0 {
				list = append(list, sample{"", []label{{"process", p.name}}, float64(p.bytes)})
			}
		}
		return list
	}},
	{"sitefs_bytecode_hits_total", "counter", "Imports whose bytecode was there.", ofBytecode(func(s bytecode.Status) int64 { return s.Hits })},
	{"sitefs_bytecode_compiled_total", "counter", "Sources compiled when they were imported.", ofBytecode(func(s bytecode.Status) int64 { return s.Compiled })},
	{"sitefs_bytecode_ahead_total", "counter", "Sources compiled before they were imported.", ofBytecode(func(s bytecode.Status) int64 { return s.Ahead })},
	{"sitefs_bytecode_failed_total", "counter", "Imports of sources that don't compile.", ofBytecode(func(s bytecode.Status) int64 { return s.Failed })},
	{"sitefs_bytecode_declined_total", "counter", "Imports whose compiling was left to Python.", ofBytecode(func(s bytecode.Status) int64 { return s.Declined })},
}

func one(n int64) []sample { return []sample{{value: float64(n)}} }

// ofLive leaves out mounts without a server, of which nobody knows the numbers.
func ofLive(samples func(mount.Status) []sample) func(mount.Status) []sample {
	return func(s mount.Status) []sample {
		if s.State == mount.StateDead {
			return nil
		}
		return samples(s)
	}
}

// ofBytecode leaves out mounts that tell nothing of their bytecode.
func ofBytecode(count func(bytecode.Status) int64) func(mount.Status) []sample {
	return func(s mount.Status) []sample {
		var b bytecode.Status
		if len(s.Bytecode) == 0 || json.Unmarshal(s.Bytecode, &b) != nil {
			return nil
		}
		return one(count(b))
	}
}

// writeMetrics writes all that is counted of mounts in the Prometheus text format.
func writeMetrics(out io.Writer, mounts []mount.Status) error {
	var b strings.Builder
	for _, f := range families {
		heading := fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
		for _, s := range mounts {
			for _, sample := range f.samples(s) {
				b.WriteString(heading)
				heading = ""
				writeSample(&b, f.name, s.Dir, sample)
			}
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// escapes are those of a label's value.
var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func writeSample(b *strings.Builder, name, dir string, s sample) {
	fmt.Fprintf(b, "%s%s{", name, s.suffix)
	for i, l := range slices.Concat([]label{{"mount", dir}}, s.labels) {
		if i > 0 {
			b.WriteByte(',')
		}
		// The format is UTF-8, a path may be anything.
		fmt.Fprintf(b, `%s="%s"`, l.name, escapes.Replace(strings.ToValidUTF8(l.value, "\uFFFD")))
	}
	fmt.Fprintf(b, "} %s\n", strconv.FormatFloat(s.value, 'f', -1, 64))
}
