package ladder

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// show prints what a command in the environment sees: the package, who it is, and
// how the environment was mounted, "none" where it is no mount.
const show = `
import alpha, json, os, subprocess
out = subprocess.run(["sitefs", "status", "--json"], stdout=subprocess.PIPE, check=True).stdout.decode()
rung = json.loads(out)["rung"] if out.strip() else "none"
print(alpha.version, os.getuid(), os.getgid(), rung)
`

func TestForcedRung(t *testing.T) {
	sandbox.NeedProgram(t, "fusermount3")
	sandbox.NeedProgram(t, "unshare")
	for _, c := range []struct {
		uid  int
		rung string
		want string // what show prints of the rung; "" is a failure
		says []string
	}{
		{root, "direct", "mount(2)", nil},
		{root, "fusermount3", "fusermount3", nil},
		{root, "namespace", "namespace", nil},
		{root, "copy", "none", []string{"copy", "files", "MB"}},
		{user, "direct", "", []string{"operation not permitted", "mount(2) is for root", "--cap-add SYS_ADMIN"}},
		{user, "fusermount3", "fusermount3", nil},
		{user, "namespace", "namespace", nil},
		{user, "copy", "none", []string{"copy", "files", "MB"}},
		{user, "sideways", "", []string{"SITEFS_MOUNT", "sideways", "direct, fusermount3, namespace, copy"}},
	} {
		t.Run(fmt.Sprintf("%d %s", c.uid, c.rung), func(t *testing.T) {
			p := newPerson(t, c.uid)
			p.setenv("SITEFS_MOUNT", c.rung)
			for _, start := range []string{"first", "second"} {
				r := p.run(inEnv("python", "-c", show)...)
				if c.want == "" {
					if r.code != 125 {
						t.Errorf("%s start: exit code %d, want 125", start, r.code)
					}
				} else if want := fmt.Sprintf("1.0 %d %d %s", c.uid, c.uid, c.want); r.code != 0 || r.stdout != want {
					t.Fatalf("%s start: exit code %d, %q, want %q\n%s", start, r.code, r.stdout, want, r.stderr)
				}
				expectSays(t, r, c.says)
			}
		})
	}
}

// expectSays looks for all of the words in what a command said of itself.
func expectSays(t *testing.T, r result, words []string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(r.stderr, word) {
			t.Errorf("nothing said of %q in\n%s", word, r.stderr)
		}
	}
}

// A mount that was made in another way doesn't serve who names one.
func TestForcedRungBesideAnother(t *testing.T) {
	sandbox.NeedProgram(t, "fusermount3")
	p := newPerson(t, root)
	p.setenv("SITEFS_MOUNT", "direct")
	inner := "SITEFS_MOUNT=fusermount3 sitefs run -r pylock.toml -- sitefs status --json"
	out := p.output(inEnv("sh", "-c", inner)...)
	for _, rung := range []string{`"mount(2)"`, `"fusermount3"`} {
		if !strings.Contains(out, rung) {
			t.Errorf("no mount by %s in\n%s", rung, out)
		}
	}
}

// What a command is mounted for alone can't be a venv for everybody.
func TestMountNeedsAMount(t *testing.T) {
	for _, rung := range []string{"namespace", "copy"} {
		t.Run(rung, func(t *testing.T) {
			p := newPerson(t, user)
			p.setenv("SITEFS_MOUNT", rung)
			r := p.run("sitefs", "mount", "-r", "pylock.toml")
			if r.code == 0 {
				t.Error("mounted")
			}
			expectSays(t, r, []string{rung, "sitefs run", "direct"})
		})
	}
}

// Without fusermount3 an ordinary user mounts in a namespace, and is told once.
func TestWithoutHelper(t *testing.T) {
	p := newPerson(t, user)
	p.withoutHelper()
	for _, start := range []string{"first", "second"} {
		r := p.run(inEnv("python", "-c", show)...)
		if want := fmt.Sprintf("1.0 %d %d namespace", user, user); r.code != 0 || r.stdout != want {
			t.Fatalf("%s start: exit code %d, %q, want %q\n%s", start, r.code, r.stdout, want, r.stderr)
		}
		if told := strings.Contains(r.stderr, "fuse3"); told != (start == "first") {
			t.Errorf("%s start: said\n%s", start, r.stderr)
		}
	}
}

