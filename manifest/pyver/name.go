package pyver

import "strings"

// CanonicalName returns the normalized form of a project's or an extra's name
// (PEP 503, PEP 685): lower case, each run of "-", "_" and "." one "-". It does
// not ask whether the name is a valid one; see [ValidName].
func CanonicalName(s string) string {
	if IsCanonicalName(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	separator := false
	for _, r := range strings.ToLower(s) {
		if r == '-' || r == '_' || r == '.' {
			if !separator {
				b.WriteByte('-')
			}
			separator = true
			continue
		}
		separator = false
		b.WriteRune(r)
	}
	return b.String()
}

// IsCanonicalName reports whether s is a valid name in its normalized form.
func IsCanonicalName(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z':
		case c == '-' && i > 0 && i < len(s)-1 && s[i-1] != '-':
		default:
			return false
		}
	}
	return s != ""
}

// ValidName reports whether s may name a project: ASCII letters, digits, "-",
// "_" and ".", a letter or digit at either end (core metadata, "Name").
func ValidName(s string) bool {
	for i := range len(s) {
		inner := i > 0 && i < len(s)-1
		if !isAlphanumeric(s[i]) && !(inner && isSeparator(s[i])) {
			return false
		}
	}
	return s != ""
}
