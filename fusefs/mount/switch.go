package mount

import (
	"context"
	"errors"
	"os"
	"time"
)

// Switch has the mount that w describes take the place of another one of ours, and
// stay until it is unmounted. Processes in the other go on with what they have open.
//
// Who may mount with mount(2), on Linux 6.5 or later, leaves no moment in which
// nothing is mounted. For others the time between the two mounts is returned.
func Switch(ctx context.Context, w Want) (gap time.Duration, err error) {
	start := time.Now()
	if w.over = w.Rung != RungHelper && keepVisible(w.Dir); !w.over {
		if err := Unmount(ctx, w.Dir, true); err != nil && !errors.Is(err, ErrNotMounted) {
			return 0, err
		}
		err := Hold(ctx, w)
		return time.Since(start), err
	}
	err = Unmount(ctx, w.Dir, true)
	if err == nil || errors.Is(err, ErrNotMounted) {
		err = Hold(ctx, w)
	}
	if err != nil {
		// What was kept visible has no server that can be reached.
		return 0, errors.Join(err, unmount(w.Dir, true, false))
	}
	return 0, nil
}

// overVar tells a server that it is to take the place of a mount.
const overVar = "SITEFS_SERVER_OVER"

// startsOver reports whether this server takes the place of a mount. What the
// server starts is not told.
func startsOver() bool {
	over := os.Getenv(overVar) != ""
	os.Unsetenv(overVar)
	return over
}
