// Package pyver is how Python packages are named and ordered: versions and
// version specifiers (packaging.python.org "Version specifiers", PEP 440) and
// normalized project names (PEP 503).
//
// The rules are those of the packaging library, release 26.3, and its test
// vectors hold them here. Parsing is by hand: no regular expression is compiled
// when a process starts. The package knows nothing of indexes, wheels or
// interpreters, and it chooses nothing: it answers questions about values.
package pyver

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Version is one PEP 440 version. Two spellings of the same version ("1.0",
// "1.0.0", "v1") differ in String and are equal by [Version.Compare].
// The zero Version is no version; it sorts before every other.
type Version struct {
	epoch   int
	release []int
	pre     phase
	preN    int
	post    number
	dev     number
	local   string // normalized: lower case, dots, numbers without leading zeros
}

// A number is a part of a version that may be absent.
type number struct {
	n   int
	set bool
}

// A phase is where a version stands before its final release.
type phase uint8

const (
	final phase = iota // no pre-release segment
	alpha
	beta
	candidate
)

func (p phase) String() string { return [...]string{"", "a", "b", "rc"}[p] }

// Parse reads a version in any spelling that PEP 440 accepts, white space around
// it included. A number beyond an int is an error.
func Parse(s string) (Version, error) {
	p := parser{rest: strings.TrimSpace(s)}
	v := p.public()
	if p.err == nil {
		v.local = p.local()
	}
	switch {
	case p.err != nil:
		return Version{}, fmt.Errorf("version %q: %w", s, p.err)
	case p.rest != "":
		return Version{}, fmt.Errorf("version %q: unexpected %q", s, p.rest)
	}
	return v, nil
}

// String returns the normalized spelling, with the release as it was written:
// "v1.0-ALPHA_2" is "1.0a2".
func (v Version) String() string {
	return v.format(v.release)
}

// Canonical returns a spelling that equal versions share: String without the
// trailing zeros of the release. It serves as a map key.
func (v Version) Canonical() string {
	r := trim(v.release)
	if len(r) == 0 && len(v.release) > 0 {
		r = v.release[:1]
	}
	return v.format(r)
}

func (v Version) format(release []int) string {
	b := make([]byte, 0, 24)
	if v.epoch != 0 {
		b = strconv.AppendInt(b, int64(v.epoch), 10)
		b = append(b, '!')
	}
	for i, n := range release {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	if v.pre != final {
		b = append(b, v.pre.String()...)
		b = strconv.AppendInt(b, int64(v.preN), 10)
	}
	if v.post.set {
		b = append(b, ".post"...)
		b = strconv.AppendInt(b, int64(v.post.n), 10)
	}
	if v.dev.set {
		b = append(b, ".dev"...)
		b = strconv.AppendInt(b, int64(v.dev.n), 10)
	}
	if v.local != "" {
		b = append(b, '+')
		b = append(b, v.local...)
	}
	return string(b)
}

// Epoch returns the number before the "!", 0 where there is none.
func (v Version) Epoch() int { return v.epoch }

// Release returns the numbers of the release segment, trailing zeros included.
func (v Version) Release() []int { return slices.Clone(v.release) }

// Pre returns the pre-release segment: "a", "b" or "rc" and its number.
func (v Version) Pre() (phase string, n int, ok bool) {
	return v.pre.String(), v.preN, v.pre != final
}

// Post returns the number of the post-release segment.
func (v Version) Post() (n int, ok bool) { return v.post.n, v.post.set }

// Dev returns the number of the development segment.
func (v Version) Dev() (n int, ok bool) { return v.dev.n, v.dev.set }

// Local returns the normalized local label, "" where there is none.
func (v Version) Local() string { return v.local }

// Public returns the version without its local label.
func (v Version) Public() Version { v.local = ""; return v }

// Base returns the epoch and release alone.
func (v Version) Base() Version { return Version{epoch: v.epoch, release: v.release} }

// IsPrerelease reports whether v is a pre-release or a development release.
func (v Version) IsPrerelease() bool { return v.pre != final || v.dev.set }

// IsZero reports whether v is no version at all.
func (v Version) IsZero() bool { return v.release == nil }

// Compare orders versions as PEP 440 does: -1, 0 or +1.
func (v Version) Compare(o Version) int {
	if c := v.comparePublic(o); c != 0 {
		return c
	}
	return compareLocal(v.local, o.local)
}

func (v Version) comparePublic(o Version) int {
	if v.release == nil || o.release == nil {
		return cmp.Compare(len(v.release), len(o.release))
	}
	if c := cmp.Compare(v.epoch, o.epoch); c != 0 {
		return c
	}
	if c := slices.Compare(trim(v.release), trim(o.release)); c != 0 {
		return c
	}
	x, y := v.suffix(), o.suffix()
	return slices.Compare(x[:], y[:])
}

// suffix returns what follows the release as numbers that sort: a version with
// only a development segment comes before any alpha, one without a pre-release
// segment after any candidate; a post release after its base; a development
// release before what it leads to.
func (v Version) suffix() [6]int {
	k := [6]int{4, 0, -1, 0, 1, 0}
	switch {
	case v.pre != final:
		k[0], k[1] = int(v.pre), v.preN
	case v.dev.set && !v.post.set:
		k[0] = 0
	}
	if v.post.set {
		k[2], k[3] = 0, v.post.n
	}
	if v.dev.set {
		k[4], k[5] = 0, v.dev.n
	}
	return k
}

// compareLocal orders local labels segment by segment: none before any, words
// before numbers, words by their letters, numbers by their value.
func compareLocal(a, b string) int {
	if a == b {
		return 0
	}
	for a != "" && b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if c := compareLocalSegment(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func compareLocalSegment(x, y string) int {
	nx, ny := isNumber(x), isNumber(y)
	switch {
	case nx && ny:
		// No leading zeros here, so the longer number is the larger.
		return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
	case nx:
		return 1
	case ny:
		return -1
	}
	return strings.Compare(x, y)
}

func isNumber(s string) bool { return len(s) == digits(s) }

// digits returns how many ASCII digits s begins with.
func digits(s string) int {
	i := 0
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	return i
}

// trim returns a release without its trailing zeros.
func trim(release []int) []int {
	n := len(release)
	for n > 0 && release[n-1] == 0 {
		n--
	}
	return release[:n]
}
