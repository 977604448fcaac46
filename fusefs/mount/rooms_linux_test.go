package mount

import (
	"testing"
	"unsafe"
)

func TestRooms(t *testing.T) {
	const size = 64 << 10
	r := newRooms(size)
	var taken [][]byte
	for range maxRooms {
		b, err := r.take()
		if err != nil || len(b) != size {
			t.Fatalf("%d bytes, %v, want %d", len(b), err, size)
		}
		taken = append(taken, b)
	}
	// One more waits for one that is given back, and gets it.
	next := make(chan []byte)
	go func() {
		b, err := r.take()
		if err != nil {
			t.Error(err)
		}
		next <- b
	}()
	r.give(taken[0])
	if b := <-next; unsafe.SliceData(b) != unsafe.SliceData(taken[0]) {
		t.Error("it is not the room that was given back")
	}
	for _, b := range taken {
		r.give(b)
	}
	if b, err := r.take(); err != nil || unsafe.SliceData(b) != unsafe.SliceData(taken[maxRooms-1]) {
		t.Errorf("not the room that was used last, %v", err)
	} else {
		r.give(b)
	}
	if err := r.relax(); err != nil || len(r.free) > 0 {
		t.Errorf("%d rooms are left, %v", len(r.free), err)
	}
	if _, err := r.take(); err != nil {
		t.Error(err)
	}
}
