package pyver

import (
	"fmt"
	"slices"
	"strings"
)

// An operator is how a specifier compares.
type operator string

const (
	compatible     operator = "~="
	equal          operator = "=="
	notEqual       operator = "!="
	atMost         operator = "<="
	atLeast        operator = ">="
	below          operator = "<"
	above          operator = ">"
	arbitraryEqual operator = "==="
)

// operators are in the order in which they are tried: a longer one comes before
// its own prefix.
var operators = [...]operator{arbitraryEqual, compatible, equal, notEqual, atMost, atLeast, below, above}

// A Specifier is one clause, such as ">=1.2" or "==1.4.*".
type Specifier struct {
	op       operator
	text     string  // the version as it was written
	version  Version // zero for ===; without the ".*" of a wildcard
	wildcard bool
}

// ParseSpecifier reads one clause.
func ParseSpecifier(s string) (Specifier, error) {
	t := strings.TrimSpace(s)
	for _, op := range operators {
		text, ok := strings.CutPrefix(t, string(op))
		if !ok {
			continue
		}
		spec := Specifier{op: op, text: strings.TrimSpace(text)}
		if err := spec.parseVersion(); err != nil {
			return Specifier{}, fmt.Errorf("version specifier %q: %w", s, err)
		}
		return spec, nil
	}
	return Specifier{}, fmt.Errorf("version specifier %q does not begin with one of ~= == != <= >= < > ===", s)
}

// parseVersion reads s.text as s.op demands it.
func (s *Specifier) parseVersion() error {
	if s.op == arbitraryEqual {
		if strings.ContainsAny(s.text, " \t\r\n\v\f;)") {
			return fmt.Errorf("%q holds a space, a semicolon or a parenthesis", s.text)
		}
		return nil
	}
	p := parser{rest: s.text}
	s.version = p.base()
	exact := s.op == equal || s.op == notEqual
	if exact && p.rest == ".*" {
		s.wildcard = true
		return p.err
	}
	p.rest = s.text
	s.version = p.public()
	if exact && p.err == nil {
		s.version.local = p.local()
	}
	switch {
	case p.err != nil:
		return p.err
	case exact && strings.HasSuffix(s.text, ".*"):
		return fmt.Errorf("%q may follow a release only, not a pre-release, post-release, development or local part", ".*")
	case p.rest == ".*", strings.HasPrefix(p.rest, "+"):
		return fmt.Errorf("%q is allowed with == and != only", p.rest)
	case p.rest != "":
		return fmt.Errorf("unexpected %q", p.rest)
	case s.op == compatible && len(s.version.release) < 2:
		return fmt.Errorf("~= needs at least two release numbers, as in ~=%s.0", s.text)
	}
	return nil
}

// Operator returns the comparison, such as ">=".
func (s Specifier) Operator() string { return string(s.op) }

// Version returns what the operator compares with, as it was written.
func (s Specifier) Version() string { return s.text }

// String returns the clause without white space.
func (s Specifier) String() string { return string(s.op) + s.text }

// Contains reports whether v satisfies the clause.
func (s Specifier) Contains(v Version, p Prereleases) bool {
	if p == Forbid && v.IsPrerelease() {
		return false
	}
	switch s.op {
	case equal:
		return s.equals(v)
	case notEqual:
		return !s.equals(v)
	case atLeast:
		return v.Compare(s.version) >= 0
	case atMost:
		return v.comparePublic(s.version) <= 0
	case below:
		return v.Compare(s.floor()) < 0
	case above:
		return s.exceeds(v)
	case compatible:
		return v.Compare(s.version) >= 0 && inSeries(v, s.series())
	case arbitraryEqual:
		return strings.EqualFold(v.String(), s.text)
	}
	return false
}

// ContainsString is [Specifier.Contains] for text that need not be a version:
// === compares it as it stands, every other operator is false of what is none.
func (s Specifier) ContainsString(text string, p Prereleases) bool {
	v, err := Parse(text)
	if s.op != arbitraryEqual {
		return err == nil && s.Contains(v, p)
	}
	return strings.EqualFold(text, s.text) && (err != nil || p != Forbid || !v.IsPrerelease())
}

// equals implements ==. A clause without a local label matches every local build.
func (s Specifier) equals(v Version) bool {
	switch {
	case s.wildcard:
		return inSeries(v, s.version)
	case s.version.local == "":
		return v.comparePublic(s.version) == 0
	}
	return v.Compare(s.version) == 0
}

// floor is the first version that < leaves out: pre-releases of the version
// are not below it, unless it is one itself.
func (s Specifier) floor() Version {
	f := s.version
	if !f.IsPrerelease() {
		f.dev = number{0, true}
	}
	return f
}

