package doctor

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Folders in a home whose names say nothing of their owner.
var commonFolders = []string{"Applications", "Desktop", "Documents", "Downloads", "Dropbox", "Library", "OneDrive"}

// userinfo is what a URL has for its server alone (RFC 3986 §3.2.1).
var userinfo = regexp.MustCompile(`://[^/\s"'@]+@`)

// scrub returns text without what is the user's own: their home and what is in it,
// but for the hidden folders of programs; their name and that of the machine;
// passwords. Dirs are paths that may be in it.
func (m *Machine) scrub(text string, dirs []string) string {
	for _, p := range m.inHome(dirs) {
		text = strings.ReplaceAll(text, p, "~/…")
	}
	if len(m.Home) > 1 { // not that of a system's user, which is /
		home := regexp.MustCompile(regexp.QuoteMeta(m.Home) + "[^" + separators + "]*")
		text = home.ReplaceAllStringFunc(text, m.shorten)
	}
	text = userinfo.ReplaceAllString(text, "://")
	short, _, _ := strings.Cut(m.Host, ".")
	text = hideName(text, m.Host, "HOST")
	text = hideName(text, short, "HOST")
	return hideName(text, m.User, "USER")
}

// inHome returns dirs and the folders above them that are in the home and have names
// in which a path doesn't seem to end where it does, the longest first.
func (m *Machine) inHome(dirs []string) []string {
	var own []string
	for _, dir := range dirs {
		for strings.HasPrefix(dir, m.Home+"/") {
			if strings.ContainsAny(dir, separators) {
				own = append(own, dir)
			}
			dir = filepath.Dir(dir)
		}
	}
	slices.SortFunc(own, func(a, b string) int { return len(b) - len(a) })
	return own
}

// separators end a path in a sentence.
const separators = " \t\n\"'`:;,)"

// shorten returns what is shown of a path that begins as the home does.
func (m *Machine) shorten(path string) string {
	below := path[len(m.Home):]
	if next, _ := utf8.DecodeRuneInString(below); unicode.IsLetter(next) || unicode.IsDigit(next) {
		return path // the home of another whose name is longer
	}
	inside, ok := strings.CutPrefix(below, "/")
	first, _, deeper := strings.Cut(inside, "/")
	switch {
	case !ok, first == "", strings.HasPrefix(first, "."):
		return "~" + below
	case !slices.Contains(commonFolders, first):
		return "~/…"
	case deeper:
		return "~/" + first + "/…"
	}
	return "~/" + first
}

// everybodys are names that say nothing of a person or a machine.
var everybodys = []string{"", "localhost", "root"}

// hideName replaces a name, in whatever case, where it is a word.
func hideName(text, name, as string) string {
	if slices.Contains(everybodys, name) {
		return text
	}
	word := regexp.MustCompile(`(?i)(^|[^\pL\pN])` + regexp.QuoteMeta(name) + `($|[^\pL\pN])`)
	for range 2 { // of two names the character between them belongs to the first
		text = word.ReplaceAllString(text, "${1}"+as+"${2}")
	}
	return text
}
