//go:build !linux

package mount

import (
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// device is what no other system has yet.
type device struct{ fd int }

func (*device) detach(bool) error { return nil }
func (*device) close() error      { return nil }

func attach(dir string, allowOther bool) (*device, error) {
	return nil, fmt.Errorf("%w: mounting on %s is not supported yet; materialize the environment instead", ErrNoFUSE, runtime.GOOS)
}

type worker struct {
	inited, done chan struct{}
	err          error
}

func newWorker(int, fuse.RawFileSystem, *log.Logger) (*worker, error) { return nil, ErrNoFUSE }

func (*worker) run()                              {}
func (*worker) counts() (map[string]int64, int64) { return nil, 0 }

// A Companion is a process beside the server that the file system may ask.
type Companion struct{}

// NewCompanion returns an error: there are no mounts to accompany.
func NewCompanion(command []string) (*Companion, *os.File, error) {
	return nil, nil, fmt.Errorf("%w: no companion on %s", errors.ErrUnsupported, runtime.GOOS)
}

// CompanionConn returns, in a companion, its end of the socket.
func CompanionConn() *os.File { return nil }

func (*Companion) run()        {}
func (*Companion) stop() error { return nil }

func prepare(dir string, avoid []string) (made []string, err error) { return nil, nil }
func detachDead(dir string) (found bool, err error)                 { return false, nil }

func environUsers(string) []Process { return nil }
func fileUsers(string) []Process    { return nil }
func processName(int) string        { return unknownName }

func isNotEmpty(err error) bool { return errors.Is(err, syscall.ENOTEMPTY) }
