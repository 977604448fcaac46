package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/progress"
	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/store"
)

// talk is how much a verb says on standard error.
type talk struct {
	quiet   bool
	verbose bool
}

func (t *talk) register(c *cobra.Command) {
	c.Flags().BoolVarP(&t.quiet, "quiet", "q", false, "print nothing but errors")
	c.Flags().BoolVarP(&t.verbose, "verbose", "v", false, "say what is chosen and why")
}

// environment is what the verbs that need one have in common.
type environment struct {
	talk
	request session.Request
	offline bool
	refresh bool
	compile bool
}

func (e *environment) register(c *cobra.Command) {
	e.talk.register(c)
	f, r := c.Flags(), &e.request
	f.StringArrayVarP(&r.Locks, "requirements", "r", nil, "lock `FILE` (pylock.toml)")
	f.StringArrayVar(&r.With, "with", nil, "a requirement, a wheel or a folder of wheels (`REQ`)")
	registerPython(c, &r.Python)
	f.StringSliceVar(&r.Select.Extras, "extra", nil, "with this `EXTRA` of the locked project")
	f.BoolVar(&r.Select.AllExtras, "all-extras", false, "with all extras")
	f.StringSliceVar(&r.Select.Groups, "group", nil, "with this dependency `GROUP`")
	f.StringSliceVar(&r.Select.NoGroups, "no-group", nil, "without this dependency `GROUP`")
	f.BoolVar(&r.Select.AllGroups, "all-groups", false, "with all dependency groups")
	f.BoolVar(&r.Select.NoDefaultGroups, "no-default-groups", false, "without the groups that the lock file has by default")
	f.BoolVar(&r.Seed, "seed", false, "with pip, the one that the interpreter brings along")
	f.BoolVar(&r.SystemSitePackages, "system-site-packages", false, "the interpreter's own packages are seen too")
	f.BoolVar(&r.Relocatable, "relocatable", false, "scripts find their interpreter beside themselves")
	f.BoolVar(&r.Strict, "strict", false, "two packages that differ in a file are an error")
	registerLeniency(c, &r.Leniency)
	f.BoolVar(&e.offline, "offline", false, "use what is here, ask no network")
	f.BoolVar(&e.refresh, "refresh", false, "ask the resolver again")
	registerCompile(c, &e.compile)
}

func registerCompile(c *cobra.Command, compile *bool) {
	c.Flags().BoolVar(compile, "compile", false, "compile all modules now; else each is compiled when it is first imported")
}

// make opens a session and returns the environment that the flags name.
func (e *environment) make(c *cobra.Command) (*session.Session, *session.Environment, error) {
	s, err := e.open(c)
	if err != nil {
		return nil, nil, err
	}
	env, err := e.makeIn(c.Context(), s)
	return s, env, err
}

// makeIn returns the environment that the flags name.
func (e *environment) makeIn(ctx context.Context, s *session.Session) (*session.Environment, error) {
	env, err := s.Environment(ctx, e.request)
	if err == nil && e.compile {
		err = s.Compile(ctx, env)
	}
	return env, err
}

func registerPython(c *cobra.Command, python *string) {
	c.Flags().StringVarP(python, "python", "p", os.Getenv("SITEFS_PYTHON"), "the interpreter: a `PATH`, 3.12, 3.13t, pypy3.10, '>=3.11'")
}

func registerLeniency(c *cobra.Command, l *session.Leniency) {
	c.Flags().BoolVar(&l.AllowBadRecord, "allow-bad-record", false, "take wheels whose RECORD is wrong, with a warning")
	c.Flags().Int64Var(&l.UnpackLimit, "unpack-limit", 0, "take wheels that unpack to so many `BYTES`, however well they are packed")
}

// open returns a session for the flags.
func (e *environment) open(c *cobra.Command) (*session.Session, error) {
	if e.offline && e.refresh {
		return nil, usageError{errors.New("--refresh asks the network, --offline forbids it: give one of them")}
	}
	// Lines go through the display, which keeps them clear of its bars.
	display := progress.New(c.ErrOrStderr(), e.quiet)
	warn := func(text string) {
		if !e.quiet {
			fmt.Fprintf(display, "sitefs: warning: %s\n", text)
		}
	}
	st, err := openStore(warn)
	if err != nil {
		return nil, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("the working directory is not there any more (%w): change to another one", err)
	}
	return &session.Session{
		Store:    st,
		Dir:      dir,
		Version:  version(),
		Offline:  e.offline,
		Refresh:  e.refresh,
		Progress: display,
		Warn:     warn,
		Note: func(text string) {
			if e.verbose {
				fmt.Fprintf(display, "sitefs: %s\n", text)
			}
		},
	}, nil
}

func openStore(warn func(text string)) (*store.Store, error) {
	dir, err := store.DefaultDir()
	if err != nil {
		return nil, err
	}
	return store.Open(dir, store.Options{Warn: warn})
}

// defaultKeep is how long a mount stays warm behind its last use.
const defaultKeep = 5 * time.Minute

func registerKeep(c *cobra.Command, keep *time.Duration) {
	c.Flags().DurationVar(keep, "keep", defaultKeep, "how `LONG` the mount stays warm after its last use, 0 = gone at once (SITEFS_KEEP)")
}

// keepFromEnv applies SITEFS_KEEP where the flag isn't given, and reports whether one
// of the two is.
func keepFromEnv(c *cobra.Command, keep *time.Duration) (named bool, err error) {
	value := os.Getenv("SITEFS_KEEP")
	if value == "" || c.Flags().Changed("keep") {
		return c.Flags().Changed("keep"), nil
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return false, usageError{fmt.Errorf("SITEFS_KEEP is %q, want a duration such as 10m", value)}
	}
	*keep = d
	return true, nil
}

// defaultVenv is the environment of a verb that none is named for.
const defaultVenv = ".venv"

// oneVenv returns the environment that args name, the default one if none.
func oneVenv(args []string) (string, error) {
	if len(args) == 0 {
		return venvPath(defaultVenv)
	}
	return venvPath(args[0])
}

// venvPaths returns the absolute paths of the environments that a command line
// names, of .venv where it names none.
func venvPaths(args []string) ([]string, error) {
	if len(args) == 0 {
		args = []string{defaultVenv}
	}
	dirs := make([]string, len(args))
	for i, arg := range args {
		dir, err := venvPath(arg)
		if err != nil {
			return nil, err
		}
		dirs[i] = dir
	}
	return dirs, nil
}

// venvPath returns the absolute path of an environment.
func venvPath(dir string) (string, error) {
	if strings.TrimSpace(dir) == "" {
		return "", usageError{fmt.Errorf("%q names no environment", dir)}
	}
	return filepath.Abs(dir)
}

// atMost is cobra.MaximumNArgs with a usage error that names the surplus.
func atMost(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usageError{fmt.Errorf("%q is one argument too many", args[n])}
		}
		return nil
	}
}
