package session

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// Shell returns the command line of an interactive shell in the environment at
// prefix, and the variables it starts from. The user's own start-up files run
// first and the environment is activated after them: they like to put other
// Pythons first on PATH.
func Shell(prefix string, environ []string) (argv, env []string, err error) {
	shell := variable(environ, "SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	activate := filepath.Join(prefix, "bin", "activate")
	switch filepath.Base(shell) {
	case "bash":
		rc, err := bashStartup(activate)
		return []string{shell, "--rcfile", rc, "-i"}, environ, err
	case "zsh":
		env, err := zshStartup(environ, activate)
		return []string{shell, "-i"}, env, err
	case "fish":
		return []string{shell, "-i", "-C", "source " + quote(activate+".fish")}, environ, nil
	case "csh", "tcsh":
		// It has no way to name a start-up file: the variables must do.
		return []string{shell, "-i"}, environ, nil
	default:
		// POSIX: an interactive sh reads the file that ENV names.
		return []string{shell, "-i"}, override(environ, map[string]string{"ENV": activate}), nil
	}
}

// bashStartup returns the path of a start-up file that bash reads from a pipe,
// so that none is left behind.
func bashStartup(activate string) (string, error) {
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil { // not close-on-exec: bash inherits it
		return "", os.NewSyscallError("pipe", err)
	}
	text := fmt.Sprintf("[ -f ~/.bashrc ] && . ~/.bashrc\n. %s\nexec %d<&-\n", quote(activate), p[0])
	if _, err := syscall.Write(p[1], []byte(text)); err != nil {
		return "", os.NewSyscallError("write", err)
	}
	return fmt.Sprintf("/dev/fd/%d", p[0]), syscall.Close(p[1])
}

// zshFiles stand in for the user's: zsh looks for its start-up files in ZDOTDIR
// and has no option that names another. They are the same for every environment.
var zshFiles = map[string]string{
	// The user's own may set ZDOTDIR: it counts for the user's files and not for these.
	".zshenv": `SITEFS_ZSH=$ZDOTDIR
ZDOTDIR=$SITEFS_ZDOTDIR
[ -f "$ZDOTDIR/.zshenv" ] && . "$ZDOTDIR/.zshenv"
SITEFS_ZDOTDIR=${ZDOTDIR:-$HOME}
ZDOTDIR=$SITEFS_ZSH
unset SITEFS_ZSH
`,
	".zshrc": `ZDOTDIR=$SITEFS_ZDOTDIR
[ -f "$ZDOTDIR/.zshrc" ] && . "$ZDOTDIR/.zshrc"
. "$SITEFS_ACTIVATE"
unset SITEFS_ZDOTDIR SITEFS_ACTIVATE
`,
}

func zshStartup(environ []string, activate string) ([]string, error) {
	state, err := mount.StateHome()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(state, "zsh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for name, text := range zshFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	user := variable(environ, "ZDOTDIR")
	if user == "" {
		user = variable(environ, "HOME")
	}
	return override(environ, map[string]string{
		"ZDOTDIR":         dir,
		"SITEFS_ZDOTDIR":  user,
		"SITEFS_ACTIVATE": activate,
	}), nil
}

// quote returns s as one word of sh and, where s has no backslash, of fish.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
