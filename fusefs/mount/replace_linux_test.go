package mount

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// All leases come through, however many there are.
func TestEstate(t *testing.T) {
	const leases = 20_000
	left := estate{Version: estateVersion, Leases: make([]estateLease, leases)}
	for i := range left.Leases {
		left.Leases[i].Process = Process{PID: i, Name: "python3", Uses: "lease"}
	}
	will, err := left.write()
	if err != nil {
		t.Fatal(err)
	}
	defer will.Close()
	fd, err := unix.Dup(int(will.Fd())) // inherited closes it
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(stageVar, stageReplaced+strconv.Itoa(fd))
	got, err := inherited()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Leases); n != leases || got.Leases[n-1] != left.Leases[n-1] {
		t.Errorf("%d leases, want %d", n, leases)
	}
}
