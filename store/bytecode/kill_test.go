package bytecode

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/bytecode/internal/compiler"
)

var killTime = flag.Duration("killtime", 4*time.Second, "how long TestKill kills hosts")

// A host of TestKill is the test binary, told by these variables what to be.
const (
	childDir     = "SITEFS_TEST_HOST"    // the environment's folder
	childScratch = "SITEFS_TEST_SCRATCH" // the number of its scratch folder
)

// hostChild is a compiler host whose interpreter makes large code.
func hostChild(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "tree"))
	if err != nil {
		return err
	}
	t, err := tree.Open(data, "/venv", nil)
	if err != nil {
		return err
	}
	c, err := Open(filepath.Join(dir, "bytecode"), testVersion, dirBlobs(filepath.Join(dir, "blobs")))
	if err != nil {
		return err
	}
	w, err := newWorks(c, filepath.Join(dir, "scratch"+os.Getenv(childScratch)), compiler.Config{})
	if err != nil {
		return err
	}
	defer w.close()
	// Names of files that a killed predecessor left would be taken; the real
	// scratch folder is a new one each time.
	w.files.Store(rand.Uint64())
	w.start = func(context.Context) (interpreter, error) { return largePython{}, nil }
	conf := HostConfig{Cache: c, Tree: t, Site: site, Compilers: 2, Idle: 20 * time.Millisecond, Log: log.Default()}
	return newHost(os.NewFile(3, "host"), conf, w).serve(context.Background())
}

// largePython's code takes some milliseconds to be written.
type largePython struct{}

func (largePython) Compile(_ context.Context, source []byte, _ string, opt int) ([]byte, error) {
	return largeCode(source, opt), nil
}
func (largePython) Dead() bool   { return false }
func (largePython) Close() error { return nil }

func largeCode(source []byte, opt int) []byte { return bytes.Repeat(fakeCode(source, opt), 20_000) }

// keeper runs a host the way the server of a mount does: when something waits in
// the socket and none is running.
type keeper struct {
	env     *env
	scratch int
	end     *os.File // the host's
	kills   *rand.Rand

	started, killed int
}

// run keeps hosts running until the socket is shut down. Some are killed, after a
// random time.
func (k *keeper) run(t *testing.T) {
	for k.asked(t) {
		self, err := os.Executable()
		if err != nil {
			t.Error(err)
			return
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), childDir+"="+k.env.dir, childScratch+"="+strconv.Itoa(k.scratch))
		cmd.ExtraFiles = []*os.File{k.end}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Error(err)
			return
		}
		k.started++
		timer := time.AfterFunc(time.Duration(k.kills.IntN(120))*time.Millisecond, func() { cmd.Process.Kill() })
		err = cmd.Wait()
		timer.Stop()
		if err != nil {
			if state := cmd.ProcessState.Sys().(interface{ Signal() unix.Signal }); state.Signal() != unix.SIGKILL {
				t.Errorf("host: %v", err)
			}
			k.killed++
			k.lose(t)
		}
	}
}

