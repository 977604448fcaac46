package compiler

import (
	"os"
	"strings"
	"sync"
)

// tailSize is how much of what a process says is kept: the end of a traceback.
const tailSize = 2 << 10

// A tail keeps the end of what is written into a pipe.
type tail struct {
	from *os.File
	done chan struct{} // closed at the end of the pipe

	mu   sync.Mutex
	text []byte
}

func keepTail(from *os.File) *tail {
	t := &tail{from: from, done: make(chan struct{})}
	go t.read()
	return t
}

func (t *tail) read() {
	defer close(t.done)
	buf := make([]byte, tailSize)
	for {
		n, err := t.from.Read(buf)
		t.mu.Lock()
		t.text = append(t.text, buf[:n]...)
		t.text = t.text[max(0, len(t.text)-tailSize):]
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Close waits for the reader, whose pipe it closes.
func (t *tail) Close() error {
	err := t.from.Close()
	<-t.done
	return err
}

// last returns the last line that was written: what a Python that dies says of
// its reason.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return lines[len(lines)-1]
}
