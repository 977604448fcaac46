package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// fileOf tells the file of an interpreter from another one in its place: its size
// and when it was written, as people read it. "" is a file that can't be looked at.
// The inode is no part of it: the same package installed again is no change.
func fileOf(python string) string {
	fi, err := os.Stat(python)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d bytes of %s", fi.Size(), fi.ModTime().UTC().Format("2006-01-02 15:04:05.999999999"))
}

// fate says what became of an interpreter whose file was file, "" for nothing.
func fate(python, file string) (says string, gone bool) {
	if _, err := os.Stat(python); errors.Is(err, fs.ErrNotExist) {
		return python + " is gone", true
	}
	now := fileOf(python)
	if file == "" || now == "" || now == file { // not noted yet, or hidden from this user
		return "", false
	}
	return fmt.Sprintf("%s was replaced: found %s, want %s", python, now, file), false
}

// Examine returns info, that of a mount, with what is wrong with its interpreter now.
// What is of another version stays as it is.
func Examine(info json.RawMessage) json.RawMessage {
	var i Info
	if json.Unmarshal(info, &i) != nil || i.Python == "" {
		return info
	}
	text, gone := fate(i.Python, i.PythonFile)
	switch {
	case text == "":
		return info
	case gone:
		i.PythonProblem = text + ", and nothing starts in this environment: install it again, or mount with another --python"
	default:
		i.PythonProblem = text + "; mount it again, and start anew what runs in it"
	}
	examined, err := json.Marshal(i)
	if err != nil {
		return info
	}
	return examined
}
