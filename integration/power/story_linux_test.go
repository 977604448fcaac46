package power

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/sandbox"
)

var (
	moments = flag.Int("moments", 6, "at how many moments of each run and of what follows the power goes, beside those at a barrier")
	most    = flag.Int("barriers", 16, "at how many barriers at most; 0: at all")
	seed    = flag.Uint64("powerseed", uint64(time.Now().UnixNano()), "what decides when the power goes, and what is lost")
)

// A fileSystem is what programs are run on.
type fileSystem struct {
	name string
	size int64    // near the least that the file system takes
	mkfs []string // the device comes after it
}

var fileSystems = []fileSystem{
	// Without the rest of mkfs's work, which the kernel would do during the run.
	{"ext4", 64 << 20, []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"}},
	{"xfs", 300 << 20, []string{"mkfs.xfs", "-q", "-K", "-m", "reflink=1"}},
	{"btrfs", 128 << 20, []string{"mkfs.btrfs", "-q", "-K"}},
}

// need skips a test where the file system can't be made and mounted.
func (fs fileSystem) need(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("mounts a hundred disks, for some ten seconds in all")
	}
	sandbox.NeedFUSE(t)
	sandbox.NeedRoot(t, "for loop devices")
	sandbox.NeedProgram(t, fs.mkfs[0])
}

// eachFileSystem runs a test on each.
func eachFileSystem(t *testing.T, test func(*testing.T, fileSystem)) {
	for _, fs := range fileSystems {
		t.Run(fs.name, func(t *testing.T) {
			fs.need(t)
			t.Logf("-powerseed %d", *seed)
			test(t, fs)
		})
	}
}

// A story is the run of a program on a file system, as the disk saw it.
type story struct {
	fileSystem
	dir       string // where it is mounted, in the run and whenever it is looked at
	log       *Log
	began     int // events before the program's
	succeeded int // events when the program had said that it is done
}

// record runs a program. What prepare leaves is on the disk for good before it
// starts, and life goes on after it.
func record(t *testing.T, fs fileSystem, prepare, program func(dir string) error) *story {
	t.Helper()
	s := &story{fileSystem: fs, dir: t.TempDir()}
	_, prepared := s.mounted(t, NewImage(fs.size), func(d *Disk) error {
		if err := command(append(fs.mkfs, d.Device())...); err != nil {
			return err
		}
		return s.with(d, func() error { return prepare(s.dir) })
	})
	s.log, _ = s.mounted(t, prepared, func(d *Disk) error {
		return s.with(d, func() error {
			s.began = d.Now()
			if err := program(s.dir); err != nil {
				return err
			}
			s.succeeded = d.Now()
			return aftermath(s.dir)
		})
	})
	t.Logf("%d events, %d of them barriers, %d kB; success at %d, the program began at %d", s.log.Len(), len(s.log.Barriers()), s.log.Bytes()>>10, s.succeeded, s.began)
	return s
}

// aftermath is what any other program does. It brings to the disk what the file
// system has kept back.
func aftermath(dir string) error {
	name := filepath.Join(dir, "aftermath")
	if err := os.WriteFile(name, []byte("life goes on\n"), 0o666); err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// mounted uses a disk of an image, and returns what it was told and what is then
// on it.
func (s *story) mounted(t *testing.T, content *Image, use func(*Disk) error) (*Log, *Image) {
	t.Helper()
	d, err := Attach(t.TempDir(), content)
	if err != nil {
		t.Fatal(err)
	}
	problem := use(d)
	log, after, err := d.Close()
	if err != nil {
		t.Fatal(err)
	}
	if problem != nil {
		t.Fatalf("%s: %v", s.name, problem)
	}
	return log, after
}

// with does something while the file system is mounted.
func (s *story) with(d *Disk, do func() error) error {
	if err := unix.Mount(d.Device(), s.dir, s.name, 0, ""); err != nil {
		return fmt.Errorf("mounting: %w", err)
	}
	err := do()
	if e := unix.Unmount(s.dir, 0); e != nil {
		return fmt.Errorf("unmounting: %w", e)
	}
	return err
}

// look mounts what the disk may hold, which replays the journal, and looks at it.
// A file system that can't be mounted is a problem like any other.
func (s *story) look(t *testing.T, content *Image, at func(dir string) error) (problem error) {
	t.Helper()
	s.mounted(t, content, func(d *Disk) error {
		problem = s.with(d, func() error { return at(s.dir) })
		return nil
	})
	return problem
}

// losses takes the power away at moments of the run, looks at what is then on the
// disk, and returns the problems that check finds. done tells whether the program
// had said that it is done.
func (s *story) losses(t *testing.T, check func(dir string, done bool) error) (problems []error) {
	t.Helper()
	random := rand.New(rand.NewPCG(*seed, 0))
	for _, n := range s.moments(random) {
		look := func(content *Image, what string) {
			err := s.look(t, content, func(dir string) error { return check(dir, n >= s.succeeded) })
			if err != nil {
				problems = append(problems, fmt.Errorf("after %d events%s: %w", n, what, err))
			}
		}
		look(s.log.Before(n), "")
		look(s.log.Torn(n, random), ", torn")
	}
	return problems
}

// wantDeafLosses holds that on a disk that hears no barrier the program loses what
// it has said it did. Else the barriers prove nothing.
func (s *story) wantDeafLosses(t *testing.T, check func(dir string, done bool) error) {
	t.Helper()
	random, deaf := rand.New(rand.NewPCG(*seed, 1)), s.log.Deaf()
	const tries = 20 // the first loses nearly always
	for range tries {
		err := s.look(t, deaf.Torn(s.succeeded, random), func(dir string) error { return check(dir, true) })
		if err != nil {
			return
		}
	}
	t.Error("a disk that hears no barrier lost nothing")
}

// moments returns when the power goes: at barriers and the events beside them, where
// most happens, and at others.
func (s *story) moments(random *rand.Rand) []int {
	end := s.log.Len()
	at := []int{s.began, s.succeeded, end}
	// What comes before the program is the file system's own concern.
	barriers := slices.DeleteFunc(s.log.Barriers(), func(n int) bool { return n <= s.began })
	if *most > 0 && len(barriers) > *most {
		random.Shuffle(len(barriers), func(i, j int) { barriers[i], barriers[j] = barriers[j], barriers[i] })
		barriers = barriers[:*most]
	}
	for _, n := range barriers {
		at = append(at, n-1, n)
	}
	for range *moments {
		at = append(at, s.began+random.IntN(end-s.began), s.succeeded+random.IntN(end-s.succeeded))
	}
	slices.Sort(at)
	return slices.Compact(at)
}

// command runs a program that has nothing to say.
func command(argv ...string) error {
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w\n%s", argv, err, out)
	}
	return nil
}
