// Package session decides what to run in. It turns lock files and requirements
// into a tree in the store, the tree into a mount, and the mount into a lease
// that a command holds.
//
// The second time is the case it is built for: inputs that were read once name
// their tree through one small file of the store, so no lock file is parsed, no
// interpreter run and no catalog opened between the user's command and exec.
// Whatever can't be proved unchanged by reading it is looked at anew.
package session

import (
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/fetch"
	"github.com/sitefs/sitefs/store/materialize"
	"github.com/sitefs/sitefs/store/resolve"
)

// A Session is one command's view of the machine.
type Session struct {
	Store   *store.Store
	Dir     string // the working directory, absolute
	Version string // of the program, told to servers

	Offline bool // ask no network
	Refresh bool // ask the resolver, whatever was answered before

	Progress Progress
	Warn     func(text string) // what the user should know
	Note     func(text string) // what the user may like to know
}

// Progress is told how far the work is that a user waits for.
type Progress interface {
	fetch.Progress
	CompileProgress
	materialize.Progress
}

// A Request is what the user asked for.
type Request struct {
	Locks  []string // lock files, in order
	With   []string // requirements, wheels, folders of wheels
	Python string   // as --python takes it, "" to find one
	Select lock.Options

	Seed               bool `json:",omitempty"` // pip is there, whatever asks for it
	SystemSitePackages bool
	Relocatable        bool
	Strict             bool // collisions of distributions are errors
	Leniency
}

// Leniency says which wheels are taken that would be refused.
type Leniency struct {
	AllowBadRecord bool  // whose RECORD is wrong
	UnpackLimit    int64 // that unpack to so many bytes, however well they are packed; 0 is the usual bound
}

// caches of the store that answers are kept in.
const (
	interpreters = "interp"
	answers      = "answers"
)

func (s *Session) finder() (*interp.Finder, error) {
	return interp.New(s.Store.Cache(interpreters))
}

func (s *Session) resolver() *resolve.Resolver {
	return resolve.New(s.Store.Cache(answers))
}
