// Package confine takes from a thread, or from this whole process, what it has no
// use for: capabilities, files, sockets, other processes.
//
// It is for code that works on what strangers wrote: the compilers, and the worker
// that answers for a mount. What the kernel can't do, or a container forbids, is
// left out: no confinement is a reason not to work, and who asked is told what
// holds. What holds, holds for ever, and for every process that is started.
//
// The package never loosens anything and decides for nobody what is needed: that
// is in the [Rules] of its callers.
package confine

// Rules say what is left to who is confined. The zero Rules leave nothing but to
// read files and to start programs.
//
// A file that doesn't exist is left out of the lists. What is allowed is the file
// that a name stands for at the time, not one that takes the name later.
type Rules struct {
	// Read lists files and folders that may be read and executed, with everything
	// below; nil: all.
	Read []string
	// Write lists those that may be read and changed, beside /dev/null. Their modes,
	// owners, times and attributes may not.
	Write []string

	// Own lists folders with whose files, everything below, all may be done but to
	// make devices: they may be of any owner, where this is root. Then the attributes
	// of files elsewhere are no longer out of reach, if they are the user's.
	Own []string
	// Search leaves root its right to read what only others may.
	Search bool
}

// What may hold, sorted by name. A system has those that its kernel knows.
const (
	Capabilities = "capabilities" // no capability, but those for [Rules.Search] and Rules.Own
	Landlock     = "landlock"     // nothing written, but for Rules.Write and Own; with newer kernels no TCP and no signals
	NoNewPrivs   = "no_new_privs" // no setuid program gains anything
	Read         = "read"         // nothing read, but for the rules
	Seccomp      = "seccomp"      // no socket made or connected, no other process touched, without Rules.Own no file's attributes changed
)
