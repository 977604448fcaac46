package shared

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// testMemory returns memory and a second view of it, as another process has.
func testMemory(t *testing.T) (m, other *Memory) {
	t.Helper()
	m, file, err := New()
	if err != nil {
		t.Fatal(err)
	}
	other, err = Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Close(), other.Close(), file.Close()); err != nil {
			t.Error(err)
		}
	})
	return m, other
}

// The offsets that the package comment states.
func TestLayout(t *testing.T) {
	var l layout
	offsets := map[string][2]uintptr{
		"INIT":      {unsafe.Offsetof(l.init), 64},
		"counters":  {unsafe.Offsetof(l.answered), 640},
		"requests":  {unsafe.Offsetof(l.requests), 704},
		"latencies": {unsafe.Offsetof(l.latencies), 1216},
		"restarts":  {unsafe.Offsetof(l.last), 17600},
		"slots":     {unsafe.Offsetof(l.slots), 18240},
		"slot":      {unsafe.Sizeof(slot{}), 112},
		"suspects":  {unsafe.Offsetof(l.suspects), 132928},
		"suspect":   {unsafe.Sizeof(suspect{}), 16},
		"area":      {unsafe.Offsetof(l.area), 151552},
		"size":      {unsafe.Sizeof(l), 155648},
	}
	for name, o := range offsets {
		if o[0] != o[1] {
			t.Errorf("%s: %d, the package comment says %d", name, o[0], o[1])
		}
	}
}

func TestHeader(t *testing.T) {
	m, _ := testMemory(t)
	want := []byte("sitefsmm\x01\x00\x00\x00\x00\x60\x02\x00")
	if got := m.mapped[:len(want)]; !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]func(m *Memory, f *os.File) error{
		"another version": func(m *Memory, _ *os.File) error { m.layout.version++; return nil },
		"other bytes":     func(m *Memory, _ *os.File) error { m.layout.magic[0]++; return nil },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			m, file, err := New()
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			defer m.Close()
			if err := spoil(m, file); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(file); !errors.Is(err, ErrVersion) {
				t.Errorf("%v, want ErrVersion", err)
			}
		})
	}
	t.Run("another size", func(t *testing.T) {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := Open(file); !errors.Is(err, ErrVersion) {
			t.Errorf("%v, want ErrVersion", err)
		}
	})
	t.Run("it can't be cut short", func(t *testing.T) {
		_, file, err := New()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := file.Truncate(0); err == nil {
			t.Error("it was")
		}
	})
}

func TestInit(t *testing.T) {
	m, other := testMemory(t)
	if _, _, ok := other.Init(); ok {
		t.Error("new memory has one")
	}
	request, reply := bytes.Repeat([]byte("q"), 103), bytes.Repeat([]byte("r"), 80)
	if err := m.SaveInit(request, reply); err != nil {
		t.Fatal(err)
	}
	q, r, ok := other.Init()
	if !ok || !bytes.Equal(q, request) || !bytes.Equal(r, reply) {
		t.Errorf("%q, %q, %v", q, r, ok)
	}
	if err := m.SaveInit(make([]byte, maxInit+1), reply); err == nil {
		t.Error("one that is too long is kept")
	}
	m.init.request.Store(1 << 31) // whoever wrote it went wrong
	if q, _, _ := other.Init(); len(q) != maxInit {
		t.Errorf("%d bytes", len(q))
	}
}

func TestSlots(t *testing.T) {
	m, other := testMemory(t)
	r := Request{Unique: 6, Opcode: 1, PID: 42, Node: 1 << 60, Started: 7, Phase: Handling}
	m.Begin(3, &r, []byte("mod.py"))
	r.Name = "mod.py"
	if got := other.InFlight(); !reflect.DeepEqual(got, []Request{r}) {
		t.Errorf("%+v, want %+v", got, r)
	}
	long := strings.Repeat("long", 20)
	m.Begin(3, &r, []byte(long))
	if got := other.InFlight(); got[0].Name != long[:maxName] {
		t.Errorf("%q", got[0].Name)
	}
	m.End(3)
	if got := other.InFlight(); got != nil {
		t.Errorf("%+v after the end", got)
	}
}

