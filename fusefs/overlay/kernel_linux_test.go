package overlay

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/upper"
)

// mount mounts m as fusefs/mount does. Only other processes may touch it: this one
// could wait for itself.
func (m *machine) mount() (dir string) {
	m.t.Helper()
	if dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil || os.Getuid() != 0 {
		m.t.Skipf("needs root and FUSE: %v", err)
	} else {
		dev.Close()
	}
	dir = m.t.TempDir()
	server, err := fuse.NewServer(m.FS, dir, &fuse.MountOptions{
		DirectMountStrict:        true,
		DirectMountFlags:         syscall.MS_NOSUID | syscall.MS_NODEV,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		ExtraCapabilities:        fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_HANDLE_KILLPRIV_V2,
		Options:                  []string{"default_permissions"},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		m.t.Fatal(err)
	}
	m.told.mu.Lock()
	m.told.server = server
	m.told.mu.Unlock()
	m.t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			m.t.Error(err)
		}
	})
	return dir
}

// sh runs a script in a directory and returns what it says.
func sh(t testing.TB, dir, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir = dir
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, b)
	}
	return string(b)
}

// inventory says what a tree has.
const inventory = `
find . -mindepth 1 -printf '%P %y %m %l\n' | sort
find . -not -type d -printf '%P %n %s\n' | sort
find . -type f -exec md5sum {} + | sort -k 2
find . -type d -printf '%P %n\n' | sort`

// TestKernelSeesOneLayer runs scripts in an overlay and in a copy of its lower, and
// wants the same of both.
func TestKernelSeesOneLayer(t *testing.T) {
	tests := []struct{ name, script string }{
		{"nothing", "true"},
		{"write", "echo more >> lib/site/pkg/a.py; echo new > lib/new; cat lib/site/pkg/a.py lib/new"},
		{"truncate", ": > lib/site/pkg/sub/data; truncate -s 100 bin/tool; stat -c %s bin/tool"},
		{"attributes", "chmod 600 bin/tool lib/site/pkg; touch -d @5 lib/site/pkg/a.py lib/site; stat -c '%a %Y' bin/tool lib/site lib/site/pkg lib/site/pkg/a.py"},
		{"remove", "rm -r lib/site/pkg; mkdir lib/site/pkg; ls -A lib/site/pkg"},
		{"remove all", "rm -r lib bin lib64; ls -A"},
		{"rename a directory", "mv lib/site/pkg lib/site/~kg; mkdir lib/site/pkg; echo x > lib/site/pkg/a.py; rm -r lib/site/~kg/sub"},
		{"rename back", "mv lib/site/pkg x; mv x/a.py .; mv a.py x; mv x lib/site/pkg; cat lib/site/pkg/a.py"},
		{"stash", "mkdir s; mv lib/site/pkg s/1; mv lib/site/other s/2; mv s/1 lib/site/pkg; rm -r s"},
		{"hard links", "ln lib/site/pkg/a.py one; ln one lib/two; echo b >> lib/two; cat one; rm lib/site/pkg/a.py; echo c >> one; cat lib/two"},
		{"symlinks", "ln -s target l; ln lib64 twice; readlink l twice; rm lib64; mv twice lib64; readlink lib64"},
		{"fifo", "mkfifo f; mv f lib/site/pkg; test -p lib/site/pkg/f"},
		{"many", "mkdir d; for i in $(seq 500); do echo $i > d/$i; done; rm -r d; ls -A"},
		{"many in the lower", "for i in $(seq 500); do echo $i > lib/site/pkg/$i; done; rm -r lib/site/pkg"},
		{"tar", "tar c bin lib lib64 | (mkdir copy; tar x -C copy)"},
		{"cp -a", "cp -a lib copy; rm -r lib; mv copy lib"},
		{"open and unlinked", "exec 3<bin/tool; rm bin/tool; cat <&3; exec 4>t; rm t; echo lost >&4"},
		{"exchange", "mv --exchange lib/site/pkg lib/site/other 2>/dev/null || { mv lib/site/pkg x; mv lib/site/other lib/site/pkg; mv x lib/site/other; }; ls lib/site/*"},
		{"into itself", "mv lib lib/site/x 2>&1 || true"},
		{"not empty", "rmdir lib/site/pkg 2>&1 || true; mkdir e; mv -T e lib/site/pkg 2>&1 || true"},
		{"deep", "mkdir -p a/b/c/d; mv lib/site/pkg a/b/c/d; echo x > a/b/c/d/pkg/sub/data; mv a/b z; cat z/c/d/pkg/sub/data"},
		{"long names", "n=$(printf %0250d 7); echo x > lib/$n; mkdir $n; mv lib/$n $n; cat $n/$n; rm -r $n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := serveFiles(t, ordinaryFiles())
			over, plain := m.mount(), t.TempDir()
			sh(t, over, "cp -a . "+plain)
			run := func(dir string) string {
				return sh(t, dir, test.script+"\n"+inventory)
			}
			want := run(plain)
			if got := run(over); got != want {
				t.Fatalf("%s\n%s", test.script, lines(got, want))
			}
			m.settle(t, over, want)
		})
	}
}

// settle checks that the next mount shows what this one did.
func (m *machine) settle(t *testing.T, dir, want string) {
	t.Helper()
	again := &machine{t: t, lower: m.lower, upper: filepath.Join(t.TempDir(), "copy"), told: newTold(), at: m.at}
	sh(t, dir, "cp -a "+m.upper+" "+again.upper)
	var err error
	if again.lock, err = upper.Lock(again.upper); err != nil {
		t.Fatal(err)
	}
	again.open()
	defer again.close()
	if got := sh(t, again.mount(), inventory); !strings.HasSuffix(want, got) {
		t.Errorf("in the next mount:\n%s", lines(got, want))
	}
}

// lines shows the lines of two texts that are not in both.
func lines(got, want string) string {
	var b strings.Builder
	only := func(what, a, of string) {
		for l := range strings.Lines(a) {
			if !strings.Contains("\n"+of, "\n"+l) {
				b.WriteString(what + l)
			}
		}
	}
	only("have ", got, want)
	only("want ", want, got)
	return b.String()
}
