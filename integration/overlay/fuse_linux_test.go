package overlay

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// notRun are the tests of go-fuse's that say nothing about a file system, each
// with the reason.
var notRun = map[string]string{
	"FcntlFlockLocksFile": "go-fuse's own TestAll leaves it out as broken",
	"XAttrLarge":          "ext4, which is beneath the overlay here, keeps no attribute so large",
	"OpenSymlinkRace":     "go-fuse's own TestAll leaves it out: it races for seconds, and tests nothing that is remembered",
}

// go-fuse's own tests of a file system pass on an overlay.
func TestGoFuse(t *testing.T) {
	sandbox.NeedRoot(t, "to mount as the user that runs the tests")
	o := newOverlay(t, 0)
	o.mount(t)
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		t.Run(name, func(t *testing.T) {
			if reason, ok := notRun[name]; ok {
				t.Logf("not run: %s", reason)
				return
			}
			dir := filepath.Join(o.venv, name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			posixtest.All[name](t, dir)
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
	}
}
