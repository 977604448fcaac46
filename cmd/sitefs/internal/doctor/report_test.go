package doctor

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// A report names neither the user nor what is theirs, wherever it may come from.
func TestReport(t *testing.T) {
	for _, dir := range []string{"/home/ada/acme/.venv", "/home/ada/acme corp's plan/.venv", "/srv/ada/.venv"} {
		t.Run(dir, func(t *testing.T) {
			m := healthy("linux")
			m.Dir = dir
			m.Getenv = env(map[string]string{"SITEFS_PYTHON": "/home/ada/.pyenv/shims/python", "PATH": "/home/ada/acme/.venv/bin:/home/ada/acme two/bin", "SECRET": "hunter2"})
			files := m.Files.(fstest.MapFS)
			files["home/ada/acme/.venv/pyvenv.cfg"], files["home/ada/acme two/pyvenv.cfg"] = &fstest.MapFile{}, &fstest.MapFile{}
			m.Mounts = func(context.Context) ([]mount.Status, error) {
				return []mount.Status{{
					Dir: dir, Tree: "0123456789abcdef0123", Rung: mount.RungHelper, State: mount.StateDead, LastError: `open "/home/ada/acme/x": no file`,
					Info:   json.RawMessage(`{"source": "-r /home/ada/acme/pylock.toml"}`),
					Leases: []mount.Process{{PID: 7, Name: "acme-server"}},
				}}, nil
			}
			m.Log = func(string) (string, error) {
				return strings.Repeat("old\n", logLines) + "worker of ada on Engine died, serving " + dir + " from https://ada:hunter2@example.com/x\nlast\n", nil
			}
			var b strings.Builder
			if err := m.Report(t.Context(), &b, m.Examine(t.Context())); err != nil {
				t.Fatal(err)
			}
			got := b.String()
			for _, own := range []string{"/home", "ada", "engine", "hunter2", "acme", "corp's", "SECRET"} {
				if regexp.MustCompile(`(?i)` + regexp.QuoteMeta(own)).MatchString(got) {
					t.Errorf("%q is in the report", own)
				}
			}
			for _, want := range []string{
				"v1.2.3", "Linux 6.18.0", "Debian 13", "an ordinary user", "SITEFS_PYTHON=~/.pyenv/shims/python", "0123456789ab",
				`"rung":"fusermount3"`, "log      last\n", "~/.cache/sitefs", "dead mount",
			} {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in the report", want)
				}
			}
			if n := strings.Count(got, "\nlog "); n != logLines {
				t.Errorf("%d lines of the log, want %d", n, logLines)
			}
			if t.Failed() {
				t.Log(got)
			}
		})
	}
}

func TestScrub(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"/home/ada", "~"},
		{"/home/ada/.cache/sitefs/blobs/ab", "~/.cache/sitefs/blobs/ab"},
		{"/home/ada/Documents", "~/Documents"},
		{"/home/ada/Documents/acme/x: no", "~/Documents/…: no"},
		{"/home/ada/acme, /home/ada/b", "~/…, ~/…"},
		{"/home/adam/x", "/home/adam/x"},
		{"/srv/ada/x of ADA on engine.example.com, not on Engine2", "/srv/USER/x of USER on HOST, not on Engine2"},
		{"ada ada ada:adapter", "USER USER USER:adapter"},
		{"/data/ada/acme of grace, sudoing", "~/… of USER, sudoing"},
		{"https://user:secret@example.com/x", "https://example.com/x"},
	} {
		m := healthy("linux")
		m.RealHome = "/data/ada"
		m.Getenv = env(map[string]string{"SUDO_USER": "grace"})
		if got := m.scrub(c.text, nil); got != c.want {
			t.Errorf("scrub(%q) is %q, want %q", c.text, got, c.want)
		}
	}
}

// Names that everybody has are no secret, and a home that is / is everybody's.
func TestScrubRoot(t *testing.T) {
	m := healthy("linux")
	m.User, m.Host = "root", "localhost"
	for _, m.Home = range []string{"", "/"} {
		const text = "as root: /usr/bin/x on localhost"
		if got := m.scrub(text, []string{"/srv/a b"}); got != text {
			t.Errorf("home %q: found %q, want %q", m.Home, got, text)
		}
	}
}
