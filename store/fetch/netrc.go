package fetch

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// A netrc holds the credentials of the file that NETRC names, else of ~/.netrc
// or ~/_netrc, in the syntax that Python's netrc module reads.
//
// The parser is our own: the format is a list of words, and the libraries for
// it are larger, unkept, or ignore quotes.
type netrc struct {
	path     string
	err      error // why the file could not be read; told if a server refuses
	machines map[string]*login
	other    *login // the default entry, nil if there is none
}

type login struct{ user, password string }

func readNetrc(getenv func(string) string) *netrc {
	paths := []string{getenv("NETRC")}
	if paths[0] == "" {
		home := getenv("HOME")
		if home == "" {
			return new(netrc)
		}
		paths = []string{filepath.Join(home, ".netrc"), filepath.Join(home, "_netrc")}
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		n := parseNetrc(string(data))
		n.path, n.err = path, err
		return n
	}
	return new(netrc)
}

// find returns the credentials for a host; the default entry counts only if
// withDefault.
func (n *netrc) find(host string, withDefault bool) (user, password string, ok bool) {
	l := n.machines[strings.ToLower(host)]
	if l == nil && withDefault {
		l = n.other
	}
	if l == nil || *l == (login{}) {
		return "", "", false
	}
	return l.user, l.password, true
}

// hint says what can be done about a refusal by u's server.
func (n *netrc) hint(u *url.URL) string {
	_, _, known := n.find(u.Hostname(), true)
	switch {
	case n.err != nil:
		return fmt.Sprintf("credentials were not looked up: %v", n.err)
	case u.User != nil:
		return "the credentials in the URL are not accepted"
	case known:
		return fmt.Sprintf("the credentials for %s in %q are not accepted", u.Hostname(), n.path)
	default:
		return fmt.Sprintf("give credentials as a line in ~/.netrc: machine %s login USER password PASSWORD", u.Hostname())
	}
}

// parseNetrc takes what it understands: a file that other programs use as well
// is no reason to fail. Of two entries for a machine the last counts, as for
// Python (for curl it is the first).
func parseNetrc(text string) *netrc {
	n := &netrc{machines: make(map[string]*login)}
	w := words{rest: text}
	entry := new(login) // words before the first machine belong to nobody
	for {
		word, ok := w.next()
		if !ok {
			return n
		}
		switch word {
		case "machine":
			entry = new(login)
			if name, ok := w.next(); ok {
				n.machines[strings.ToLower(name)] = entry
			}
		case "default":
			entry = new(login)
			n.other = entry
		case "login", "user":
			entry.user, _ = w.next()
		case "password":
			entry.password, _ = w.next()
		case "account":
			w.next()
		case "macdef":
			w.skipMacro()
		default:
			if strings.HasPrefix(word, "#") {
				w.skipLine()
			}
		}
	}
}

// words splits a netrc file.
type words struct{ rest string }

// next returns the next word. A quoted word may hold spaces; a backslash takes
// the next character as it is.
func (w *words) next() (string, bool) {
	w.rest = strings.TrimLeft(w.rest, " \t\r\n")
	if w.rest == "" {
		return "", false
	}
	var b strings.Builder
	quoted := w.rest[0] == '"'
	i := 0
	if quoted {
		i = 1
	}
	for ; i < len(w.rest); i++ {
		c := w.rest[i]
		if quoted && c == '"' {
			i++
			break
		}
		if !quoted && strings.IndexByte(" \t\r\n", c) >= 0 {
			break
		}
		if c == '\\' && i+1 < len(w.rest) {
			i++
			c = w.rest[i]
		}
		b.WriteByte(c)
	}
	w.rest = w.rest[i:]
	return b.String(), true
}

func (w *words) skipLine() {
	_, w.rest, _ = strings.Cut(w.rest, "\n")
}

// skipMacro leaves out a macro, which ends at an empty line.
func (w *words) skipMacro() {
	w.skipLine()
	for w.rest != "" {
		line, rest, _ := strings.Cut(w.rest, "\n")
		w.rest = rest
		if strings.TrimSpace(line) == "" {
			return
		}
	}
}
