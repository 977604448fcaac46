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
	var second *substitute
	if w.Rung != RungHelper {
		if second, err = keepVisible(w.Dir); err != nil {
			return 0, err
		}
	}
	left := 0
	err = Unmount(ctx, w.Dir, true)
	if err != nil && !errors.Is(err, ErrNotMounted) {
		left = 1 // the environment is as it was
	} else {
		w.over = second != nil
		err = Hold(ctx, w)
	}
	if second == nil {
		return time.Since(start), err
	}
	return 0, errors.Join(err, second.end(left))
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
