package session

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/manifest/digest"
)

// envFolder holds the mount points that sitefs names itself.
const envFolder = "env"

// maxName bounds the readable part of a mount point's name: generated scripts
// carry the path in their first line, of which the kernel reads 127 bytes.
const maxName = 24

// place returns the mount point of an environment that no path was given for:
// $XDG_STATE_HOME/sitefs/env/NAME-HASH. It depends on the user and on what the
// user named, never on the content, so sys.executable is the same at every run.
// The runtime directory won't do: it goes at logout, and daemons live on.
func place(name, identity string) (string, error) {
	state, err := mount.StateHome()
	if err != nil {
		return "", err
	}
	hash := digest.Of([]byte(strconv.Itoa(os.Getuid()) + "\x00" + identity)).String()[:10]
	return filepath.Join(state, envFolder, readable(name)+"-"+hash), nil
}

// readable keeps of a name what needs no quoting in any shell or shebang.
func readable(name string) string {
	keep := func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}
	name = strings.Trim(strings.Map(keep, name), ".-")
	if len(name) > maxName {
		name = strings.TrimRight(name[:maxName], ".-")
	}
	if name == "" {
		return "env"
	}
	return name
}

// sibling returns the n-th mount point of a family: the first has no number.
func sibling(dir string, n int) string {
	if n == 1 {
		return dir
	}
	return dir + "-" + strconv.Itoa(n)
}
