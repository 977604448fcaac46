package tree

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
)

// A template is literal bytes with marks in between. A mark is a NUL and a
// letter; two NULs stand for one. The letters:
const (
	// MarkPrefix is the prefix as it is.
	MarkPrefix = "\x00P"

	// MarkShell, MarkFish and MarkCsh are the prefix as one word of sh, fish and csh.
	MarkShell = "\x00S"
	MarkFish  = "\x00F"
	MarkCsh   = "\x00C"

	// MarkScript is the head of a generated script: "#!{prefix}/bin/python", or
	// an sh trampoline, a Python string, where a shebang can't hold the path.
	MarkScript = "\x00I"

	// MarkSource is the head of a script that a wheel ships, one comment line
	// in every case: a string would become the docstring and move a coding
	// cookie off line 2.
	MarkSource = "\x00D"
)

// Quote returns content that a template renders as itself.
func Quote(content []byte) []byte {
	return bytes.ReplaceAll(content, []byte{0}, []byte{0, 0})
}

// marks is what the marks stand for at one prefix.
type marks struct {
	prefix string
	text   [256]string
	seed   uint32 // tells apart the Python files that one template renders to
}

func newMarks(prefix string, relocatable bool) marks {
	m := marks{prefix: prefix}
	m.text[0] = "\x00"
	m.text[MarkPrefix[1]] = prefix
	m.text[MarkShell[1]] = QuoteShell(prefix)
	m.text[MarkFish[1]] = QuoteFish(prefix)
	m.text[MarkCsh[1]] = QuoteCsh(prefix)
	m.text[MarkScript[1]] = scriptHead(prefix, relocatable)
	m.text[MarkSource[1]] = sourceHead(prefix, relocatable)
	m.seed = bitsOf(sha256.Sum256([]byte(m.text[MarkScript[1]] + m.text[MarkSource[1]] + prefix)))
	return m
}

// checkMarks reports a NUL that starts no mark.
func checkMarks(text []byte) error {
	const known = "\x00PSFCID"
	for {
		i := bytes.IndexByte(text, 0)
		if i < 0 {
			return nil
		}
		if i+1 == len(text) || strings.IndexByte(known, text[i+1]) < 0 {
			return fmt.Errorf("byte %d: a NUL that starts no mark", i)
		}
		text = text[i+2:]
	}
}

// next cuts text behind its first mark: the literal bytes before it and what
// the mark stands for.
func (m *marks) next(text []byte) (literal []byte, mark string, rest []byte) {
	i := bytes.IndexByte(text, 0)
	if i < 0 || i+1 == len(text) {
		return text, "", nil
	}
	return text[:i], m.text[text[i+1]], text[i+2:]
}

// size returns the length of what text renders to.
func (m *marks) size(text []byte) int64 {
	var n int64
	for len(text) > 0 {
		literal, mark, rest := m.next(text)
		n += int64(len(literal) + len(mark))
		text = rest
	}
	return n
}

// render returns text with its marks replaced.
func (m *marks) render(text []byte) []byte {
	out := make([]byte, 0, m.size(text))
	for len(text) > 0 {
		literal, mark, rest := m.next(text)
		out = append(append(out, literal...), mark...)
		text = rest
	}
	return out
}

// maxShebang is what every Linux kernel reads of a script's first line, its end
// included (BINPRM_BUF_SIZE was 128 until 5.1). pip keeps to it too.
const maxShebang = 127

// shebang returns the line that has the kernel run the venv's interpreter, and
// whether the kernel would: it ends the path at white space.
func shebang(prefix string) (string, bool) {
	line := "#!" + prefix + "/bin/python\n"
	return line, len(line) <= maxShebang && !strings.ContainsAny(prefix, " \t\r\n")
}

// scriptHead returns what [MarkScript] stands for.
//
// The trampoline is read twice: sh sees exec with the interpreter's path and
// nothing after it; Python sees one string.
func scriptHead(prefix string, relocatable bool) string {
	line, ok := shebang(prefix)
	switch {
	case relocatable:
		return trampoline(`"$(dirname -- "$(realpath -- "$0")")"/python`)
	case ok:
		return line
	}
	return trampoline(quoteBoth(prefix + "/bin/python"))
}

func trampoline(python string) string {
	return "#!/bin/sh\n'''exec' " + python + " \"$0\" \"$@\"\n' '''\n"
}

// sourceHead returns what [MarkSource] stands for. Where the kernel can't run
// the prefix's interpreter the script finds the one beside itself, which keeps
// the line short whatever the prefix.
func sourceHead(prefix string, relocatable bool) string {
	if line, ok := shebang(prefix); ok && !relocatable {
		return line
	}
	return `#!/usr/bin/env -S sh -c 'exec "$(dirname -- "$(realpath -- "$0")")"/python "$0" "$@"'` + "\n"
}

// plain are the bytes that sh takes as they are, as Python's shlex has it.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_"

func isPlain(s string) bool { return s != "" && strings.Trim(s, plain) == "" }

// quoteBoth returns path as one sh word that also may stand inside a
// ”'-string of Python: no three quotes in a row, and a backslash only before a
// quote, where Python reads the pair as a quote and sh ends its string. What
// pip's own form can hold is written as pip writes it.
func quoteBoth(path string) string {
	if isPlain(path) {
		return path
	}
	if !strings.ContainsAny(path, "\"$`\\") && !strings.Contains(path, "'''") {
		return `"` + path + `"`
	}
	var b strings.Builder
	for path != "" {
		if path[0] == '\'' {
			b.WriteString(`"'"`)
			path = path[1:]
			continue
		}
		end := strings.IndexAny(path, `'\`)
		switch {
		case end < 0:
			end = len(path)
		case path[end] == '\\':
			end++
		}
		b.WriteString("'" + path[:end] + "'")
		path = path[end:]
	}
	return b.String()
}

// QuoteShell returns s as shlex.quote does, which is what venv writes.
func QuoteShell(s string) string {
	if isPlain(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'"
}

// QuoteFish returns s as one word of fish, which has two escapes inside single quotes.
func QuoteFish(s string) string {
	if isPlain(s) {
		return s
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// QuoteCsh returns s as one word of csh, which replaces history and ends a line
// even inside single quotes.
func QuoteCsh(s string) string {
	if isPlain(s) {
		return s
	}
	return "'" + strings.NewReplacer(`'`, `'\''`, `!`, `\!`, "\n", "\\\n").Replace(s) + "'"
}
