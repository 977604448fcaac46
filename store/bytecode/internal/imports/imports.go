// Package imports finds the modules that a Python source names in its import
// statements, without an interpreter: what will be asked for soon after it.
//
// It reads the statements that begin in the first column of a line, which run
// when the module is imported. Those inside of a function, of try or of if are
// passed over: compiled ahead as well, they doubled the time of a first import.
//
// It is a scanner, not a parser (Python Language Reference, 2 and 7.11): whatever
// it is given, it returns what looks like an import, and the price of an error
// is a file compiled in vain.
package imports

import (
	"bytes"
	"unicode/utf8"
)

const (
	// maxNames bounds what one source can ask for; __init__.py of the largest
	// packages name some hundred.
	maxNames = 4096
	// maxName is the longest name that is returned: it becomes a path.
	maxName = 1024
)

// Scan returns the modules that the import statements of a source name, in their
// order: "a.b" for import a.b; ".x" and ".x.y" for from .x import y, where y may be
// a module of the package .x or a name in it; "." and ".y" for from . import y.
func Scan(source []byte) []string {
	s := scanner{source: bytes.TrimPrefix(source, []byte("\ufeff"))}
	for s.pos < len(s.source) && len(s.names) < maxNames {
		s.line()
	}
	return s.names
}

// A scanner is at pos in its source.
type scanner struct {
	source []byte
	pos    int
	names  []string
}

// line reads a line, and with it what a string, a parenthesis or a backslash
// makes part of it.
func (s *scanner) line() {
	for s.accept('\f') { // puts the column back to the first
	}
	for s.statement() {
		s.blanks(false)
		if !s.accept(';') {
			break
		}
		s.blanks(false)
	}
	s.skipLine()
}

// statement reads an import statement, if there is one.
func (s *scanner) statement() bool {
	switch {
	case s.keyword("import"):
		s.modules()
	case s.keyword("from"):
		s.from()
	default:
		return false
	}
	return true
}

// modules reads the rest of: import a.b as c, d
func (s *scanner) modules() {
	for {
		name := s.module()
		if len(name) == 0 {
			return
		}
		s.add(nil, name)
		s.as(false)
		if !s.accept(',') {
			return
		}
	}
}

// from reads the rest of: from .a import (b as c, d)
func (s *scanner) from() {
	module := s.module()
	if len(module) == 0 || !s.keyword("import") {
		return
	}
	s.add(nil, module)
	if module[len(module)-1] != '.' {
		module = append(module, '.')
	}
	s.blanks(false)
	inside := s.accept('(')
	for {
		s.blanks(inside)
		name := s.identifier()
		if len(name) == 0 {
			break
		}
		s.add(module, name)
		s.as(inside)
		if !s.accept(',') {
			break
		}
	}
	if inside {
		s.accept(')')
	}
}

// module reads a dotted name: a.b, ..a, or dots alone.
func (s *scanner) module() []byte {
	var name []byte
	for {
		s.blanks(false)
		if s.accept('.') {
			name = append(name, '.')
			continue
		}
		if n := len(name); n > 0 && name[n-1] != '.' || s.isKeyword("import") {
			return name
		}
		part := s.identifier()
		if len(part) == 0 {
			return name
		}
		name = append(name, part...)
	}
}

// as reads: as name
func (s *scanner) as(inside bool) {
	s.blanks(inside)
	if s.keyword("as") {
		s.blanks(inside)
		s.identifier()
		s.blanks(inside)
	}
}

func (s *scanner) add(prefix, name []byte) {
	if len(prefix)+len(name) <= maxName && len(s.names) < maxNames {
		s.names = append(s.names, string(prefix)+string(name))
	}
}

// skipLine reads the rest of a line: with a string that it opens, to where that
// is closed.
func (s *scanner) skipLine() {
	for s.pos < len(s.source) {
		switch c := s.source[s.pos]; classes[c] {
		case newline:
			s.pos++ // CR LF: one more line, and empty
			return
		case hash:
			s.comment()
		case quote:
			s.str(c)
		case backslash:
			s.pos++
			s.lineEnd()
		default:
			s.pos++
		}
	}
}

// comment reads up to the end of the line.
func (s *scanner) comment() {
	n := bytes.IndexAny(s.source[s.pos:], "\r\n")
	if n < 0 {
		n = len(s.source) - s.pos
	}
	s.pos += n
}

// str reads a string with its quotes. A backslash keeps the quote behind it from
// closing the string in raw strings, too.
func (s *scanner) str(q byte) {
	long := bytes.HasPrefix(s.source[s.pos:], []byte{q, q, q})
	if long {
		s.pos += 2
	}
	s.pos++
	for s.pos < len(s.source) {
		c := s.source[s.pos]
		switch {
		case c == '\\':
			s.pos++
			if !s.lineEnd() {
				s.pos++
			}
		case c == q && !long:
			s.pos++
			return
		case c == q && bytes.HasPrefix(s.source[s.pos:], []byte{q, q, q}):
			s.pos += 3
			return
		case classes[c] == newline && !long:
			return // it isn't closed: no Python
		default:
			s.pos++
		}
	}
	s.pos = len(s.source)
}

// accept reads the byte, if it is the next one.
func (s *scanner) accept(c byte) bool {
	if s.pos < len(s.source) && s.source[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// isKeyword reports whether a word is the next one.
func (s *scanner) isKeyword(word string) bool {
	rest := s.source[s.pos:]
	return len(rest) >= len(word) && string(rest[:len(word)]) == word &&
		(len(rest) == len(word) || classes[rest[len(word)]] != letter)
}

// keyword reads a word, if it is the next one.
func (s *scanner) keyword(word string) bool {
	if !s.isKeyword(word) {
		return false
	}
	s.pos += len(word)
	return true
}

// identifier reads one; it is empty if there is none.
func (s *scanner) identifier() []byte {
	begin := s.pos
	for s.pos < len(s.source) && classes[s.source[s.pos]] == letter {
		s.pos++
	}
	return s.source[begin:s.pos]
}

// blanks reads what separates words: spaces, lines joined by a backslash, and
// inside of parentheses comments and line ends.
func (s *scanner) blanks(inside bool) {
	for s.pos < len(s.source) {
		switch c := s.source[s.pos]; {
		case c == ' ' || c == '\t' || c == '\f':
			s.pos++
		case c == '\\':
			s.pos++
			if !s.lineEnd() {
				return
			}
		case inside && c == '#':
			s.comment()
		case inside && s.lineEnd():
		default:
			return
		}
	}
}

// lineEnd reads the end of a line, if it is next: LF, CR LF or CR.
func (s *scanner) lineEnd() bool {
	cr := s.accept('\r')
	lf := s.accept('\n')
	return cr || lf
}

// A class says what a byte begins.
type class byte

const (
	other class = iota
	letter
	newline
	quote
	hash
	backslash
)

var classes = func() (t [256]class) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c >= utf8.RuneSelf:
			t[c] = letter
		}
	}
	t['\n'], t['\r'] = newline, newline
	t['"'], t['\''] = quote, quote
	t['#'], t['\\'] = hash, backslash
	return t
}()
