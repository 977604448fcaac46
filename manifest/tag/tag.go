// Package tag is wheel compatibility: the tags in a wheel's file name, the
// ordered set of tags that an interpreter takes, and the file names themselves
// (PEP 425, 600, 656 and 803; packaging.python.org "Binary distribution format").
//
// Sets come out in the order of the packaging library 26.3, best first, native
// linux tags before manylinux. The package asks no interpreter anything: what
// one says of itself is passed in.
package tag

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// A Tag says what a wheel needs, or what an interpreter takes.
type Tag struct{ Python, ABI, Platform string }

// String returns the tag as it stands in a file name: cp312-abi3-linux_x86_64.
func (t Tag) String() string { return t.Python + "-" + t.ABI + "-" + t.Platform }

// maxTags bounds what one compressed set may stand for. Real ones stand for
// fewer than 30; a file name of 255 bytes could stand for 50,000.
const maxTags = 1024

// Parse reads a compressed tag set, such as py2.py3-none-any, and returns the
// tags that it stands for in the order in which they are written, in lower case.
func Parse(s string) ([]Tag, error) {
	parts, err := components(s)
	if err != nil {
		return nil, fmt.Errorf("tag %q: %w", s, err)
	}
	var tags []Tag
	for _, python := range parts[0] {
		for _, abi := range parts[1] {
			for _, platform := range parts[2] {
				tags = append(tags, Tag{python, abi, platform})
			}
		}
	}
	return tags, nil
}

// Sorted reports whether each part of a compressed tag set is in sorted order,
// as PEP 425 asks and many wheels are not.
func Sorted(s string) (bool, error) {
	parts, err := components(s)
	if err != nil {
		return false, fmt.Errorf("tag %q: %w", s, err)
	}
	for _, names := range parts {
		if !slices.IsSorted(names) {
			return false, nil
		}
	}
	return true, nil
}

// components splits a compressed tag set into its pythons, ABIs and platforms.
func components(s string) ([3][]string, error) {
	var parts [3][]string
	if n := strings.Count(s, "-"); n != 2 {
		return parts, fmt.Errorf("%d parts between dashes, want python-abi-platform", n+1)
	}
	count := 1
	for i, part := range strings.Split(strings.ToLower(s), "-") {
		parts[i] = strings.Split(part, ".")
		if slices.Contains(parts[i], "") {
			return parts, fmt.Errorf("%q has an empty name", part)
		}
		count *= len(parts[i])
	}
	if count > maxTags {
		return parts, fmt.Errorf("it stands for %d tags, more than %d", count, maxTags)
	}
	for _, python := range parts[0] {
		if !isIdentifier(python) {
			return parts, fmt.Errorf("python %q is not a name such as py3 or cp312", python)
		}
	}
	return parts, nil
}

func isIdentifier(s string) bool {
	for i, r := range s {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsNumber(r)) {
			return false
		}
	}
	return s != ""
}

// A Set is the tags that an interpreter takes, best first.
type Set struct {
	tags []Tag
	rank map[Tag]int
}

// NewSet returns the set of those tags. Of a tag that stands twice the first
// place counts.
func NewSet(tags []Tag) Set {
	s := Set{tags: tags, rank: make(map[Tag]int, len(tags))}
	for i, t := range tags {
		if _, ok := s.rank[t]; !ok {
			s.rank[t] = i
		}
	}
	return s
}

// Tags returns the tags, best first. The caller must not change them.
func (s Set) Tags() []Tag { return s.tags }

// Rank returns the place of a tag in the set; 0 is the best.
func (s Set) Rank(t Tag) (int, bool) {
	r, ok := s.rank[t]
	return r, ok
}

// Best returns the place of the best of a wheel's tags, and whether the set has
// any of them.
func (s Set) Best(tags []Tag) (int, bool) {
	best, found := len(s.tags), false
	for _, t := range tags {
		if r, ok := s.rank[t]; ok && r < best {
			best, found = r, true
		}
	}
	return best, found
}
