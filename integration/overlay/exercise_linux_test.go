package overlay

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/posix"
	"github.com/sitefs/sitefs/integration/sandbox"
)

var (
	ops  = flag.Int("ops", 3000, "do `N` random operations on each file of TestExercise; 10000000 is the long form")
	seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "what decides what TestExercise and TestModel do")
)

// The bytes of a file are what was written to it, through calls and maps, while
// workers are killed: of a file that is the lower layer's at first, and of one that
// was just made.
func TestExercise(t *testing.T) {
	sandbox.NeedRoot(t, "to mount as the user that runs the tests")
	t.Logf("-seed %d", *seed)
	o := newOverlay(t, 0, spec("exercise", map[string]string{"file": strings.Repeat("The lower layer's. ", 5000), "calm": strings.Repeat("x", 100_000)}))
	o.mount(t)
	made := filepath.Join(o.venv, "file")
	if err := os.WriteFile(made, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	kill := func(*rand.Rand) error {
		o.killWorker(t)
		return nil
	}
	for name, e := range map[string]posix.Exercise{
		"lower":           {Path: filepath.Join(o.site, "exercise/calm")},
		"lower and kills": {Path: filepath.Join(o.site, "exercise/file"), Disturb: kill},
		"made and kills":  {Path: made, Disturb: kill},
	} {
		t.Run(name, func(t *testing.T) {
			e.Seed, e.Ops = *seed, *ops
			if err := e.Run(); err != nil {
				t.Error(err)
			}
		})
	}
}
