package mount

import (
	"sync"
	"testing"
)

// Whoever lists the mounts reads the files of servers that are just starting.
func TestInfoIsWhole(t *testing.T) {
	state := t.TempDir()
	if err := writeInfo(state, info{Dir: "/env"}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 2000 {
			if err := writeInfo(state, info{Dir: "/env"}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 2000 {
		if i, err := readInfo(state); err != nil || i.Dir != "/env" {
			t.Errorf("%+v, %v", i, err)
			break
		}
	}
	wg.Wait()
	if err := removeState(state); err != nil {
		t.Errorf("something is left: %v", err)
	}
}