// forbidden runs what follows where no user namespace can be made. The limit is
// that of a namespace around it: nothing else on the machine is limited.
var forbidden = []string{"unshare", "--user", "--map-current-user", "--keep-caps", "--", "sh", "-c",
	`echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all -- "$@"`, "forbidden"}

// Where nothing can be mounted the command gets a copy, and its size each time.
func TestNamespacesForbidden(t *testing.T) {
	p := newPerson(t, user)
	p.withoutHelper()
	for _, start := range []string{"first", "second"} {
		r := p.run(append(forbidden, inEnv("python", "-c", show)...)...)
		if want := fmt.Sprintf("1.0 %d %d none", user, user); r.code != 0 || r.stdout != want {
			t.Fatalf("%s start: exit code %d, %q, want %q\n%s", start, r.code, r.stdout, want, r.stderr)
		}
		expectSays(t, r, []string{"copy", "files", "MB"})
		if told := strings.Contains(r.stderr, "sysctl -w user.max_user_namespaces="); told != (start == "first") {
			t.Errorf("%s start: said\n%s", start, r.stderr)
		}
	}
	p.setenv("SITEFS_MOUNT", "namespace")
	r := p.run(append(forbidden, inEnv("true")...)...)
	if r.code != 125 {
		t.Errorf("the forced namespace: exit code %d, want 125", r.code)
	}
	expectSays(t, r, []string{"max_user_namespaces is 0", "sysctl -w user.max_user_namespaces="})
}

// list prints all files of the environment, with the prefix left out of them.
const list = `
import hashlib, os, stat, sys
prefix = sys.prefix
for folder, dirs, files in os.walk(prefix):
    dirs.sort()
    for name in sorted({*dirs, *files} - {".sitefs-venv"}): # which says of a copy that it is one
        path = os.path.join(folder, name)
        s = os.lstat(path)
        if stat.S_ISLNK(s.st_mode):
            content = os.readlink(path).encode()
        elif stat.S_ISDIR(s.st_mode):
            content = b""
        else:
            with open(path, "rb") as f:
                content = f.read()
        content = content.replace(prefix.encode(), b"PREFIX")
        time = 0 if stat.S_ISLNK(s.st_mode) else int(s.st_mtime)
        print(os.path.relpath(path, prefix), oct(s.st_mode), time, hashlib.sha256(content).hexdigest())
`

func TestCopyEqualsMount(t *testing.T) {
	p := newPerson(t, root)
	p.setenv("SITEFS_MOUNT", "direct")
	mounted := p.output(inEnv("python", "-c", list)...)
	p.setenv("SITEFS_MOUNT", "copy")
	copied := p.output(inEnv("python", "-c", list)...)
	if mounted != copied {
		t.Errorf("the mount has\n%s\nthe copy\n%s", mounted, copied)
	}
}

// Of several who make the same copy at the same time all get a whole one.
func TestCopiesAtOnce(t *testing.T) {
	p := newPerson(t, user)
	p.setenv("SITEFS_MOUNT", "copy")
	var wg sync.WaitGroup
	for range 4 {
		cmd := p.command(inEnv("python", "-c", "import alpha; print(alpha.version)")...)
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "1.0\n") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
}

// A copy that is there serves from a store that can't be written to any more.
func TestCopyReadOnly(t *testing.T) {
	p := newPerson(t, user)
	p.setenv("SITEFS_MOUNT", "copy")
	version := inEnv("python", "-c", "import alpha; print(alpha.version)")
	p.output(version...)
	p.output("sh", "-c", `cd "$SITEFS_STORE" && chmod a-w . copies`)
	if out := p.output(version...); out != "1.0" {
		t.Errorf("from the copy: %q", out)
	}
}
