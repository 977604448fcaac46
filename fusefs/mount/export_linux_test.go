package mount

import "errors"

// LeaveSubstitute leaves what a Switch leaves that is killed before it unmounts.
func LeaveSubstitute(dir string) error {
	s, err := keepVisible(dir)
	if err == nil && s == nil {
		err = errors.New("nothing can be mounted beneath a mount")
	}
	if err != nil {
		return err
	}
	return s.note.Close() // which gives up the lock
}
