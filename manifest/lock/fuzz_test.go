package lock

import (
	"bytes"
	"path/filepath"
	"testing"
)

// FuzzReadPylock holds that no input panics and that what is read and selected
// can be used: every pin has a place, a wheel's name and a hash that counts.
func FuzzReadPylock(f *testing.F) {
	for _, section := range []string{"validate", "select"} {
		for _, v := range vectors(f, "pylock.json", section) {
			f.Add(pylockTOML(f, v.Input.Pylock))
		}
	}
	f.Add(pylockText(wheelLine("foo", "foo-1.0%2Blocal-py3-none-any.whl", `marker = "'a' in extras or os_name == 'posix'"`)))
	py := python312(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ReadPylock(data, "/project")
		if err != nil {
			return
		}
		pins, err := l.Select(py, Options{AllExtras: true, AllGroups: true})
		if err != nil {
			return
		}
		for _, p := range pins {
			if p.Path == "" && p.URL == "" || p.Path != "" && !filepath.IsAbs(p.Path) {
				t.Errorf("%s: path %q, URL %q", p, p.Path, p.URL)
			}
			if _, err := Strong(p.Hashes); err != nil || p.Name == "" || p.Version == "" {
				t.Errorf("%+v: %v", p, err)
			}
			if u := p.DirectURL(); p.Direct != bytes.HasPrefix(u, []byte(`{"archive_info"`)) {
				t.Errorf("%s: direct_url.json %s", p, u)
			}
		}
	})
}
