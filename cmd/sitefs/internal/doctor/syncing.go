package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A syncer is a service that keeps a folder like its copy elsewhere. It writes there
// whenever it likes: it takes files away to save space, and puts its own beside
// those that it thinks changed in two places ("bin 2").
type syncer struct {
	name string
	root string // what it keeps
	how  string // it is known
}

// syncing looks at whether a service writes where environments or the store are.
func (m *Machine) syncing(context.Context) []Check {
	var checks []Check
	for _, dir := range []string{m.Dir, m.Store} {
		s, ok := m.syncer(dir)
		if !ok || m.excluded(dir, s.root) {
			continue
		}
		checks = append(checks, Check{
			Name:   "sync folder",
			Status: Warning,
			Found:  fmt.Sprintf("%s is in %s, which %s rewrites (%s)", dir, s.root, s.name, s.how),
			Wanted: "a folder that no service writes to",
			Fix:    m.exclude(dir, s),
		})
	}
	if checks == nil {
		checks = []Check{{Name: "sync folder", Status: OK, Found: "no service known to sitefs writes here", Wanted: "a folder that no service writes to"}}
	}
	return checks
}

// syncer returns the service that keeps dir, by what the folders above it say.
func (m *Machine) syncer(dir string) (syncer, bool) {
	for at := dir; ; at = filepath.Dir(at) {
		for _, look := range []func(string) (name, how string){m.byAttribute, m.byPath, m.byFile} {
			if name, how := look(at); name != "" {
				return syncer{name, at, how}, true
			}
		}
		if at == "/" {
			return syncer{}, false
		}
	}
}

// domainAttribute is where macOS notes the file provider of a folder that it keeps.
const domainAttribute = "com.apple.file-provider-domain-id"

// desktopAttribute is on Desktop and Documents when iCloud keeps them.
const desktopAttribute = "com.apple.icloud.desktop"

// byAttribute knows folders by what macOS attaches to them.
func (m *Machine) byAttribute(dir string) (name, how string) {
	if m.OS != "darwin" {
		return "", ""
	}
	if domain, err := m.Xattr(dir, domainAttribute); err == nil {
		return provider(domain), "attribute " + domainAttribute
	}
	if _, err := m.Xattr(dir, desktopAttribute); err == nil {
		return iCloud, "attribute " + desktopAttribute
	}
	return "", ""
}

const iCloud = "iCloud Drive"

// provider returns the name of a file provider by its identifier, such as
// com.microsoft.OneDrive-mac.FileProvider/….
func provider(id string) string {
	for _, p := range []struct{ part, name string }{
		{"clouddocs", iCloud}, {"onedrive", "OneDrive"}, {"dropbox", "Dropbox"}, {"google", "Google Drive"},
	} {
		if strings.Contains(strings.ToLower(id), p.part) {
			return p.name
		}
	}
	id, _, _ = strings.Cut(id, "/")
	return id
}

// byPath knows folders by where they are.
func (m *Machine) byPath(dir string) (name, how string) {
	base := filepath.Base(dir)
	below, inHome := strings.CutPrefix(dir, m.Home+"/")
	switch parent := path.Dir(below); {
	case base == "OneDrive", strings.HasPrefix(base, "OneDrive - "): // in Windows' homes too, seen from WSL
		return "OneDrive", "by its name"
	case !inHome:
		return "", ""
	case below == "Dropbox", strings.HasPrefix(below, "Dropbox (") && parent == ".":
		return "Dropbox", "by its name"
	case m.OS != "darwin":
		return "", ""
	case below == "Library/Mobile Documents":
		return iCloud, "by its path"
	case parent == "Library/CloudStorage": // Dropbox, OneDrive-Personal, GoogleDrive-ada@example.com
		name, _, _ = strings.Cut(base, "-")
		return provider(name), "by its path"
	case (below == "Desktop" || below == "Documents") && m.exists(filepath.Join(m.Home, "Library/Mobile Documents/com~apple~CloudDocs", below)):
		return iCloud, "Desktop and Documents are in iCloud Drive"
	}
	return "", ""
}

// providerFiles are what services leave in the folders that they keep.
var providerFiles = []struct{ pattern, name string }{
	{".dropbox.cache", "Dropbox"},
	{".stfolder", "Syncthing"},
	{".sync_*.db", "Nextcloud"},
	{".owncloudsync.log", "ownCloud"},
	{".tmp.drivedownload", "Google Drive"},
}

// byFile knows folders by what services leave in them, and by their configuration.
func (m *Machine) byFile(dir string) (name, how string) {
	for _, f := range providerFiles {
		if m.matches(dir, f.pattern) {
			return f.name, "it has put " + f.pattern + " there"
		}
	}
	if slices.Contains(m.dropboxes(), dir) {
		return "Dropbox", "by " + dropboxInfo
	}
	return "", ""
}

// matches reports whether dir has a file of a name that pattern matches.
func (m *Machine) matches(dir, pattern string) bool {
	if !strings.Contains(pattern, "*") {
		return m.exists(filepath.Join(dir, pattern))
	}
	entries, err := readDir(m.Files, dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(name string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

// dropboxInfo is where Dropbox tells other programs which folders it keeps.
const dropboxInfo = "~/.dropbox/info.json"

func (m *Machine) dropboxes() []string {
	var accounts map[string]struct {
		Path string `json:"path"`
	}
	if json.Unmarshal([]byte(m.read(filepath.Join(m.Home, ".dropbox/info.json"))), &accounts) != nil {
		return nil // no Dropbox
	}
	var dirs []string
	for _, a := range accounts {
		dirs = append(dirs, filepath.Clean(a.Path))
	}
	return dirs
}

// Attributes that keep a folder out of what a service keeps.
const (
	providerIgnore = "com.apple.fileprovider.ignore#P"
	dropboxIgnore  = "com.dropbox.ignored"
	nosync         = ".nosync" // the end of a name, for iCloud
)

// excluded reports whether dir, or a folder between it and root, is left out by the
// service.
func (m *Machine) excluded(dir, root string) bool {
	for at := dir; at != root; at = filepath.Dir(at) {
		if strings.HasSuffix(at, nosync) {
			return true
		}
		for _, name := range []string{providerIgnore, dropboxIgnore, "user." + dropboxIgnore} {
			if _, err := m.Xattr(at, name); err == nil {
				return true
			}
		}
	}
	return false
}

// exclude returns the line that keeps the service out.
func (m *Machine) exclude(dir string, s syncer) string {
	switch {
	case m.OS == "darwin" && s.name != "Syncthing":
		return fmt.Sprintf("xattr -w '%s' 1 %s", providerIgnore, quote(dir))
	case s.name == "Dropbox":
		return fmt.Sprintf("attr -s %s -V 1 %s", dropboxIgnore, quote(dir))
	}
	return "mount instead (no service reaches into a mount), or use a directory outside of " + quote(s.root)
}
