package verify

import (
	"regexp"
	"strings"
)

// conflicts are the names that syncing folders give to the copy of a file that
// changed in two places: what follows the stem.
var conflicts = []*regexp.Regexp{
	regexp.MustCompile(`^ ([2-9]|[1-9][0-9]+)$`),                    // iCloud Drive and the Finder: "name 2.py"
	regexp.MustCompile(`^ ?\([1-9][0-9]*\)$`),                       // Google Drive, browsers: "name (1).py"
	regexp.MustCompile(`(?i)^ \([^()]*conflict(ed copy)?[^()]*\)$`), // Dropbox, Nextcloud: "name (X's conflicted copy 2026-11-23).py"
	regexp.MustCompile(`^\.sync-conflict-[0-9]{8}-[0-9]{6}-\w+$`),   // Syncthing
	regexp.MustCompile(`^-(DESKTOP|LAPTOP)-[0-9A-Z]{7}$`),           // OneDrive: "name-HOST.py", with Windows' own host names
	regexp.MustCompile(`^-[\w-]*(MacBook|iMac|Mac-mini)[\w-]*$`),    // the same, of a Mac
}

// conflictOf returns the name that a copy of this name was made from, if it looks
// like one. Host is the name of this machine.
func conflictOf(name, host string) (original string, ok bool) {
	// The extension is what follows the last dot, but Syncthing has dots of its own
	// and "archive.tar 2.gz" is "archive.tar.gz" all the same.
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 {
		dot = len(name)
	}
	stem, ext := name[:dot], name[dot:]
	if original, ok := cutMark(stem, host); ok {
		return original + ext, true
	}
	// "name 2" of a name without an extension, "name.py 2" of one with.
	return cutMark(name, host)
}

// cutMark cuts what marks a copy off the end of s.
func cutMark(s, host string) (string, bool) {
	for i := 1; i < len(s); i++ {
		if strings.IndexByte(" (.-", s[i]) < 0 {
			continue
		}
		mark := s[i:]
		if host != "" && strings.EqualFold(mark, "-"+host) {
			return s[:i], true
		}
		for _, pattern := range conflicts {
			if pattern.MatchString(mark) {
				return s[:i], true
			}
		}
	}
	return "", false
}
