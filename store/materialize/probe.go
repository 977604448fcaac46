package materialize

import "fmt"

// A Finding is what the pair of a store's file system and a target's can do.
type Finding struct{}

// Probe finds out what can be done between the store and the directory target,
// which is there.
func Probe(store, target string) (*Finding, error) { return &Finding{}, nil }

// Choose returns the mode to use where want was asked for, and why: a sentence.
func (f *Finding) Choose(want Mode) (Mode, string, error) {
	if want != Auto && want != Copy {
		return 0, "", fmt.Errorf("link mode %v: this sitefs has no such mode yet: use copy", want)
	}
	return Copy, "copy", nil
}
