// Package script runs the command line as its users do: one script a story, in
// testdata/script, named VERB_TOPIC.txt and opening with what it proves.
//
// The scripts are those of testscript, with the commands below. Each has a home
// and a store of its own ($WORK), and fails if it leaves a mount, a server or a
// state folder behind.
package script

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
	"github.com/sitefs/sitefs/manifest/digest"
)

// bin holds the program and the resolver, python is the interpreter to use.
var bin, python string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, &python) }

func TestScripts(t *testing.T) {
	sandbox.NeedSitefs(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Setup:               setup,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":  await,
			"exits":  exits,
			"expand": expand,
			"gone":   gone,
			"hash":   hash,
			"index":  index,
			"pylock": pylock,
			"site":   site,
			"wheel":  wheel,
		},
	})
}

// setup gives a script its home, and takes the mounts away at the end.
func setup(env *testscript.Env) error {
	env.Vars = append(env.Vars, sandbox.Environ(env.WorkDir, bin, python)...)
	env.Vars = append(env.Vars, "BIN="+bin, "PYTHON="+python)
	env.Values[indexKey{}] = new(*wheelhouse.Server)
	program := filepath.Join(bin, "sitefs")
	environ := sandbox.Environ(env.WorkDir, bin, python)
	env.Defer(func() {
		cmd := exec.Command(program, "umount", "--all", "--detach")
		cmd.Env = environ
		if out, err := cmd.CombinedOutput(); err != nil {
			env.T().Log(fmt.Sprintf("umount --all: %v\n%s", err, out))
			env.T().FailNow()
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := sandbox.Await(ctx, func() string { return sandbox.Leaks(env.WorkDir) }); err != nil {
			env.T().Log(err)
			env.T().FailNow()
		}
	})
	return nil
}

// patience is how long a script waits for what takes milliseconds.
const patience = 20 * time.Second

// exits CODE PROGRAM ARG… runs a program and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got, err = exit.ExitCode(), nil
	}
	ts.Check(err)
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// await PATTERN PROGRAM ARG… runs a program until its output matches: what a
// process that ended held is given back a moment later.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await PATTERN PROGRAM ARG…")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ts.Check(sandbox.Await(ctx, func() string {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if out := ts.ReadFile("stdout"); !pattern.MatchString(out) {
			return out
		}
		return ""
	}))
}

// wheel [-console=NAME=MODULE:FUNC] [-requires=REQ] [-extra=NAME] [-python=SPEC] [-tag=TAG] [-file=PATH=TEXT] DIR NAME VERSION
// makes a wheel. It holds a module NAME with its version and a function main
// that prints it.
func wheel(ts *testscript.TestScript, neg bool, args []string) {
	s := wheelhouse.Spec{Files: map[string]string{}, Console: map[string]string{}}
	f := flag.NewFlagSet("wheel", flag.ContinueOnError)
	f.Func("console", "", into(s.Console))
	f.Func("file", "", into(s.Files))
	f.Func("requires", "", appendTo(&s.Requires))
	f.Func("extra", "", appendTo(&s.Extras))
	f.StringVar(&s.RequiresPython, "python", "", "")
	f.StringVar(&s.Tag, "tag", "", "")
	ts.Check(f.Parse(args))
	if neg || f.NArg() != 3 {
		ts.Fatalf("usage: wheel [FLAG…] DIR NAME VERSION")
	}
	dir := ts.MkAbs(f.Arg(0))
	s.Name, s.Version = f.Arg(1), f.Arg(2)
	s.Files[s.Name+".py"] = fmt.Sprintf("version = %q\ndef main():\n    print(%q)\n", s.Version, s.Name+" "+s.Version)
	ts.Check(os.MkdirAll(dir, 0o777))
	_, err := wheelhouse.Write(dir, s)
	ts.Check(err)
}

func into(m map[string]string) func(string) error {
	return func(arg string) error {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q: want NAME=VALUE", arg)
		}
		m[name] = value
		return nil
	}
}

func appendTo(list *[]string) func(string) error {
	return func(arg string) error {
		*list = append(*list, arg)
		return nil
	}
}

// pylock FILE DIR [NAME…] writes a lock file for the wheels of a folder, or
// those whose names begin so: by URL where index serves the folder, else by path.
func pylock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: pylock FILE DIR [NAME…]")
	}
	dir := ts.MkAbs(args[1])
	entries, err := os.ReadDir(dir)
	ts.Check(err)
	var wheels []wheelhouse.Wheel
	for _, e := range entries {
		if !named(e.Name(), args[2:]) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		ts.Check(err)
		wheels = append(wheels, wheelhouse.Wheel{Filename: e.Name(), Digest: digest.Of(data), Size: int64(len(data))})
	}
	var lock []byte
	if url := ts.Getenv("INDEX"); url != "" {
		lock, err = wheelhouse.PylockURL(wheels, url)
	} else {
		lock, err = wheelhouse.PylockPath(wheels, dir)
	}
	ts.Check(err)
	file := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o777))
	ts.Check(os.WriteFile(file, lock, 0o666))
}

func named(file string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(file, p) {
			return true
		}
	}
	return len(prefixes) == 0
}

// indexKey is where a script's index is kept.
type indexKey struct{}

// index DIR serves the wheels of a folder as the index of the resolvers; $INDEX
// is its address. index stop ends it; the address stays.
func index(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: index DIR|stop")
	}
	server := ts.Value(indexKey{}).(**wheelhouse.Server)
	if args[0] == "stop" {
		ts.Check((*server).Close())
		return
	}
	s, err := wheelhouse.Serve(ts.MkAbs(args[0]))
	ts.Check(err)
	*server = s
	ts.Defer(func() { ts.Check(s.Close()) })
	ts.Setenv("INDEX", s.URL)
	ts.Setenv("UV_DEFAULT_INDEX", s.SimpleURL())
	ts.Setenv("PIP_INDEX_URL", s.SimpleURL())
	ts.Setenv("UV_OFFLINE", "0")
	ts.Setenv("PIP_NO_INDEX", "0")
}

// site DIR sets $SITE to the site-packages of the environment in DIR, and $PY to the
// name of the folder that it is in.
func site(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: site DIR")
	}
	found, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "lib/python*/site-packages"))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%s has the site-packages %q, want one", args[0], found)
	}
	ts.Setenv("SITE", found[0])
	ts.Setenv("PY", filepath.Base(filepath.Dir(found[0])))
}

// hash VAR FILE sets a variable to the SHA-256 of a file.
func hash(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hash VAR FILE")
	}
	data, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Setenv(args[0], digest.Of(data).String())
}

// expand FILE… replaces the variables in files.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: expand FILE…")
	}
	for _, name := range args {
		file := ts.MkAbs(name)
		data, err := os.ReadFile(file)
		ts.Check(err)
		ts.Check(os.WriteFile(file, []byte(os.Expand(string(data), ts.Getenv)), 0o666))
	}
}

// gone [DIR] waits until nothing is mounted beneath a directory, $WORK if none is
// given, and what sitefs keeps for it is away.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: gone [DIR]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	problem := func() string { return sandbox.Leaks(ts.Getenv("WORK")) }
	if len(args) == 1 {
		problem = func() string {
			mounts, err := sandbox.Mounts(ts.MkAbs(args[0]))
			if err != nil || len(mounts) > 0 {
				return fmt.Sprintf("mounted: %q, %v", mounts, err)
			}
			return ""
		}
	}
	ts.Check(sandbox.Await(ctx, problem))
}
