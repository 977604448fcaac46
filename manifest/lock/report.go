package lock

import (
	"encoding/json"
	"fmt"

	"github.com/pelletier/go-toml/v2"

	"github.com/sitefs/sitefs/manifest/pyver"
)

// A report is what pip install --report prints ("Installation Report", version 1).
type report struct {
	Version string
	Install []struct {
		DownloadInfo json.RawMessage `json:"download_info"`
		IsDirect     bool            `json:"is_direct"`
		Metadata     struct{ Name, Version string }
	}
}

// The pylock.toml that is made of a report.
type (
	pylockFile struct {
		LockVersion string          `toml:"lock-version"`
		CreatedBy   string          `toml:"created-by"`
		Packages    []pylockPackage `toml:"packages"`
	}
	pylockPackage struct {
		Name    string          `toml:"name"`
		Version string          `toml:"version"`
		Archive *pylockArchive  `toml:"archive,omitempty"`
		Wheels  []pylockArchive `toml:"wheels,omitempty"`
	}
	pylockArchive struct {
		URL    string            `toml:"url"`
		Hashes map[string]string `toml:"hashes"`
	}
)

// PylockOfReport writes the report of a pip install --dry-run, which names what
// pip would install, as a pylock.toml. What pip would have to build is an
// [ErrNoWheel].
func PylockOfReport(data []byte) ([]byte, error) {
	var rep report
	if err := json.Unmarshal(data, &rep); err != nil {
		return nil, fmt.Errorf("pip's report isn't JSON: %w", err)
	}
	if rep.Version != "1" {
		return nil, fmt.Errorf("found version %q of pip's report, want 1: use another pip, or uv", rep.Version)
	}
	file := pylockFile{LockVersion: "1.0", CreatedBy: "sitefs, of a pip report", Packages: []pylockPackage{}}
	for _, item := range rep.Install {
		d, err := ParseDirectURL(item.DownloadInfo)
		if err != nil {
			return nil, fmt.Errorf("pip's report, %q: %w", item.Metadata.Name, err)
		}
		if d.Archive == nil {
			return nil, refuse(ErrNoWheel, "%s is no wheel but %s, and sitefs builds nothing: make a wheel of it (pip wheel, uv build) and name that",
				item.Metadata.Name, Redacted(d.URL))
		}
		p := pylockPackage{Name: pyver.CanonicalName(item.Metadata.Name), Version: item.Metadata.Version}
		archive := pylockArchive{d.URL, d.Archive.Hashes}
		if item.IsDirect {
			p.Archive = &archive
		} else {
			p.Wheels = []pylockArchive{archive}
		}
		file.Packages = append(file.Packages, p)
	}
	return toml.Marshal(file)
}
