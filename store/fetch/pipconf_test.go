package fetch

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

func TestPipCert(t *testing.T) {
	tests := []struct {
		name  string
		files []string
		want  string
		err   string
	}{
		{"global", []string{"[global]\ncert = /a.pem\n"}, "/a.pem", ""},
		{"colon", []string{"[global]\ncert: /a.pem\n"}, "/a.pem", ""},
		{"the later file beats", []string{"[global]\ncert = /b.pem\n", "[global]\ncert = /a.pem\n"}, "/a.pem", ""},
		{"install beats global", []string{"[install]\ncert = /a.pem\n[global]\ncert = /b.pem\n"}, "/a.pem", ""},
		{"install beats a later global", []string{"[install]\ncert = /a.pem\n", "[global]\ncert = /b.pem\n"}, "/a.pem", ""},
		{"other sections", []string{"[download]\ncert = /a.pem\n"}, "", ""},
		{"other options", []string{"[global]\nclient-cert = /a.pem\ncertx = /b.pem\n"}, "", ""},
		{"spelling", []string{"[global]\n--CERT = /a.pem\n"}, "/a.pem", ""},
		{"home", []string{"[global]\ncert = ~/a.pem\n"}, "/home/a.pem", ""},
		{"comments", []string{"# c\n; c\n[global]\n  # c\n#cert = /b.pem\ncert = /a.pem\n"}, "/a.pem", ""},
		{"continued values", []string{"[global]\nextra-index-url =\n    http://127.0.0.1/a\n    cert = /b.pem\ncert =\n  /a.pem\n"}, "/a.pem", ""},
		{"spaces and signs", []string{"[global]\ncert = /a b=c.pem  \n"}, "/a b=c.pem", ""},
		{"no section", []string{"cert = /a.pem\n"}, "", "line 1 is neither"},
		{"no value", []string{"[global]\ncert\n"}, "", "line 2 is neither"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := []string{filepath.Join(t.TempDir(), "absent")}
			for _, text := range tt.files {
				files = append(files, filepath.Join(t.TempDir(), "pip.conf"))
				if err := os.WriteFile(files[len(files)-1], []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, _, err := pipCert(files, "/home")
			if tt.err != "" {
				wantError(t, err, tt.err)
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestPipConfigFiles(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the list is Linux's")
	}
	named := filepath.Join(t.TempDir(), "named.conf")
	if err := os.WriteFile(named, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		env  map[string]string
		want []string
	}{
		{"named, in the user's place", map[string]string{"HOME": "/h", "PIP_CONFIG_FILE": named},
			[]string{"/etc/xdg/pip/pip.conf", "/etc/pip.conf", named}},
		{"plain", map[string]string{"HOME": "/h"},
			[]string{"/etc/xdg/pip/pip.conf", "/etc/pip.conf", "/h/.pip/pip.conf", "/h/.config/pip/pip.conf"}},
		{"XDG", map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/c", "XDG_CONFIG_DIRS": "/x:/y"},
			[]string{"/x/pip/pip.conf", "/y/pip/pip.conf", "/etc/pip.conf", "/h/.pip/pip.conf", "/c/pip/pip.conf"}},
		{"venv", map[string]string{"HOME": "/h", "VIRTUAL_ENV": "/v"},
			[]string{"/etc/xdg/pip/pip.conf", "/etc/pip.conf", "/h/.pip/pip.conf", "/h/.config/pip/pip.conf", "/v/pip.conf"}},
		{"none", map[string]string{"HOME": "/h", "PIP_CONFIG_FILE": "/dev/null"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := pipConfigFiles(func(name string) string { return tt.env[name] }); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
