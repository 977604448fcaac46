package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/manifest/tree"
)

// sparse is a file with a hole in the middle, and its blob.
func sparse(t *testing.T) (*machine, uint64, string) {
	t.Helper()
	content := strings.Repeat("a", 100_000) + strings.Repeat("\x00", 800_000) + strings.Repeat("b", 100_001)
	store := blobs(t.TempDir())
	b := tree.NewBuilder("test")
	d := store.put(t, content)
	if err := b.File("sparse", false, int64(len(content)), d); err != nil {
		t.Fatal(err)
	}
	hole, err := os.OpenFile(store.path(d), os.O_RDWR, 0)
	if err != nil {
		if err = os.Chmod(store.path(d), 0o600); err == nil {
			hole, err = os.OpenFile(store.path(d), os.O_RDWR, 0)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	if err := fallocate(int(hole.Fd()), keepSize|punchHole, 102_400, 700_000); errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("needs a file system with holes, %s is on one without: %v", store, err)
	} else if err != nil {
		t.Fatal(err)
	}
	m := serve(t, b, store)
	return m, m.node("sparse"), content
}

func TestCopyUpKeepsHoles(t *testing.T) {
	for _, refused := range []string{"", "clone", "copy_file_range"} {
		t.Run("without "+refused, func(t *testing.T) {
			m, id, content := sparse(t)
			m.files.fault = func(call string) error {
				if call == refused {
					return syscall.EXDEV
				}
				return nil
			}
			m.must(m.write(id, 100_000, "x"))
			m.holds(id, content[:100_000]+"x"+content[100_001:])
			if hole, e := m.seek(id, 0, seekHole); e != 0 || hole > 200_000 {
				t.Errorf("the first hole is at %d, %v", hole, e)
			}
		})
	}
}

// Whatever fails while a file is copied up, the caller is told, the old content
// stays, and nothing is left over.
func TestFailedCopyUp(t *testing.T) {
	for _, call := range []string{"stage", "clone", "copy_file_range", "ftruncate", "fdatasync"} {
		for _, want := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
			t.Run(fmt.Sprintf("%s %v", call, want), func(t *testing.T) {
				m, id, content := sparse(t)
				failing := true
				m.files.fault = func(c string) error {
					switch {
					case c == call && failing:
						return want
					case c == "clone":
						return syscall.EXDEV
					}
					return nil
				}
				if e := m.write(id, 0, "x"); e != want {
					t.Errorf("write: %v, want %v", e, want)
				}
				if call != "clone" && call != "copy_file_range" {
					if e := m.truncate(id, 10); e != want {
						t.Errorf("truncate: %v, want %v", e, want)
					}
				}
				m.holds(id, content)
				staged, err := os.ReadDir(filepath.Join(m.upper, upper.SideDir, "tmp"))
				if err != nil || len(staged) != 0 || m.upperHas("sparse") {
					t.Errorf("left over: %v, %v", staged, err)
				}
				failing = false
				m.must(m.write(id, 0, "x"))
				m.holds(id, "x"+content[1:])
				m.log.Reset() // EIO is said there
			})
		}
	}
}

func TestKilledCopyUp(t *testing.T) {
	var moments []string
	{
		m := newMachine(t)
		m.at = func(moment string) { moments = append(moments, moment) }
		m.must(m.write(m.node(data), 0, "D"))
	}
	if len(moments) == 0 {
		t.Fatal("no moments")
	}
	for i, moment := range moments {
		t.Run(fmt.Sprintf("%d %s", i, moment), func(t *testing.T) {
			m := newMachine(t)
			id := m.node(data)
			left := i
			m.at = func(string) {
				if left--; left < 0 {
					panic(errKilled)
				}
			}
			func() {
				defer func() {
					if r := recover(); r != errKilled {
						t.Errorf("recovered %v", r)
					}
				}()
				_ = m.write(id, 0, "D")
			}()
			m.die()
			if got := m.node(data); got != id {
				t.Errorf("node %x has become %x", id, got)
			}
			m.holds(id, "data")
			m.must(m.write(id, 0, "D"))
			m.holds(id, "Data")
		})
	}
}

var errKilled = errors.New("killed")
