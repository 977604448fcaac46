package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// answerTimeout bounds the wait for a reply where the caller's context doesn't.
// A server answers at once unless it is still mounting, which takes
// milliseconds; a fusermount3 that hangs on a dead disk takes for ever.
const answerTimeout = 30 * time.Second

// A Client talks to the server of one mount.
type Client struct {
	dir  string
	conn *net.UnixConn
}

// Dial connects to the server of the mount at dir. Without one the error is
// [ErrNotMounted].
func Dial(ctx context.Context, dir string) (*Client, error) {
	state, err := StateDir(dir)
	if err != nil {
		return nil, err
	}
	return dial(ctx, dir, state)
}

func dial(ctx context.Context, dir, state string) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := connect(state)
	if errors.Is(err, syscall.ECONNREFUSED) && orphaned(state) {
		if err := revive(ctx, dir, state); err != nil {
			return nil, err
		}
		conn, err = connect(state)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%q: %w", dir, ErrNotMounted)
	}
	if err != nil {
		return nil, fmt.Errorf("reaching the server of %q: %w", dir, err)
	}
	if err := owned(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("reaching the server of %q: %w", dir, err)
	}
	return &Client{dir: dir, conn: conn}, nil
}

// owned returns an error unless the server at the other end answers this user: it
// hangs up on others, as one does that ends.
func owned(c *net.UnixConn) error {
	uid, _, err := peer(c)
	if me := os.Getuid(); err == nil && me != 0 && int(uid) != me {
		err = fmt.Errorf("%w: it is user %d's, and this is user %d", fs.ErrPermission, uid, me)
	}
	return err
}

// revive starts a supervisor in the place of one that was killed and has left a
// worker.
func revive(ctx context.Context, dir, state string) error {
	i, err := readInfo(state)
	if err != nil {
		return err
	}
	if len(i.Server) == 0 {
		return fmt.Errorf("the supervisor of %q was killed, and nothing says how it was started; unmount with \"umount -l\" or \"fusermount3 -uz\"", dir)
	}
	return Want{Dir: i.Dir, Tree: i.Tree, Server: i.Server}.start(ctx, state)
}

// Close ends the connection, and with it a lease that was taken on it and not
// passed on.
func (c *Client) Close() error { return c.conn.Close() }

// ask sends a request and returns the reply. A server that goes meanwhile is
// [ErrNotMounted].
func (c *Client) ask(ctx context.Context, q request) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	var r reply
	err := send(c.conn, q)
	if err == nil {
		err = receive(c.conn, &r)
	}
	switch {
	case err == nil:
		return r, nil
	case ctx.Err() != nil:
		return reply{}, fmt.Errorf("the server of %q does not answer: %w", c.dir, ctx.Err())
	case errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		return reply{}, fmt.Errorf("%q: its server ended: %w", c.dir, ErrNotMounted)
	}
	return reply{}, fmt.Errorf("asking the server of %q: %w", c.dir, err)
}

// result turns a reply into an error.
func (c *Client) result(r reply) error {
	switch r.Outcome {
	case outcomeOK:
		return nil
	case outcomeGoing:
		return fmt.Errorf("%q is being unmounted: %w", c.dir, ErrNotMounted)
	case outcomeInUse:
		return fmt.Errorf("%q holds tree %.12s: %w", c.dir, r.Tree, ErrInUse)
	case outcomeBusy:
		return &BusyError{Dir: c.dir, Processes: r.Processes}
	}
	return fmt.Errorf("the server of %q: %s", c.dir, r.Error)
}

// Lease takes a lease if the mount holds tree, which then stays warm for keep
// after the last lease. The file is the lease; it is not closed on exec, so a
// command that this process becomes holds it on.
//
// A mount that holds another tree and is not used gives way: the error is
// [ErrNotMounted] then, and [ErrInUse] where it is used.
func (c *Client) Lease(ctx context.Context, tree string, keep time.Duration) (*os.File, error) {
	r, err := c.ask(ctx, request{Verb: verbLease, Tree: tree, Keep: keep})
	if err != nil {
		return nil, err
	}
	if err := c.result(r); err != nil {
		return nil, err
	}
	if err := c.seen(r); err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrInUse)
	}
	return inheritable(c.conn)
}

// seen returns an error unless what the server has mounted is what this process
// sees. The socket reaches into other mount namespaces, those of containers that
// share the home directory for one; the mount does not.
func (c *Client) seen(r reply) error {
	number, err := deviceNumber(c.dir)
	if err == nil && number == r.Device {
		return nil
	}
	return fmt.Errorf("%q is mounted where this process can't see it, in another mount namespace or beneath another mount", c.dir)
}

// Hold makes the mount stay until it is unmounted. Errors are as Lease has them.
func (c *Client) Hold(ctx context.Context, tree string) error {
	r, err := c.ask(ctx, request{Verb: verbHold, Tree: tree})
	if err != nil {
		return err
	}
	if err := c.result(r); err != nil {
		return err
	}
	if err := c.seen(r); err != nil {
		return fmt.Errorf("%w: %w: choose another place", ErrMountPoint, err)
	}
	return nil
}

