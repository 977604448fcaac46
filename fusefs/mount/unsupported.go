//go:build !linux

package mount

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
)

// device is what no other system has yet.
type device struct{ fd int }

func (*device) detach(bool) error { return nil }
func (*device) close() error      { return nil }

func attach(dir string, a access, rung string) (*device, error) {
	return nil, fmt.Errorf("%w: mounting on %s is not supported yet; materialize the environment instead", ErrNoFUSE, runtime.GOOS)
}

// Probe returns an error: nothing can be mounted.
func Probe(dir, rung string) (Kernel, error) { return Kernel{}, ErrNoFUSE }

func (*device) number() (uint64, error) { return 0, ErrNoFUSE }
func (*device) rung() string            { return "" }

// keeper is what no other system has yet either.
type keeper struct {
	done chan struct{}
	err  error
}

func newKeeper(Config, string) (*keeper, error) { return nil, ErrNoFUSE }

func (*keeper) begin() error               { return ErrNoFUSE }
func (*keeper) abandon() error             { return nil }
func (*keeper) serve(int) error            { return ErrNoFUSE }
func (*keeper) replace(func() error) error { return ErrNoFUSE }
func (*keeper) close() error               { return nil }
func (*keeper) release() error             { return nil }
func (*keeper) connected() bool            { return false }
func (*keeper) fill(*Status)               {}

func (*keeper) takeOver(*orphan, int) error { return ErrNoFUSE }

func (*supervisor) become(*net.UnixConn) error { return ErrNoFUSE }

// estate is what a supervisor leaves to its successor.
type estate struct{}

func inherited() (*estate, error) { return nil, nil }

func (*estate) supervisor(Config) (*supervisor, error) { return nil, ErrNoFUSE }

// orphan is a worker without a supervisor, of which there is none.
type orphan struct{}

func (*orphan) keeper(Config) (*keeper, error)           { return nil, ErrNoFUSE }
func (*orphan) device(dir, made string) (*device, error) { return nil, ErrNoFUSE }

func findOrphan(string) (*orphan, error) { return nil, nil }
func orphaned(string) bool               { return false }

// substitute is what no other system has a mount for.
type substitute struct{}

func keepVisible(string) (*substitute, error) { return nil, nil }
func (*substitute) end(int) error             { return nil }

// Work returns an error: there are no mounts to serve.
func Work(context.Context, []string, func(Session) (Worker, error)) error { return ErrNoFUSE }

// CompanionConn returns, in a companion, its end of the socket.
func CompanionConn() *os.File { return nil }

func attachOver(string, access) (*device, error) { return nil, ErrNoFUSE }
func endLeft(string) (bool, error)               { return false, nil }
func unmount(string, bool, bool) error           { return nil }

func prepare(dir string, avoid []string) (made []string, err error) { return nil, nil }
func detachDead(dir string) (found bool, err error)                 { return false, nil }

func environUsers(string) []Process { return nil }
func fileUsers(string) []Process    { return nil }
func processName(int) string        { return unknownName }

func isNotEmpty(err error) bool { return errors.Is(err, syscall.ENOTEMPTY) }
