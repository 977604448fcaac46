package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// rungVar is the environment variable that names the only way to try.
const rungVar = "SITEFS_MOUNT"

// Values of rungVar: the ways to make an environment appear, from the best down.
// The first two mount it for everything that the user runs. The third mounts it
// for one command alone, and the last doesn't mount it.
const (
	rungDirect    = "direct"
	rungHelper    = "fusermount3"
	rungNamespace = "namespace"
	rungCopy      = "copy"
)

// A forced rung is one that the user asked for by name; "" is none.
func forcedRung() (string, error) {
	switch rung := os.Getenv(rungVar); rung {
	case "", rungDirect, rungHelper, rungNamespace, rungCopy:
		return rung, nil
	default:
		return "", fmt.Errorf("%s is %q, want %s, or nothing for the best there is", rungVar, rung,
			strings.Join([]string{rungDirect, rungHelper, rungNamespace, rungCopy}, ", "))
	}
}

// mountRung returns what the mount's server is told of a forced rung.
func mountRung() (string, error) {
	rung, err := forcedRung()
	if err != nil {
		return "", err
	}
	switch rung {
	case rungDirect:
		return mount.RungMount, nil
	case rungHelper:
		return mount.RungHelper, nil
	case "":
		return "", nil
	}
	return "", fmt.Errorf("%s is %q, which works for `sitefs run` and `sitefs shell` alone: %w; set it to %s or %s", rungVar, rung, mount.ErrNoFUSE, rungDirect, rungHelper)
}

// A noNamespaceError says why the namespace rung doesn't hold here.
type noNamespaceError struct{ reason string }

func (e *noNamespaceError) Error() string {
	return "no user namespace to mount in: " + e.reason
}

// descend returns a lease of the best rung below those that need a right to
// mount, which this machine refused for the reason given.
func (s *Session) descend(ctx context.Context, env *Environment, o EnterOptions, refused error) (*Lease, error) {
	lease, err := s.enterNamespace(ctx, env, o)
	if err == nil {
		return lease, s.sayOnce(rungNamespace, fmt.Sprintf("%v; the command runs in a user namespace, where sudo and other users' files don't work as usual: `sitefs run --help` tells more (said once)", refused))
	}
	var none *noNamespaceError
	if !errors.As(err, &none) {
		return nil, err
	}
	if o.Scratch || o.Overlay != "" {
		return nil, fmt.Errorf("%w: %w; %w", errNeedsMount, refused, none)
	}
	s.Note(refused.Error())
	s.Note(none.Error())
	lease, err = s.enterCopy(ctx, env)
	if err != nil {
		return nil, fmt.Errorf("%w; %w; and a copy can't be made: %w", refused, none, err)
	}
	why := refused.Error()
	if !strings.Contains(why, none.reason) { // no /dev/fuse, for one, is the reason of both
		why += "; " + none.Error()
	}
	return lease, s.sayOnce(rungCopy, why+" (said once)")
}

// sayOnce warns, the first time on this machine.
func (s *Session) sayOnce(rung, text string) error {
	state, err := mount.StateHome()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(state, "said-"+rung), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		s.Note(text)
		return nil
	}
	if err != nil {
		return err
	}
	s.Warn(text)
	return f.Close()
}
