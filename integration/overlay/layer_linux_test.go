package overlay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// An image is an OCI image in a folder (image-spec, "Image Layout").
type image struct {
	t   *testing.T
	dir string
}

// put adds a blob and returns its descriptor.
func (i *image) put(mediaType string, b []byte) map[string]any {
	i.t.Helper()
	sum := sha256.Sum256(b)
	name := hex.EncodeToString(sum[:])
	i.write(filepath.Join("blobs/sha256", name), b)
	return map[string]any{"mediaType": mediaType, "digest": "sha256:" + name, "size": len(b)}
}

func (i *image) putJSON(mediaType string, v any) map[string]any {
	i.t.Helper()
	return i.put(mediaType, i.encode(v))
}

func (i *image) encode(v any) []byte {
	i.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		i.t.Fatal(err)
	}
	return b
}

func (i *image) write(name string, b []byte) {
	i.t.Helper()
	file := filepath.Join(i.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		i.t.Fatal(err)
	}
}

// build makes an image of layers, the lowest first.
func (i *image) build(layers ...[]byte) {
	i.t.Helper()
	var list, sums []any
	for _, layer := range layers {
		d := i.put("application/vnd.oci.image.layer.v1.tar", layer)
		list, sums = append(list, d), append(sums, d["digest"])
	}
	config := i.putJSON("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": sums},
	})
	manifest := i.putJSON("application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": list,
	})
	i.write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	i.write("index.json", i.encode(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}}))
}

// described returns what is below a directory: type, mode, size, content, time and
// how many names a file has.
func described(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			text += fmt.Sprintf(" %d links %v %x", st.Nlink, info.ModTime().UTC(), sha256.Sum256(b))
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			text += " to " + target
		case info.IsDir():
			text += fmt.Sprint(" ", info.ModTime().UTC())
		}
		rel, err := filepath.Rel(dir, p)
		all[rel] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestLayer: the layer that `sitefs diff --tar` writes, applied by podman to the
// materialized environment, makes what the mount shows.
func TestLayer(t *testing.T) {
	sandbox.NeedRoot(t, "for podman's storage")
	podman, err := exec.LookPath("podman")
	if err != nil {
		t.Skip("needs podman")
	}
	files := func(n string) map[string]string {
		return map[string]string{"__init__.py": "", "a.py": n, "sub/b.py": "b = " + n, "sub/deep/c.txt": "c"}
	}
	o := newOverlay(t, 0, []wheelhouse.Spec{spec("kept", files("1")), spec("edited", files("2")), spec("removed", files("3")), spec("moved", files("4"))}...)
	o.mount(t)
	o.Must(t, "sh", "-euc", `cd `+o.site+`
		rm -r removed
		mv moved renamed; mv renamed/sub renamed/sub2; echo new > renamed/sub2/new; rm renamed/sub2/b.py
		echo edited > edited/a.py; chmod 600 edited/__init__.py; rm edited/sub/b.py; mkdir edited/sub/b.py; echo x > edited/sub/b.py/x
		rm -r kept/sub/deep; mkdir kept/sub/deep; echo other > kept/sub/deep/d.txt; touch -d 2001-02-03 kept/sub/deep kept/a.py
		ln edited/a.py linked; ln -s kept/a.py symlink; mkfifo fifo; mkdir empty; echo odd > "$(printf 'na\tme %0200d' 7)"
		setfattr -n user.colour -v green edited/a.py 2>/dev/null || true`)
	o.Must(t, "sitefs", "materialize", "-r", "pylock.toml", "--seed", "--link-mode", "copy", "copy")
	copied := filepath.Join(o.Dir, "copy")
	layer := filepath.Join(o.Dir, "layer.tar")
	o.Must(t, "sitefs", "diff", "--tar", layer, o.venv)

	lower, err := exec.Command("tar", "--format=pax", "-C", copied, "-cf", "-", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	upper, err := os.ReadFile(layer)
	if err != nil {
		t.Fatal(err)
	}
	i := &image{t, filepath.Join(o.Dir, "image")}
	i.build(lower, upper)
	run := func(args ...string) string {
		t.Helper()
		var stderr bytes.Buffer
		c := exec.Command(podman, append([]string{"--root", filepath.Join(o.Dir, "root"), "--runroot", filepath.Join(o.Dir, "run"), "--storage-driver", "vfs"}, args...)...)
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			t.Fatalf("podman %q: %v: %s", args, err, stderr.Bytes())
		}
		return strings.TrimSpace(string(out))
	}
	id := run("pull", "--quiet", "oci:"+i.dir)
	root := run("image", "mount", id)
	defer run("image", "unmount", id)

	want, got := described(t, filepath.Join(o.venv, "lib")), described(t, filepath.Join(root, "lib"))
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if got[p] != want[p] {
			t.Errorf("%s: the layer makes it\n\t%s\nwant\n\t%s", p, got[p], want[p])
		}
	}
	for _, p := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[p]; !ok {
			t.Errorf("%s: is there, and not in the mount", p)
		}
	}
}
