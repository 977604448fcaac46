package main

import (
	"errors"
	"syscall"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/fetch"
	"github.com/sitefs/sitefs/store/resolve"
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
	{11, "the environment is in use", is(mount.ErrBusy, mount.ErrInUse)},
	{12, "nothing is mounted there", is(mount.ErrNotMounted)},
	{13, "distributions collide, and --strict forbids it", is(session.ErrCollision)},
	{14, "neither uv nor pip is there to resolve requirements", is(resolve.ErrNoResolver)},
	{15, "a server can't be reached", is(fetch.ErrGaveUp, resolve.ErrUnreachable)},
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
