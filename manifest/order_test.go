package manifest

import (
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/marker"
)

func TestRank(t *testing.T) {
	tests := []struct {
		name     string
		requires map[string]string // name -> requirements, separated by "|"
		want     string            // winner first
	}{
		{"no requirements", map[string]string{"b": "", "a": "", "c": ""}, "a b c"},
		{"a chain", map[string]string{"a": "", "b": "a", "c": "b"}, "c b a"},
		{"a diamond", map[string]string{"top": "l|r", "l": "base", "r": "base", "base": ""}, "top l r base"},
		{"the longest way counts", map[string]string{"top": "base|mid", "mid": "base", "base": "", "x": "base"}, "top mid x base"},
		{"a circle is one place", map[string]string{"z": "a", "a": "z|base", "base": "", "m": ""}, "a z base m"},
		{"above a circle", map[string]string{"z": "a", "a": "z", "zz": "z"}, "zz a z"},
		{"names are canonical", map[string]string{"my-pkg": "", "a": "", "z": "My.Pkg>=1"}, "z a my-pkg"},
		{"an extra that nobody asks for", map[string]string{"a": "", "b": `a; extra == "x"`}, "a b"},
		{"an extra that is asked for", map[string]string{"a": "", "b": `a; extra == "x"`, "c": "b[X]"}, "c b a"},
		{"an extra of itself", map[string]string{"a": "", "b": `b[x]; extra == "all"|a; extra == "x"`, "c": "b[all]"}, "c b a"},
		{"what is absent", map[string]string{"a": "gone", "b": ""}, "a b"},
		{"what can't be read", map[string]string{"a": "", "b": "a >>> 1"}, "a b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var wheels []wheelMeta
			for name, requires := range tt.requires {
				m := wheelMeta{Name: name}
				if requires != "" {
					m.RequiresDist = strings.Split(requires, "|")
				}
				wheels = append(wheels, m)
			}
			place := rank(wheels, marker.Environment{})
			got := make([]string, len(wheels))
			for i, p := range place {
				got[p] = wheels[i].Name
			}
			if want := strings.Fields(tt.want); !slices.Equal(got, want) {
				t.Errorf("rank %q, want %q", got, want)
			}
		})
	}
}
