package marker

import (
	"fmt"
	"strings"

	"github.com/sitefs/sitefs/manifest/pyver"
)

// maxDepth bounds the parentheses that a marker may nest: real ones nest three
// deep, and a hostile one must not exhaust the stack.
const maxDepth = 64

// Parse reads a marker expression.
func Parse(s string) (*Marker, error) {
	p := parser{rest: s}
	m, err := p.marker()
	if err == nil && p.rest != "" {
		err = fmt.Errorf("unexpected %q, want and, or, or the end", p.rest)
	}
	if err != nil {
		return nil, fmt.Errorf("marker %q: %w", s, err)
	}
	return m, nil
}

// A parser reads a marker or a requirement from the front of rest.
type parser struct {
	rest  string
	depth int
}

func (p *parser) marker() (*Marker, error) {
	root, err := p.expression()
	if err != nil {
		return nil, err
	}
	return &Marker{root}, nil
}

// expression = atom ((and | or) atom)*
func (p *parser) expression() (node, error) {
	g := group{nil}
	for {
		n, err := p.atom()
		if err != nil {
			return nil, err
		}
		last := len(g) - 1
		g[last] = append(g[last], n)
		switch p.peekWord() {
		case "and":
			p.rest = p.rest[len("and"):]
		case "or":
			p.rest = p.rest[len("or"):]
			g = append(g, nil)
		default:
			if len(g) == 1 && len(g[0]) == 1 {
				return g[0][0], nil
			}
			return g, nil
		}
	}
}

// atom = "(" expression ")" | operand operator operand
func (p *parser) atom() (node, error) {
	p.space()
	if !p.take("(") {
		return p.comparison()
	}
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("more than %d nested parentheses", maxDepth)
	}
	n, err := p.expression()
	if err != nil {
		return nil, err
	}
	if !p.take(")") {
		return nil, fmt.Errorf("found %q, want the closing parenthesis", p.rest)
	}
	p.depth--
	p.space()
	return n, nil
}

func (p *parser) comparison() (node, error) {
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	op, err := p.operator()
	if err != nil {
		return nil, err
	}
	right, err := p.operand()
	if err != nil {
		return nil, err
	}
	// Names compare in their normalized form (PEP 685, PEP 735).
	if left.variable == extra {
		right.normalize()
	}
	if right.variable == extra || right.variable.isSet() {
		left.normalize()
	}
	return comparison{left, op, right}, nil
}

func (o *operand) normalize() { o.text = pyver.CanonicalName(o.text) }

func (p *parser) operand() (operand, error) {
	defer p.space()
	if p.rest != "" && (p.rest[0] == '"' || p.rest[0] == '\'') {
		text, err := p.quoted()
		return operand{text: text}, err
	}
	word := p.peekWord()
	v, ok := lookupVariable(word)
	if !ok {
		return operand{}, fmt.Errorf("found %q, want a marker variable such as python_version, or a quoted text", p.rest)
	}
	p.rest = p.rest[len(word):]
	return operand{variable: v}, nil
}

// operators are in the order in which they are tried: a longer one comes before
// its own prefix.
var operators = [...]string{"===", "==", "~=", "!=", "<=", ">=", "<", ">"}

func (p *parser) operator() (string, error) {
	defer p.space()
	for _, op := range operators {
		if p.take(op) {
			return op, nil
		}
	}
	found := p.rest
	switch p.peekWord() {
	case "in":
		p.take("in")
		return "in", nil
	case "not":
		p.take("not")
		p.space()
		if p.peekWord() == "in" {
			p.take("in")
			return "not in", nil
		}
	}
	return "", fmt.Errorf("found %q, want one of <= < != == >= > ~= ===, in, not in", found)
}

// peekWord returns the letters, digits, underscores and dots that rest begins with.
func (p *parser) peekWord() string {
	n := 0
	for n < len(p.rest) && (isWord(p.rest[n]) || p.rest[n] == '.') {
		n++
	}
	return p.rest[:n]
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *parser) take(prefix string) bool {
	rest, ok := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return ok
}
