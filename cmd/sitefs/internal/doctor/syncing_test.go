package doctor

import (
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func TestSyncing(t *testing.T) {
	const mac, tux = "/Users/ada", "/home/ada"
	attribute := func(path, name, value string) map[[2]string]string {
		return map[[2]string]string{{path, name}: value}
	}
	for _, c := range []struct {
		name  string
		os    string
		dir   string
		files []string
		attrs map[[2]string]string
		found string // "" is no sync folder
		fix   string
	}{
		{"plain", "linux", tux + "/project", nil, nil, "", ""},
		{"Dropbox by its name", "linux", tux + "/Dropbox/a/.venv", nil, nil, "Dropbox rewrites (by its name)", "attr -s com.dropbox.ignored -V 1 /home/ada/Dropbox/a/.venv"},
		{"Dropbox by its cache", "linux", "/srv/d/a", []string{"/srv/d/.dropbox.cache/x"}, nil, "in /srv/d, which Dropbox rewrites", "attr -s"},
		{"Dropbox by its configuration", "linux", "/srv/box/a", nil, nil, "info.json", "attr -s"},
		{"Dropbox, ignored", "linux", tux + "/Dropbox/a/.venv", nil, attribute(tux+"/Dropbox/a", "user.com.dropbox.ignored", "1"), "", ""},
		{"not a Dropbox", "linux", tux + "/src/Dropbox", nil, nil, "", ""},
		{"Syncthing", "linux", tux + "/sync/a", []string{tux + "/sync/.stfolder/x"}, nil, "Syncthing", "outside of /home/ada/sync"},
		{"Nextcloud", "linux", tux + "/cloud/a", []string{tux + "/cloud/.sync_0123abcd.db"}, nil, "Nextcloud", "mount instead"},
		{"OneDrive from WSL", "linux", "/mnt/c/Users/Ada/OneDrive - Acme/a", nil, nil, "OneDrive", "mount instead"},
		{"plain on macOS", "darwin", mac + "/src/a", nil, nil, "", ""},
		{"Documents of this Mac alone", "darwin", mac + "/Documents/a", nil, nil, "", ""},
		{"Documents in iCloud", "darwin", mac + "/Documents/a", []string{mac + "/Library/Mobile Documents/com~apple~CloudDocs/Documents/x"}, nil,
			"iCloud Drive rewrites (Desktop and Documents", "xattr -w 'com.apple.fileprovider.ignore#P' 1 /Users/ada/Documents/a"},
		{"Desktop by its attribute", "darwin", mac + "/Desktop/a", nil, attribute(mac+"/Desktop", "com.apple.icloud.desktop", ""), "iCloud Drive", "xattr -w"},
		{"domain of iCloud", "darwin", mac + "/Documents/a", nil,
			attribute(mac+"/Documents", "com.apple.file-provider-domain-id", "com.apple.CloudDocs.iCloudDriveFileProvider/123"), "iCloud Drive", "xattr -w"},
		{"domain of another", "darwin", mac + "/box/a", nil,
			attribute(mac+"/box", "com.apple.file-provider-domain-id", "com.example.box/123"), "com.example.box rewrites", "xattr -w"},
		{"iCloud Drive", "darwin", mac + "/Library/Mobile Documents/com~apple~CloudDocs/a", nil, nil, "iCloud Drive rewrites (by its path)", "xattr -w"},
		{"nosync", "darwin", mac + "/Library/Mobile Documents/com~apple~CloudDocs/venvs.nosync/a", nil, nil, "", ""},
		{"OneDrive", "darwin", mac + "/Library/CloudStorage/OneDrive-Personal/a", nil, nil, "OneDrive rewrites (by its path)", "xattr -w"},
		{"Google Drive", "darwin", mac + "/Library/CloudStorage/GoogleDrive-ada@example.com/a", nil, nil, "Google Drive rewrites", "xattr -w"},
		{"Dropbox, ignored by macOS", "darwin", mac + "/Library/CloudStorage/Dropbox/a/.venv", nil,
			attribute(mac+"/Library/CloudStorage/Dropbox/a/.venv", "com.apple.fileprovider.ignore#P", "1"), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := healthy(c.os)
			m.Dir = c.dir
			files := m.Files.(fstest.MapFS)
			files["home/ada/.dropbox/info.json"] = &fstest.MapFile{Data: []byte(`{"personal": {"path": "/srv/box/", "host": 1}}`)}
			for _, f := range c.files {
				files[f[1:]] = &fstest.MapFile{}
			}
			m.Xattr = func(path, name string) (string, error) {
				if value, ok := c.attrs[[2]string{path, name}]; ok {
					return value, nil
				}
				return "", unix.ENODATA
			}
			got := m.syncing(t.Context())[0]
			want := OK
			if c.found != "" {
				want = Warning
			}
			if got.Status != want || !strings.Contains(got.Found, c.found) || !strings.Contains(got.Fix, c.fix) {
				t.Errorf("found %+v, want %s, %q and %q", got, want, c.found, c.fix)
			}
		})
	}
}
