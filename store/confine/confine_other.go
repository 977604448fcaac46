//go:build !linux

package confine

// Go runs f beside its caller. Nothing holds: this system's means are for whole
// programs.
func Go(_ Rules, f func(held []string)) { go f(nil) }

// Self returns nothing: what this system has isn't used.
func Self(Rules) (held []string, err error) { return nil, nil }

// Libraries returns nothing: there are no rules that they would be for.
func Libraries() []string { return nil }

// NeedsSearch reports false: nothing is taken from this process.
func NeedsSearch(string) bool { return false }
