package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// busyMount is one of which there is something to say in every line.
func busyMount() mount.Status {
	return mount.Status{
		Dir:       "/p/.venv",
		Tree:      "b465",
		PID:       4711,
		Since:     time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC),
		State:     mount.StateUsed,
		Leases:    []mount.Process{{PID: 4720, Name: "python3", Uses: "lease"}},
		Rung:      mount.RungMount,
		WorkerPID: 4712,
		Restarts:  7,
		LastRestarts: []mount.Restart{
			{Time: time.Date(2026, 11, 22, 20, 1, 2, 0, time.UTC), Reason: "signal: killed"},
			{Time: time.Date(2026, 11, 22, 20, 3, 4, 0, time.UTC), Reason: "exit status 2"},
		},
		Resend:    true,
		Confined:  []string{"capabilities", "seccomp"},
		Requests:  map[string]int64{"LOOKUP": 12000, "READ": 300, "FORGET": 300},
		Errors:    2,
		LastError: "reading of node 7: blob 9f86 is gone",
		BytesRead: 6_000_000,
		Latency:   map[string]mount.Latency{"LOOKUP": {N: 12000, P50: 8, P99: 128}, "READ": {N: 300, P50: 64, P99: 2_048_000}},
		InFlight:  []mount.InFlight{{Op: "READ", Path: "node 7", Age: 3200, PID: 4720}},
		Memory:    mount.Memory{Supervisor: 4_100_000, Worker: 9_300_000},
		Info:      json.RawMessage(`{"tree":"b4652b","source":"-r /p/pylock.toml","python":"/usr/bin/python3"}`),
		Bytecode:  json.RawMessage(`{"hits":9,"compiled":3,"ahead":200,"failed":0}`),
	}
}

func TestDescribe(t *testing.T) {
	busy := busyMount()
	idle := mount.Status{
		Dir: "/p/.venv", PID: 4711, Since: busy.Since, State: mount.StateHeld, Rung: mount.RungNamespace,
		WorkerPID: 4712, Info: busy.Info,
	}
	dead := mount.Status{Dir: "/p/.venv", PID: 4711, State: mount.StateDead, Info: busy.Info}
	tests := []struct {
		name   string
		status mount.Status
		pace   pace
		want   string
	}{
		{"busy", busy, pace{span: 1000 * time.Second, requests: busy.Requests, read: busy.BytesRead}, `
mount     /p/.venv
state     used since 2026-11-22 20:00:00, pid 4711
rung      mount(2)
tree      b4652b
from      -r /p/pylock.toml
python    /usr/bin/python3
lease     pid 4720, python3
requests  12,600, 13/s on average
             count   /s    p50     p99  kind
            12,000   12   8 µs  128 µs  LOOKUP
               300  0.3      -       -  FORGET
               300  0.3  64 µs   2.0 s  READ
read      6.0 MB, 6.0 kB/s on average
stuck     READ of node 7 for 3.2 s, asked by pid 4720
errors    2
          reading of node 7: blob 9f86 is gone
worker    pid 4712, restarts: 7, the last of them
          2026-11-22 20:01:02  signal: killed
          2026-11-22 20:03:04  exit status 2
memory    supervisor 4.1 MB, worker 9.3 MB
confined  capabilities, seccomp
bytecode  9 found, 3 compiled on demand, 200 ahead of it, 0 failed
`},
		{"idle", idle, pace{}, `
mount     /p/.venv
state     held since 2026-11-22 20:00:00, pid 4711
rung      namespace: see ` + "`sitefs run --help`" + ` for what doesn't work in it
tree      b4652b
from      -r /p/pylock.toml
python    /usr/bin/python3
requests  0, 0.0/s on average
worker    pid 4712
confined  by nothing: this system has none of what could hold the worker back
resend    no: the mount ends if its worker crashes, as this kernel sends no request again (Linux 6.9 and later do)
`},
		{"dead", dead, pace{}, `
mount     /p/.venv
state     dead: its server, pid 4711, is gone; the next ` + "`sitefs mount` or `sitefs run` makes it anew, `sitefs umount`" + ` takes it away
tree      b4652b
from      -r /p/pylock.toml
python    /usr/bin/python3
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, want := describe(tt.status, tt.pace), strings.TrimPrefix(tt.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestNumbersForPeople(t *testing.T) {
	tests := []struct{ got, want string }{
		{grouped(0), "0"},
		{grouped(999), "999"},
		{grouped(1000), "1,000"},
		{grouped(1234567), "1,234,567"},
		{decimal(0.04), "0.0"},
		{decimal(9.94), "9.9"},
		{decimal(9.96), "10"},
		{decimal(12345.6), "12,346"},
		{latency(8), "8 µs"},
		{latency(999.4), "999 µs"},
		{latency(1024), "1.0 ms"},
		{latency(999_949), "999.9 ms"},
		{latency(1_048_576), "1.0 s"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