func TestLatency(t *testing.T) {
	m, other := testMemory(t)
	if n, d := other.Latency(1, 0.5); n != 0 || d != 0 {
		t.Errorf("%d, %v of nothing", n, d)
	}
	for range 98 {
		m.CountReply(1, 20*time.Microsecond, 0, false)
	}
	m.CountReply(1, 3*time.Second, 0, true)
	m.CountReply(1, 1000*time.Hour, 0, false)
	n, median := other.Latency(1, 0.5)
	if n != 100 || median < 16*time.Microsecond || median >= 32*time.Microsecond {
		t.Errorf("%d answers, median %v, want about 20µs", n, median)
	}
	if _, worst := other.Latency(1, 0.99); worst < 2*time.Second || worst > 5*time.Second {
		t.Errorf("p99 %v, want about 3s", worst)
	}
	m.CountReply(15, 0, 4096, false)
	m.CountReply(4096, 0, 0, false) // CUSE's own
	if got := []int64{other.Answered(), other.Faults(), other.BytesRead()}; !reflect.DeepEqual(got, []int64{102, 1, 4096}) {
		t.Errorf("answered, faults, bytes: %v", got)
	}
}

// A request is condemned by the third death, and those that died beside it by
// none.
func TestBlame(t *testing.T) {
	m, other := testMemory(t)
	const killer, innocent, waiting = 2, 4, 6
	begin := func(slot int, unique uint64, p Phase) {
		m.Begin(slot, &Request{Unique: unique, Phase: p}, nil)
	}
	verdicts := func() string {
		s := map[uint64]Verdict{}
		for _, c := range other.Cases() {
			s[c.Unique] = c.Verdict
		}
		return fmt.Sprint(s)
	}
	begin(0, killer, Handling)
	begin(1, innocent, Handling)
	begin(2, waiting, Waiting)
	if got := m.Blame(); got != nil || verdicts() != "map[2:0 4:0]" {
		t.Fatalf("first death: %v, %s", got, verdicts())
	}
	if got := other.InFlight(); got != nil {
		t.Errorf("in flight: %v", got)
	}
	begin(0, innocent, Handling)
	begin(1, killer, Handling)
	if got := m.Blame(); got != nil || verdicts() != "map[2:1 4:1]" {
		t.Fatalf("second death: %v, %s", got, verdicts())
	}
	other.Clear(innocent)
	begin(0, killer, Alone)
	begin(1, waiting, Waiting)
	if got := m.Blame(); len(got) != 1 || got[0].Unique != killer || verdicts() != "map[2:2]" {
		t.Fatalf("third death: %v, %s", got, verdicts())
	}
}

func TestBlameForgetsTheOldest(t *testing.T) {
	m, _ := testMemory(t)
	for n := range uint64(Slots + 1) {
		m.Begin(0, &Request{Unique: 2 * (n + 1), Phase: Handling}, nil)
		m.Blame()
	}
	cases := m.Cases()
	if len(cases) != Slots {
		t.Fatalf("%d cases, want %d", len(cases), Slots)
	}
	for _, c := range cases {
		if c.Unique == 2 {
			t.Error("the oldest is kept and not the latest")
		}
	}
}

func TestRestarts(t *testing.T) {
	m, other := testMemory(t)
	var want []Restart
	for i := range LastRestarts + 2 {
		r := Restart{time.Unix(int64(i), 0), fmt.Sprint("reason ", i)}
		m.NoteRestart(r)
		want = append(want, r)
	}
	m.NoteRestart(Restart{time.Unix(99, 0), strings.Repeat("x", 500)})
	want = append(want, Restart{time.Unix(99, 0), strings.Repeat("x", maxReason)})
	if n, last := other.Restarts(); n != int64(len(want)) || !reflect.DeepEqual(last, want[len(want)-LastRestarts:]) {
		t.Errorf("%d: %v, want %v", n, last, want)
	}
}
