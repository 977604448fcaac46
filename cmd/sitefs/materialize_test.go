package main

import (
	"strings"
	"testing"

	"github.com/sitefs/sitefs/store/materialize"
)

func TestLinkMode(t *testing.T) {
	tests := []struct {
		name       string
		args       []string
		sitefs, uv string
		want       materialize.Mode
		variable   string
		err        string
	}{
		{"nothing", nil, "", "", materialize.Auto, "", ""},
		{"uv's", nil, "", "symlink", materialize.Symlink, "UV_LINK_MODE", ""},
		{"ours before uv's", nil, "hardlink", "symlink", materialize.Hardlink, "SITEFS_LINK_MODE", ""},
		{"the flag before both", []string{"--link-mode", "copy"}, "hardlink", "symlink", materialize.Copy, "", ""},
		{"the flag's auto too", []string{"--link-mode", "auto"}, "hardlink", "symlink", materialize.Auto, "", ""},
		{"no mode", nil, "", "move", 0, "", `UV_LINK_MODE: link mode "move", want one of auto, clone, hardlink, copy, symlink`},
		{"no mode by the flag", []string{"--link-mode", ""}, "", "", 0, "", `--link-mode: link mode ""`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("SITEFS_LINK_MODE", tt.sitefs)
			t.Setenv("UV_LINK_MODE", tt.uv)
			m := new(materializing)
			c := newMaterialize(m)
			if err := c.ParseFlags(tt.args); err != nil {
				t.Fatal(err)
			}
			variable, err := m.linkMode(c)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || m.options.Mode != tt.want || variable != tt.variable {
				t.Errorf("%v by %q, %v, want %v by %q", m.options.Mode, variable, err, tt.want, tt.variable)
			}
		})
	}
}
