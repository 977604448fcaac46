package main

import (
	"errors"
	"syscall"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/fetch"
	"github.com/sitefs/sitefs/store/materialize"
	"github.com/sitefs/sitefs/store/repair"
	"github.com/sitefs/sitefs/store/resolve"
	"github.com/sitefs/sitefs/store/verify"
)

// exitCodes gives each thing that a script reacts to a code of its own. A code
// never changes its meaning and is never used again for another.
var exitCodes = []struct {
	code  int
	means string
	match func(error) bool
}{
	{3, "no Python fits", is(interp.ErrNoPython, lock.ErrPython)},
	{4, "a package has no wheel for this Python", is(lock.ErrNoWheel)},
	{5, "offline, and something is lacking", is(fetch.ErrOffline, resolve.ErrOffline)},
	{6, "a wheel is not what was locked, or is not valid", func(err error) bool {
		var mismatch *fetch.MismatchError
		var invalid *wheel.Error
		return errors.Is(err, store.ErrMismatch) || errors.As(err, &mismatch) || errors.As(err, &invalid)
	}},
	{7, "the store can't be used", is(store.ErrFormat, store.ErrOwner, store.ErrReadOnly)},
	{8, "no space left in the store", is(store.ErrNoSpace, syscall.ENOSPC, syscall.EDQUOT)},
	{9, "this machine or container can't mount", is(mount.ErrNoFUSE)},
	{10, "the directory can't be mounted on", is(mount.ErrMountPoint)},
	{11, "the environment, or its overlay, is in use", is(mount.ErrBusy, mount.ErrInUse, upper.ErrLocked)},
	{12, "nothing is mounted there", is(mount.ErrNotMounted)},
	{13, "distributions collide, and --strict forbids it", is(session.ErrCollision)},
	{14, "neither uv nor pip is there to resolve requirements", is(resolve.ErrNoResolver)},
	{15, "a server can't be reached", is(fetch.ErrGaveUp, resolve.ErrUnreachable)},
	{16, "the directory is not replaced: something in it would be lost", is(materialize.ErrDest)},
	{17, "the link mode can't be used between these file systems", is(materialize.ErrMode)},
	{18, "the directory can't be an overlay's", is(session.ErrOverlay)},
	{19, "the overlay was made over another environment", is(upper.ErrBase)},

	// Of several findings of verify the first one here is told.
	{20, "verify: files are missing", is(verify.ErrMissing)},
	{21, "verify: files are changed", is(verify.ErrChanged)},
	{22, "verify: files have a wrong mode", is(verify.ErrMode)},
	{23, "verify: packages can't be compared, for want of a RECORD", is(verify.ErrUnknown)},
	{24, "verify: a syncing folder left conflict copies", is(verify.ErrConflict)},
	{25, "verify: bytecode doesn't match its source", is(verify.ErrBytecode)},
	{26, "verify: there are extra files, all else is well", is(verify.ErrExtra)},
	{27, "there is no virtual environment", is(verify.ErrNoVenv)},
	{28, "another repair of the environment is under way", is(repair.ErrBusy)},
}

// commandExitCodes are those of run and shell, as env(1) has them.
var commandExitCodes = []struct {
	code int
	err  error
}{
	{exitNotFound, session.ErrNotFound},
	{exitNotExecutable, session.ErrNotExecutable},
}

// is returns a match for errors that are one of targets.
func is(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
}