// exceeds implements >. Post-releases and local builds of the version are not
// above it, unless it is a post-release itself.
func (s Specifier) exceeds(v Version) bool {
	next := s.version
	switch {
	case next.dev.set:
		next.dev.n++
		return v.Compare(next) >= 0
	case next.post.set:
		next.post.n++
		next.dev = number{0, true}
		return v.Compare(next) >= 0
	}
	family := v
	family.post, family.dev, family.local = number{}, number{}, ""
	return v.Compare(s.version) > 0 && family.Compare(s.version) != 0
}

// series is what ~= holds to: the release without its last number.
func (s Specifier) series() Version {
	last := len(s.version.release) - 1
	return Version{epoch: s.version.epoch, release: s.version.release[:last]}
}

// inSeries reports whether v is of the series that base begins: 1.2.dev0 and
// 1.2.9 are of 1.2, 1.3.dev0 is not.
func inSeries(v, base Version) bool {
	if v.epoch != base.epoch {
		return false
	}
	for i, n := range base.release {
		if i < len(v.release) && v.release[i] != n || i >= len(v.release) && n != 0 {
			return false
		}
	}
	return true
}

// A SpecifierSet is clauses that must all hold, such as ">=3.8,<4". The zero set
// has none and contains every version.
type SpecifierSet struct{ specs []Specifier }

// ParseSpecifiers reads clauses between commas. Empty ones are ignored.
func ParseSpecifiers(s string) (SpecifierSet, error) {
	var set SpecifierSet
	for clause := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(clause) == "" {
			continue
		}
		spec, err := ParseSpecifier(clause)
		if err != nil {
			return SpecifierSet{}, err
		}
		set.specs = append(set.specs, spec)
	}
	return set, nil
}

// String returns the clauses in sorted order with commas between. Of clauses
// that say the same, such as "==1.0" and "==1.0.0", the first stays.
func (s SpecifierSet) String() string {
	specs := slices.Clone(s.specs)
	slices.SortFunc(specs, func(a, b Specifier) int { return strings.Compare(a.String(), b.String()) })
	var b strings.Builder
	seen := make(map[string]bool, len(specs))
	for _, spec := range specs {
		if seen[spec.canonical()] {
			continue
		}
		seen[spec.canonical()] = true
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(spec.String())
	}
	return b.String()
}

// canonical returns a text that clauses of one meaning share. The zeros at the
// end of ~= and of a wildcard have a meaning.
func (s Specifier) canonical() string {
	switch {
	case s.op == arbitraryEqual, s.wildcard:
		return s.String()
	case s.op == compatible:
		return string(s.op) + s.version.String()
	}
	return string(s.op) + s.version.Canonical()
}

// IsZero reports whether the set has no clause.
func (s SpecifierSet) IsZero() bool { return len(s.specs) == 0 }

// Specifiers returns the clauses in the order in which they were written.
func (s SpecifierSet) Specifiers() []Specifier { return slices.Clone(s.specs) }

// Contains reports whether v satisfies every clause.
func (s SpecifierSet) Contains(v Version, p Prereleases) bool {
	for _, spec := range s.specs {
		if !spec.Contains(v, p) {
			return false
		}
	}
	return p != Forbid || !v.IsPrerelease()
}

// ContainsString is [SpecifierSet.Contains] for text that need not be a version,
// which === compares as it stands.
func (s SpecifierSet) ContainsString(text string, p Prereleases) bool {
	for _, spec := range s.specs {
		if !spec.ContainsString(text, p) {
			return false
		}
	}
	v, err := Parse(text)
	return err != nil || p != Forbid || !v.IsPrerelease()
}

// Prereleases says whether a pre-release may satisfy a specifier.
type Prereleases uint8

const (
	// Auto is PEP 440's default: a pre-release counts where nothing else
	// satisfies, or where a clause names one. A version asked for alone has no
	// rival, so it counts.
	Auto Prereleases = iota
	// Allow counts every pre-release.
	Allow
	// Forbid counts none.
	Forbid
)

// Filter returns those items, in their order, whose version satisfies the set,
// applying p to all of them together. The text that version returns need not be
// a version.
func Filter[T any](s SpecifierSet, p Prereleases, items []T, version func(T) string) []T {
	if p == Auto && s.namesPrerelease() {
		p = Allow
	}
	var kept, finals []T
	found := false
	for _, item := range items {
		text := version(item)
		if !s.ContainsString(text, p) {
			continue
		}
		kept = append(kept, item)
		v, err := Parse(text)
		if err == nil && v.IsPrerelease() {
			continue
		}
		found = found || err == nil
		finals = append(finals, item)
	}
	if p == Auto && found {
		return finals
	}
	return kept
}

// namesPrerelease reports whether a clause names a pre-release other than to
// exclude it.
func (s SpecifierSet) namesPrerelease() bool {
	return slices.ContainsFunc(s.specs, func(spec Specifier) bool {
		v := spec.version
		if spec.op == arbitraryEqual {
			parsed, err := Parse(spec.text)
			if err != nil {
				return false
			}
			v = parsed
		}
		return spec.op != notEqual && v.IsPrerelease()
	})
}
