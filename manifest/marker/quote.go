package marker

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// quoted reads a text between quotes. A backslash means what it means in a
// Python literal, because packaging reads these texts with ast.literal_eval;
// it never protects the closing quote, because its tokenizer comes first.
func (p *parser) quoted() (string, error) {
	end := strings.IndexByte(p.rest[1:], p.rest[0])
	if end < 0 {
		return "", fmt.Errorf("%q has no closing quote", p.rest)
	}
	text := p.rest[1 : 1+end]
	p.rest = p.rest[end+2:]
	if !strings.ContainsAny(text, "\\\n\r\x00") {
		return text, nil
	}
	s, err := unescape(text)
	if err != nil {
		return "", fmt.Errorf("quoted text %q: %w", text, err)
	}
	return s, nil
}

// unescape replaces the escape sequences of a Python string literal. Those it
// does not know stay as they are, as in Python.
func unescape(s string) (string, error) {
	if strings.ContainsAny(s, "\n\r\x00") {
		return "", fmt.Errorf("a line break or a NUL in it")
	}
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		n, err := writeEscape(&b, s[i+1:])
		if err != nil {
			return "", err
		}
		s = s[i+1+n:]
	}
	return b.String(), nil
}

// writeEscape writes what the sequence after a backslash stands for and returns
// the sequence's length.
func writeEscape(b *strings.Builder, s string) (int, error) {
	if s == "" {
		return 0, fmt.Errorf("a backslash before the closing quote")
	}
	const plain, meaning = `\'"abfnrtv`, "\\'\"\a\b\f\n\r\t\v"
	if i := strings.IndexByte(plain, s[0]); i >= 0 {
		b.WriteByte(meaning[i])
		return 1, nil
	}
	digits, base := 0, 16
	switch s[0] {
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	case 'N':
		return 0, fmt.Errorf(`\N{…} is not supported, write the character`)
	case '0', '1', '2', '3', '4', '5', '6', '7':
		n := 1
		for n < 3 && n < len(s) && '0' <= s[n] && s[n] <= '7' {
			n++
		}
		return n, writeRune(b, s[:n], 8)
	default:
		b.WriteByte('\\')
		return 0, nil
	}
	if len(s) < 1+digits {
		return 0, fmt.Errorf(`\%c needs %d hexadecimal digits`, s[0], digits)
	}
	return 1 + digits, writeRune(b, s[1:1+digits], base)
}

func writeRune(b *strings.Builder, digits string, base int) error {
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || n > utf8.MaxRune || !utf8.ValidRune(rune(n)) {
		return fmt.Errorf("%q is not the number of a character", digits)
	}
	b.WriteRune(rune(n))
	return nil
}

// quote writes a text so that quoted reads it back. Nearly every text needs
// nothing but the quotes, and then this is packaging's own spelling.
func quote(s string) string {
	mark := `"`
	if strings.Contains(s, `"`) && !strings.Contains(s, `'`) {
		mark = `'`
	}
	escaped := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\x00", `\x00`).Replace(s)
	if mark == `"` {
		escaped = strings.ReplaceAll(escaped, `"`, `\x22`)
	}
	return mark + escaped + mark
}
