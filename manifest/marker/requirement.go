package marker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/pyver"
)

// A Requirement is one dependency specifier, such as
// `requests[socks]>=2.8; python_version < "3.13"`.
type Requirement struct {
	Name       string   // as written; compare CanonicalName
	Extras     []string // as written, sorted, each once
	Specifiers pyver.SpecifierSet
	URL        string  // of a direct reference, else ""
	Marker     *Marker // nil where there is none
}

// ParseRequirement reads a dependency specifier.
func ParseRequirement(s string) (Requirement, error) {
	p := parser{rest: s}
	r, err := p.requirement()
	if err != nil {
		return Requirement{}, fmt.Errorf("requirement %q: %w", s, err)
	}
	return r, nil
}

// CanonicalName returns the normalized name of the project.
func (r Requirement) CanonicalName() string { return pyver.CanonicalName(r.Name) }

// String returns the normalized spelling; the name and the extras stay as written.
func (r Requirement) String() string {
	var b strings.Builder
	b.WriteString(r.Name)
	if len(r.Extras) > 0 {
		b.WriteString("[" + strings.Join(r.Extras, ",") + "]")
	}
	b.WriteString(r.Specifiers.String())
	if r.URL != "" {
		b.WriteString(" @ " + r.URL)
	}
	if r.Marker != nil {
		if r.URL != "" {
			b.WriteString(" ")
		}
		b.WriteString("; " + r.Marker.String())
	}
	return b.String()
}

// requirement = name extras? (specifiers | "@" url) (";" marker)?
func (p *parser) requirement() (Requirement, error) {
	var r Requirement
	var err error
	p.space()
	if r.Name, err = p.name(); err != nil {
		return r, err
	}
	if r.Extras, err = p.extras(); err != nil {
		return r, err
	}
	if p.take("@") {
		p.space()
		r.URL, err = p.url()
	} else {
		r.Specifiers, err = p.specifiers()
	}
	if err != nil || p.rest == "" {
		return r, err
	}
	if !p.take(";") {
		return r, fmt.Errorf("unexpected %q, want a semicolon and a marker, or the end", p.rest)
	}
	if r.Marker, err = p.marker(); err != nil {
		return r, err
	}
	if p.rest != "" {
		return r, fmt.Errorf("unexpected %q after the marker", p.rest)
	}
	return r, nil
}

// name reads the name of a project or an extra, and the space after it.
func (p *parser) name() (string, error) {
	n := 0
	for n < len(p.rest) && (isWord(p.rest[n]) || p.rest[n] == '.' || p.rest[n] == '-') {
		n++
	}
	name := p.rest[:n]
	if !pyver.ValidName(name) {
		return "", fmt.Errorf("found %q, want a name of letters, digits, and dots, dashes or underscores between them", p.rest)
	}
	p.rest = p.rest[n:]
	p.space()
	return name, nil
}

// extras reads "[a, b]", or nothing.
func (p *parser) extras() ([]string, error) {
	if !p.take("[") {
		return nil, nil
	}
	p.space()
	var names []string
	for !p.take("]") {
		if len(names) > 0 {
			if !p.take(",") {
				return nil, fmt.Errorf("found %q, want a comma or the closing bracket of the extras", p.rest)
			}
			p.space()
		}
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	p.space()
	slices.Sort(names)
	return slices.Compact(names), nil
}

// url reads up to the next space: a semicolon without one before it is part of
// the URL.
func (p *parser) url() (string, error) {
	end := strings.IndexAny(p.rest, " \t")
	if end < 0 {
		end = len(p.rest)
	}
	if end == 0 {
		return "", fmt.Errorf("no URL after the @")
	}
	url := p.rest[:end]
	p.rest = p.rest[end:]
	p.space()
	return url, nil
}

// specifiers reads version clauses, which may stand in parentheses.
func (p *parser) specifiers() (pyver.SpecifierSet, error) {
	paren := p.take("(")
	p.space()
	end := strings.IndexAny(p.rest, ";)")
	if end < 0 {
		end = len(p.rest)
	}
	text := p.rest[:end]
	if strings.HasPrefix(text, ",") || strings.ContainsAny(text, "\r\n") {
		return pyver.SpecifierSet{}, fmt.Errorf("found %q, want a version specifier such as >=1.2", text)
	}
	set, err := pyver.ParseSpecifiers(text)
	if err != nil {
		return pyver.SpecifierSet{}, err
	}
	p.rest = p.rest[end:]
	if paren && !p.take(")") {
		return pyver.SpecifierSet{}, fmt.Errorf("found %q, want the closing parenthesis of the version specifiers", p.rest)
	}
	p.space()
	return set, nil
}
