package doctor

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// A wheelFile is a wheel of the package that a trial uses, and a lock file for it.
type wheelFile struct {
	version string
	lock    string        // its path
	middle  digest.Digest // of a file in its middle
}

const packageName = "sitefs_self"

// modules is how many files the package has: enough for a kill to find them being
// written.
const modules = 1000

func moduleName(i int) string { return fmt.Sprintf("m%04d.py", i) }

// writeWheel writes a version of the package into dir. No two versions share a module.
func writeWheel(dir, version string) (wheelFile, error) {
	w := wheelFile{version: version, lock: filepath.Join(dir, "pylock."+version[:1]+".toml")}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	var rows []wheel.RecordRow
	add := func(name string, data []byte) error {
		sum := digest.Of(data)
		rows = append(rows, wheel.RecordRow{Path: name, Sum: wheel.RecordSum{Algorithm: "sha256", Sum: sum[:]}, Size: int64(len(data))})
		f, err := z.Create(name)
		if err == nil {
			_, err = f.Write(data)
		}
		return err
	}
	for i := range modules {
		data := fmt.Appendf(nil, "version = %q\nnumber = %d\n", version, i)
		if i == modules/2 {
			w.middle = digest.Of(data)
		}
		if err := add(packageName+"/"+moduleName(i), data); err != nil {
			return w, err
		}
	}
	info := packageName + "-" + version + ".dist-info/"
	for _, f := range []struct{ name, text string }{
		{"METADATA", "Metadata-Version: 2.1\nName: " + packageName + "\nVersion: " + version + "\n"},
		{"WHEEL", "Wheel-Version: 1.0\nGenerator: sitefs\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
	} {
		if err := add(info+f.name, []byte(f.text)); err != nil {
			return w, err
		}
	}
	rows = append(rows, wheel.RecordRow{Path: info + "RECORD", Size: -1})
	f, err := z.Create(info + "RECORD")
	if err != nil {
		return w, err
	}
	if _, err := f.Write(wheel.FormatRecord(rows)); err != nil {
		return w, err
	}
	if err := z.Close(); err != nil {
		return w, err
	}
	file := packageName + "-" + version + "-py3-none-any.whl"
	if err := os.WriteFile(filepath.Join(dir, file), archive.Bytes(), 0o644); err != nil {
		return w, err
	}
	lock := fmt.Sprintf(`lock-version = "1.0"
created-by = "sitefs doctor"

[[packages]]
name = "sitefs-self"
version = %q

[[packages.wheels]]
name = %q
path = %[2]q
hashes = {sha256 = "%s"}
`, version, file, digest.Of(archive.Bytes()))
	return w, os.WriteFile(w.lock, []byte(lock), 0o644)
}
