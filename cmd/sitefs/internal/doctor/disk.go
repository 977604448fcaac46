package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/materialize"
)

// store looks at whether the store can be used.
func (m *Machine) store(context.Context) []Check {
	c := Check{Name: "store", Status: OK, Found: m.Store, Wanted: "a directory of yours that can be written to"}
	switch err := m.OpenStore(); {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) && !errors.Is(err, store.ErrFormat):
		c.Found += " is not there yet: the first use makes it"
	case errors.Is(err, store.ErrReadOnly):
		c.Status, c.Found, c.Fix = Warning, err.Error(), "set SITEFS_STORE to a directory of yours; what is in this store can be mounted"
	default:
		c.Status, c.Found, c.Fix = Failure, err.Error(), "set SITEFS_STORE to a directory of yours"
	}
	return []Check{c}
}

// links looks at what a real environment can share with the store.
func (m *Machine) links(context.Context) []Check {
	if err := m.OpenStore(); err != nil {
		return nil // said of the store, or nothing to try with
	}
	dir := m.existing(m.Dir)
	found, err := m.Links(m.Store, dir)
	if err != nil {
		return []Check{{
			Name:   "directory",
			Status: Warning,
			Found:  err.Error(),
			Wanted: "a directory that can be written to, for environments",
			Fix:    "sitefs doctor DIR, with a directory of yours",
		}}
	}
	return []Check{
		shares("clone", "file systems that share blocks", materialize.Clone, found),
		shares("hard links", "two directories of one file system", materialize.Hardlink, found),
	}
}

// shares says what the probe found of one way to share. None is needed.
func shares(name, wanted string, m materialize.Mode, found *materialize.Finding) Check {
	why, remedy := found.Refused(m)
	if why != "" {
		return Check{Name: name, Status: Note, Found: why + "; `sitefs materialize` copies instead", Wanted: wanted, Fix: remedy}
	}
	return Check{Name: name, Status: OK, Found: fmt.Sprintf("works from the store (%v) to %s (%v)", found.Store, found.Target.Path, found.Target), Wanted: wanted}
}

// What an environment of 250 packages takes: 1.7 GB in 46,282 files and 8,505
// directories.
const (
	enoughBytes = 2 << 30
	enoughFiles = 60_000
)

// noBytes is less than the store's catalog needs to open (16 MiB of log and a table).
const noBytes = 32 << 20

// space looks at the room for the store and for environments.
func (m *Machine) space(context.Context) []Check {
	places := []struct{ name, dir string }{{"space, store", m.existing(m.Store)}, {"space, directory", m.existing(m.Dir)}}
	var checks []Check
	for _, p := range places {
		c := Check{Name: p.name, Status: OK, Wanted: fmt.Sprintf("%s and %d files", gigabytes(enoughBytes), enoughFiles)}
		s, err := m.Space(p.dir)
		if err != nil {
			c.Status, c.Found, c.Fix = Warning, err.Error(), "see what it says"
			checks = append(checks, c)
			continue
		}
		c.Found = fmt.Sprintf("%s left on %s", gigabytes(s.Bytes), p.dir)
		if s.TotalFiles > 0 {
			c.Found += fmt.Sprintf(", and %d files", s.Files)
		}
		if s.Bytes < enoughBytes || s.TotalFiles > 0 && s.Files < enoughFiles {
			c.Status, c.Fix = Warning, "make room, or set SITEFS_STORE to another disk"
		}
		if s.Bytes < noBytes || s.TotalFiles > 0 && s.Files == 0 {
			c.Status = Failure
		}
		checks = append(checks, c)
	}
	return checks
}

func gigabytes(bytes uint64) string { return fmt.Sprintf("%.1f GB", float64(bytes)/1e9) }

// enoughDescriptors is twice the readers of a mount, each of which may have a file
// of the store open.
const enoughDescriptors = 1024

// descriptors looks at how many files a process may have open.
func (m *Machine) descriptors(context.Context) []Check {
	c := Check{Name: "open files", Status: OK, Wanted: fmt.Sprintf("%d or more", enoughDescriptors)}
	n, err := m.MaxFiles()
	switch {
	case err != nil:
		c.Status, c.Found, c.Fix = Warning, err.Error(), "see what it says"
	case n < enoughDescriptors:
		c.Status, c.Found, c.Fix = Warning, fmt.Sprintf("%d at most", n), fmt.Sprintf("ulimit -n %d", enoughDescriptors)
	case n > 1<<40: // RLIM_INFINITY, which differs from system to system
		c.Found = "no limit"
	default:
		c.Found = fmt.Sprintf("%d at most", n)
	}
	return []Check{c}
}
