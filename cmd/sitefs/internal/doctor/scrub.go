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
	for _, home := range []string{m.Home, m.RealHome} {
		text = hideHome(text, home, dirs)
	}
	text = userinfo.ReplaceAllString(text, "://")
	short, _, _ := strings.Cut(m.Host, ".")
	for _, n := range []struct{ name, as string }{
		{m.Host, "HOST"}, {short, "HOST"}, {m.User, "USER"}, {m.Getenv("SUDO_USER"), "USER"},
	} {
		text = hideName(text, n.name, n.as)
	}
	return text
}

func hideHome(text, home string, dirs []string) string {
	if len(home) <= 1 { // a system's user has / for one, or none
		return text
	}
	for _, dir := range ambiguous(home, dirs) {
		text = strings.ReplaceAll(text, dir, "~/…")
	}
	path := regexp.MustCompile(regexp.QuoteMeta(home) + "[^" + separators + "]*")
	return path.ReplaceAllStringFunc(text, func(path string) string { return shorten(path, home) })
}

// ambiguous returns those of dirs, and of the folders above them, that are in home and
// have names in which a path seems to end before it does. The longest is first.
func ambiguous(home string, dirs []string) []string {
	var found []string
	for _, dir := range dirs {
		for ; strings.HasPrefix(dir, home+"/"); dir = filepath.Dir(dir) {
			if strings.ContainsAny(dir, separators) {
				found = append(found, dir)
			}
		}
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return found
}

// separators end a path in a sentence.
const separators = " \t\n\"'`:;,)"

// shorten returns what is shown of a path that begins as home does.
func shorten(path, home string) string {
	below := path[len(home):]
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
