package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// metricsText is what a text in the Prometheus text format says.
type metricsText struct {
	kinds   map[string]string  // by family
	samples map[string]float64 // by name and labels as %v has them, sorted
}

var (
	metricName  = regexp.MustCompile(`^[a-z_]+$`)
	sampleLine  = regexp.MustCompile(`^([a-z_]+)\{(.*)\} (\S+)$`)
	labelOfLine = regexp.MustCompile(`^([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"(,|$)`)
)

// parseMetrics reads the format as strictly as its description has it: all of a
// family together, its HELP and TYPE first and once, no sample twice.
func parseMetrics(text string) (metricsText, error) {
	m := metricsText{make(map[string]string), make(map[string]float64)}
	if !strings.HasSuffix(text, "\n") {
		return m, fmt.Errorf("the last line does not end")
	}
	var helped, family string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			helped, _, _ = strings.Cut(rest, " ")
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			var kind string
			family, kind, _ = strings.Cut(rest, " ")
			if m.kinds[family] != "" || family != helped || !metricName.MatchString(family) {
				return m, fmt.Errorf("%q comes twice, without HELP, or has no name", line)
			}
			m.kinds[family] = kind
			continue
		}
		key, value, err := parseSample(line, family, m.kinds[family])
		if err != nil {
			return m, err
		}
		if _, ok := m.samples[key]; ok {
			return m, fmt.Errorf("%q comes twice", line)
		}
		m.samples[key] = value
	}
	return m, nil
}

func parseSample(line, family, kind string) (key string, value float64, err error) {
	parts := sampleLine.FindStringSubmatch(line)
	if parts == nil {
		return "", 0, fmt.Errorf("%q is no sample", line)
	}
	if parts[1] != family && !(kind == "summary" && parts[1] == family+"_count") {
		return "", 0, fmt.Errorf("%q stands among those of %q", line, family)
	}
	var labels []string
	for rest := parts[2]; rest != ""; {
		l := labelOfLine.FindStringSubmatch(rest)
		if l == nil {
			return "", 0, fmt.Errorf("%q has no label at %q", line, rest)
		}
		unescaped := strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(l[2])
		labels = append(labels, l[1]+"="+unescaped)
		rest = rest[len(l[0]):]
	}
	slices.Sort(labels)
	value, err = strconv.ParseFloat(parts[3], 64)
	return fmt.Sprintf("%s %v", parts[1], labels), value, err
}

func TestMetrics(t *testing.T) {
	odd := busyMount()
	odd.Dir = "/a \"b\"\\c\nd\xff"
	dead := mount.Status{Dir: "/dead", State: mount.StateDead}
	var out strings.Builder
	if err := writeMetrics(&out, []mount.Status{busyMount(), odd, dead}); err != nil {
		t.Fatal(err)
	}
	got, err := parseMetrics(out.String())
	if err != nil {
		t.Fatalf("%v in\n%s", err, &out)
	}
	samples := map[string]float64{
		"sitefs_mount_info [from=-r /p/pylock.toml mount=/p/.venv python=/usr/bin/python3 rung=mount(2) tree=b4652b]": 1,
		"sitefs_mount_up [mount=/p/.venv]":                                 1,
		"sitefs_mount_up [mount=/dead]":                                    0,
		"sitefs_mount_up [mount=/a \"b\"\\c\nd\uFFFD]":                     1,
		"sitefs_mount_start_time_seconds [mount=/p/.venv]":                 1795377600,
		"sitefs_leases [mount=/p/.venv]":                                   1,
		"sitefs_requests_total [kind=LOOKUP mount=/p/.venv]":               12000,
		"sitefs_request_seconds [kind=LOOKUP mount=/p/.venv quantile=0.5]": 0.000008,
		"sitefs_request_seconds [kind=READ mount=/p/.venv quantile=0.99]":  2.048,
		"sitefs_request_seconds_count [kind=READ mount=/p/.venv]":          300,
		"sitefs_requests_stuck [mount=/p/.venv]":                           1,
		"sitefs_errors_total [mount=/p/.venv]":                             2,
		"sitefs_read_bytes_total [mount=/p/.venv]":                         6_000_000,
		"sitefs_worker_restarts_total [mount=/p/.venv]":                    7,
		"sitefs_memory_bytes [mount=/p/.venv process=worker]":              9_300_000,
		"sitefs_bytecode_hits_total [mount=/p/.venv]":                      9,
		"sitefs_bytecode_compiled_total [mount=/p/.venv]":                  3,
		"sitefs_bytecode_ahead_total [mount=/p/.venv]":                     200,
		"sitefs_bytecode_failed_total [mount=/p/.venv]":                    0,
		"sitefs_bytecode_declined_total [mount=/p/.venv]":                  0,
	}
	for key, want := range samples {
		if value, ok := got.samples[key]; !ok || value != want {
			t.Errorf("%q is %v (there: %v), want %v", key, value, ok, want)
		}
	}
	for _, key := range []string{"sitefs_errors_total [mount=/dead]", "sitefs_memory_bytes [mount=/p/.venv process=compiler]"} {
		if value, ok := got.samples[key]; ok {
			t.Errorf("%q is %v, want none: nobody knows", key, value)
		}
	}
	for name, kind := range got.kinds {
		if total := strings.HasSuffix(name, "_total"); total != (kind == "counter") {
			t.Errorf("%s is a %s: counters, and they alone, end in _total", name, kind)
		}
	}
}

func TestNoMetrics(t *testing.T) {
	var out strings.Builder
	if err := writeMetrics(&out, nil); err != nil || out.Len() > 0 {
		t.Errorf("without mounts it writes %q, error %v", &out, err)
	}
}
