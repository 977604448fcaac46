package verify

import (
	"errors"
	"fmt"
	"strings"
)

// What [Result.Err] wraps, by what was found.
var (
	ErrMissing  = errors.New("missing")
	ErrChanged  = errors.New("changed")
	ErrMode     = errors.New("of a wrong mode")
	ErrUnknown  = errors.New("not to be compared")
	ErrConflict = errors.New("left by a syncing folder")
	ErrBytecode = errors.New("compiled from another source")
	ErrExtra    = errors.New("extra")
)

// Err returns nil if there is nothing to say, else an error that counts what was
// found and wraps the error of each kind.
func (r *Result) Err() error {
	var f findings
	f.add(len(r.Missing), ErrMissing)
	f.add(len(r.Changed), ErrChanged)
	f.add(len(r.Mode), ErrMode)
	f.add(len(r.Unknown), ErrUnknown)
	f.add(len(r.Conflict), ErrConflict)
	f.add(len(r.Bytecode), ErrBytecode)
	f.add(len(r.Extra), ErrExtra)
	if len(f.kinds) == 0 {
		return nil
	}
	return &f
}

// findings is the error of a result.
type findings struct {
	counts []string
	kinds  []error
}

func (f *findings) add(n int, kind error) {
	if n > 0 {
		f.counts = append(f.counts, fmt.Sprintf("%d %v", n, kind))
		f.kinds = append(f.kinds, kind)
	}
}

func (f *findings) Error() string { return strings.Join(f.counts, ", ") }

func (f *findings) Unwrap() []error { return f.kinds }
