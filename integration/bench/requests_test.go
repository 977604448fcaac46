package main

import (
	"errors"
	"testing"
)

func TestParseTrace(t *testing.T) {
	const recorded = `# tracer: nop
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
          sitefs-70      [000] .....     9.000000: fuse_request_end: connection 45 req 4 len 144 error 0
      python -c-71      [001] .....    66.000100: fuse_request_send: connection 45 req 6 opcode 1 (FUSE_LOOKUP) len 55 
          python-72      [001] .....    66.000110: fuse_request_send: connection 46 req 6 opcode 15 (FUSE_READ) len 80 
          sitefs-70      [000] .....    66.000130: fuse_request_end: connection 45 req 6 len 144 error 0
          python-71      [001] .....    66.000200: fuse_request_send: connection 45 req 8 opcode 1 (FUSE_LOOKUP) len 55 
          python-71      [001] .....    66.000300: fuse_request_send: connection 45 req 10 opcode 39 (FUSE_IOCTL) len 72 
          sitefs-70      [000] .....    66.000320: fuse_request_end: connection 45 req 8 len 144 error -2
          sitefs-70      [000] .....    66.001300: fuse_request_end: connection 45 req 10 len 16 error -38
          python-71      [001] .....    66.002000: fuse_request_send: connection 45 req 12 opcode 15 (FUSE_READ) len 80 
`
	got, err := parseTrace([]byte(recorded), 45)
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]float64{"LOOKUP": 150e-6, "IOCTL": 1000e-6} {
		if d := got[kind] - want; d < -1e-9 || d > 1e-9 {
			t.Errorf("%s took %v, want %v", kind, got[kind], want)
		}
		delete(got, kind)
	}
	if len(got) != 0 {
		t.Errorf("also %v: no such request was sent and answered on the connection", got)
	}
	if _, err := parseTrace([]byte("python-71 soon: fuse_request_send: connection 45 req 6 opcode 1 (FUSE_LOOKUP) len 55\n"), 45); err == nil {
		t.Error("an event without a time is taken")
	}
}

func TestTable(t *testing.T) {
	r := requests{number: map[string]int64{"READ": 10, "LOOKUP": 20}, took: map[string]float64{"LOOKUP": 0.0004}}
	const want = "30 requests, 15 a second\n" +
		"LOOKUP           20      0.4 ms     20 µs each\n" +
		"READ             10"
	if got := r.table(2); got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}
	r.untold = errors.New("no tracefs")
	if got := r.table(2); got != "30 requests, 15 a second; not timed: no tracefs"+want[len("30 requests, 15 a second"):] {
		t.Errorf("table of what could not be timed:\n%s", got)
	}
}
