package pyver

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A parser reads the parts of a version from the front of rest. Once err is set
// the parts it returns mean nothing.
type parser struct {
	rest string
	err  error
}

// public reads everything but the local label: v1!2.3a4.post5.dev6.
func (p *parser) public() Version {
	v := p.base()
	v.pre, v.preN = p.prerelease()
	v.post = p.postrelease()
	v.dev = p.labelled("dev")
	return v
}

// base reads the epoch and the release.
func (p *parser) base() Version {
	var v Version
	if p.rest != "" && (p.rest[0] == 'v' || p.rest[0] == 'V') {
		p.rest = p.rest[1:]
	}
	if n := digits(p.rest); n > 0 && n < len(p.rest) && p.rest[n] == '!' {
		v.epoch = p.number()
		p.rest = p.rest[1:]
	}
	if digits(p.rest) == 0 {
		p.fail(errors.New("no release number"))
		return v
	}
	// Four numbers hold nearly every release there is in one allocation.
	v.release = append(make([]int, 0, 4), p.number())
	for len(p.rest) > 1 && p.rest[0] == '.' && digits(p.rest[1:2]) == 1 {
		p.rest = p.rest[1:]
		v.release = append(v.release, p.number())
	}
	return v
}

// phases are the spellings of pre-release segments. A longer one comes before
// its own prefix.
var phases = [...]struct {
	name  string
	phase phase
}{
	{"alpha", alpha}, {"a", alpha},
	{"beta", beta}, {"b", beta},
	{"preview", candidate}, {"pre", candidate}, {"rc", candidate}, {"c", candidate},
}

func (p *parser) prerelease() (phase, int) {
	for _, ph := range phases {
		if n := p.labelled(ph.name); n.set {
			return ph.phase, n.n
		}
	}
	return final, 0
}

func (p *parser) postrelease() number {
	if len(p.rest) > 1 && p.rest[0] == '-' && digits(p.rest[1:2]) == 1 {
		p.rest = p.rest[1:]
		return number{p.number(), true}
	}
	for _, name := range [...]string{"post", "rev", "r"} {
		if n := p.labelled(name); n.set {
			return n
		}
	}
	return number{}
}

// labelled reads [-_.]? name [-_.]? digits*, an absent number being 0.
func (p *parser) labelled(name string) number {
	s := p.rest
	if s != "" && isSeparator(s[0]) {
		s = s[1:]
	}
	if len(s) < len(name) || !strings.EqualFold(s[:len(name)], name) {
		return number{}
	}
	s = s[len(name):]
	if s != "" && isSeparator(s[0]) {
		s = s[1:]
	}
	p.rest = s
	if digits(s) == 0 {
		return number{set: true}
	}
	return number{p.number(), true}
}

// local reads "+label", normalized, or nothing.
func (p *parser) local() string {
	if p.rest == "" || p.rest[0] != '+' {
		return ""
	}
	s := p.rest[1:]
	var b strings.Builder
	for {
		n := 0
		for n < len(s) && isAlphanumeric(s[n]) {
			n++
		}
		if n == 0 {
			p.fail(fmt.Errorf("local label %q is not letters and digits between dots", p.rest))
			return ""
		}
		b.WriteString(normalSegment(s[:n]))
		s = s[n:]
		if len(s) < 2 || !isSeparator(s[0]) || !isAlphanumeric(s[1]) {
			p.rest = s
			return b.String()
		}
		s = s[1:]
		b.WriteByte('.')
	}
}

func normalSegment(s string) string {
	if !isNumber(s) {
		return strings.ToLower(s)
	}
	if t := strings.TrimLeft(s, "0"); t != "" {
		return t
	}
	return "0"
}

// number reads the digits at the front of rest.
func (p *parser) number() int {
	n := digits(p.rest)
	v, err := strconv.Atoi(p.rest[:n])
	if err != nil {
		p.fail(fmt.Errorf("a number of %d digits is too large", n))
	}
	p.rest = p.rest[n:]
	return v
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func isSeparator(c byte) bool { return c == '.' || c == '-' || c == '_' }

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