func (k *keeper) asked(t *testing.T) bool {
	fds := []unix.PollFd{{Fd: int32(k.end.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err == nil {
			return fds[0].Revents&unix.POLLHUP == 0
		} else if err != unix.EINTR {
			t.Error(err)
			return false
		}
	}
}

// lose drains the socket and says that what was asked is lost.
func (k *keeper) lose(t *testing.T) {
	fd := int(k.end.Fd())
	for {
		if n, _, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_DONTWAIT); n <= 0 || err != nil {
			break
		}
	}
	if err := unix.Send(fd, []byte{msgLost}, unix.MSG_NOSIGNAL); err != nil && err != unix.EPIPE {
		t.Error(err)
	}
}

// TestKill kills two hosts over and over while their clients ask for the same
// sources. Every answer is right or none, every entry is whole, and in the end
// everything is compiled.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	sources := map[string]string{}
	var names []string
	for i := range 200 {
		name := fmt.Sprintf("m%d.py", i)
		names = append(names, name)
		sources[name] = fmt.Sprintf("import m%d\nimport m%d\n", (i+1)%200, (i*7)%200)
	}
	e := newEnv(t, sources)
	var keepers sync.WaitGroup
	var clients []*Client
	var kept []*keeper
	for i := range 2 {
		near, far := socket(t)
		c := NewClient(e.cache(t), near, "", nil)
		k := &keeper{env: e, scratch: i, end: far, kills: rand.New(rand.NewPCG(1, uint64(i)))}
		clients, kept = append(clients, c), append(kept, k)
		keepers.Go(func() { k.run(t) })
	}
	ctx, cancel := context.WithTimeout(context.Background(), *killTime)
	defer cancel()
	var askers sync.WaitGroup
	for i := range 8 {
		askers.Go(func() {
			c := clients[i%2]
			r := rand.New(rand.NewPCG(2, uint64(i)))
			for ctx.Err() == nil {
				e.askOnce(t, c, names[r.IntN(len(names))], r.IntN(maxOpt+1))
				if r.IntN(4) == 0 { // so that there is always something to do
					s := e.source(t, names[r.IntN(len(names))])
					if err := os.Remove(c.cache.path(key{s.Digest, r.IntN(maxOpt + 1)})); err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
					}
				}
			}
		})
	}
	askers.Wait()
	entries := 0
	for _, c := range clients {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	keepers.Wait()
	root := filepath.Join(e.dir, "bytecode", testVersion.String())
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != lockName {
			entries++
			e.expectWhole(t, root, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for i, k := range kept {
		t.Logf("client %d: %+v; %d hosts, %d killed", i, clients[i].Status(), k.started, k.killed)
		if k.killed == 0 {
			t.Error("no host was killed")
		}
	}
	if entries == 0 {
		t.Error("no entry was made")
	}
}

// askOnce looks one source up; what it gets must be right.
func (e *env) askOnce(t *testing.T, c *Client, name string, opt int) {
	c.mu.Lock()
	c.until = time.Time{} // no rest for these hosts
	c.mu.Unlock()
	id, a := e.find(t, name)
	size, stamp, final := c.Lookup(nil, id, a, opt, true)
	if final {
		t.Errorf("%s: a final failure", name)
	}
	if size == 0 {
		return
	}
	c.Used(id, opt)
	fd, got, err := c.Open(a, opt, stamp)
	if errors.Is(err, fs.ErrNotExist) {
		return // another asker removed it, and it may have been made anew
	}
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	b := make([]byte, size)
	if got != size || !readFull(fd, b, 0) || !bytes.Equal(b[headerSize:], largeCode(e.text(t, a), opt)) {
		t.Errorf("%s with optimisation %d: %d bytes, %d at the lookup, which aren't its bytecode", name, opt, got, size)
	}
}

func (e *env) text(t *testing.T, a tree.Attr) []byte {
	t.Helper()
	text, err := e.blobs.ReadBlob(a.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// expectWhole checks an entry as the format states it, without this package's
// reader.
func (e *env) expectWhole(t *testing.T, root, path string) {
	t.Helper()
	rel := strings.TrimPrefix(path, root+"/")
	stem, suffix, _ := strings.Cut(rel, ".opt-")
	d, err := digest.Parse(strings.Replace(stem, "/", "", 1))
	if err != nil {
		t.Fatal(err)
	}
	opt := 0
	if suffix != "" {
		if opt, err = strconv.Atoi(suffix); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	payload, end := b[:len(b)-40], b[len(b)-40:]
	sum := sha256.Sum256(fmt.Appendf(nil, "%s%s%s%s", payload, end[:8], d[:], testVersion))
	if !bytes.Equal(end[8:], sum[:]) || string(end[:8]) != "sfpyc\x01\x01"+string(rune(opt)) {
		t.Errorf("entry %q is not whole", rel)
	}
}