// Status asks for the mount's status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	r, err := c.ask(ctx, request{Verb: verbStatus})
	if err != nil {
		return Status{}, err
	}
	if err := c.result(r); err != nil {
		return Status{}, err
	}
	if r.Status == nil {
		return Status{}, fmt.Errorf("the server of %q sent no status; it may be of another version of sitefs", c.dir)
	}
	return *r.Status, nil
}

// Unmount unmounts. A mount that is used stays, and the error is a [BusyError],
// unless detach is set: then the mount point is free at once and processes go
// on with what they have open. A server that dies meanwhile is [ErrNotMounted].
func (c *Client) Unmount(ctx context.Context, detach bool) error {
	r, err := c.ask(ctx, request{Verb: verbUnmount, Detach: detach})
	if err != nil {
		return err
	}
	if err := c.result(r); err != nil && r.Outcome != outcomeGoing {
		return err
	}
	return c.wait(ctx)
}

// Reload has the program that is now on disk serve the mount: first the worker,
// then the supervisor, which keeps its process and its leases. Nobody who uses the
// mount notices. Where the program can't serve it, the mount goes on as it was.
func (c *Client) Reload(ctx context.Context) error {
	r, err := c.ask(ctx, request{Verb: verbReload})
	if err != nil {
		return err
	}
	return c.result(r)
}

// wait waits until the server closes the connection, which it does when the
// mount point is clean.
func (c *Client) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := io.Copy(io.Discard, c.conn)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// Unmount unmounts what is mounted at dir, and clears away what a server that
// died left there. Errors are [ErrNotMounted] and those of [Client.Unmount].
func Unmount(ctx context.Context, dir string, detach bool) error {
	state, err := StateDir(dir)
	if err != nil {
		return err
	}
	for asked := false; ; asked = true {
		c, err := dial(ctx, dir, state)
		if errors.Is(err, ErrNotMounted) {
			if err = clearDead(dir, state); asked && errors.Is(err, ErrNotMounted) {
				err = nil // it went by itself, leaving nothing
			}
			return err
		}
		if err != nil {
			return err
		}
		err = c.Unmount(ctx, detach)
		c.Close()
		if err == nil {
			_, err = endLeft(dir)
		}
		if !errors.Is(err, ErrNotMounted) {
			return err
		}
	}
}

// clearDead removes the mount and the state of a server that died.
func clearDead(dir, state string) error {
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		found, err := detachDead(dir)
		if err == nil && !found {
			err = fmt.Errorf("%q: %w", dir, ErrNotMounted)
		}
		return err
	}
	unlock, err := lockState(state)
	if err != nil {
		return err
	}
	defer unlock()
	if c, err := connect(state); err == nil {
		c.Close()
		return fmt.Errorf("%q was mounted again just now: %w", dir, ErrInUse)
	}
	if _, err := detachDead(dir); err != nil {
		return err
	}
	if i, ierr := readInfo(state); ierr == nil && i.RemoveDir {
		err = removeMountPoint(dir)
	}
	return errors.Join(err, removeState(state))
}

// List returns the status of every mount of the user, those of dead servers
// too. With an error it still returns those that it could ask.
func List(ctx context.Context) ([]Status, error) {
	root, err := stateRoot()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Status
	var errs []error
	for _, e := range entries {
		s, err := look(ctx, filepath.Join(root, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // not mounted yet, or gone meanwhile
		}
		if err != nil {
			errs = append(errs, err) // one broken mount must not hide the others
			continue
		}
		list = append(list, s)
	}
	return list, errors.Join(errs...)
}

// Look returns the status of the mount at dir, that of a dead server too.
// Without one the error is [ErrNotMounted].
func Look(ctx context.Context, dir string) (Status, error) {
	state, err := StateDir(dir)
	if err != nil {
		return Status{}, err
	}
	s, err := look(ctx, state)
	if errors.Is(err, fs.ErrNotExist) {
		return Status{}, fmt.Errorf("%q: %w", dir, ErrNotMounted)
	}
	return s, err
}

// look returns the status of the mount that state belongs to.
func look(ctx context.Context, state string) (Status, error) {
	for {
		i, err := readInfo(state)
		if err != nil {
			return Status{}, err
		}
		c, err := dial(ctx, i.Dir, state)
		if errors.Is(err, ErrNotMounted) {
			return Status{Dir: i.Dir, Tree: i.Tree, PID: i.PID, State: StateDead, Leases: []Process{}, Info: i.Info}, nil
		}
		if err != nil {
			return Status{}, err
		}
		s, err := c.Status(ctx)
		c.Close()
		if !errors.Is(err, ErrNotMounted) {
			return s, err
		}
		// It went meanwhile: by itself, or it was killed and its worker is left.
	}
}
